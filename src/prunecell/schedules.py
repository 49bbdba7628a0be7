"""Schedules: when masks are filled, and to what sparsity. Time is counted in samples.

A schedule is any callable from `Clock` to a sparsity in [0, 1]; masks are filled again when it returns another. One
that is a `Timed` says itself when an update is due, which may be at a constant sparsity too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache, partial
from numbers import Real
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from prunecell.choices import by_name
from prunecell.errors import OptionError, check_count, check_number


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How far training has come.

    Attributes:
        samples: samples seen, >= 0.
        steps: optimizer steps made, >= 0.
        epoch_size: samples in one epoch, or None where nobody said.
    """

    samples: int = 0
    steps: int = 0
    epoch_size: int | None = None

    def advanced(self, n_samples: int) -> "Clock":
        """The clock one step and `n_samples` samples later."""
        return replace(self, samples=self.samples + n_samples, steps=self.steps + 1)

    @property
    def samples_per_epoch(self) -> int:
        """The epoch size; an OptionError where it is not known."""
        if self.epoch_size is None:
            raise OptionError(
                "epoch_size=None is illegal here: this schedule counts epochs; give Pruner(epoch_size=samples)"
            )
        return self.epoch_size


Schedule = Callable[[Clock], float]


@runtime_checkable
class Timed(Protocol):
    """A schedule that says when an update of the masks is due.

    Attributes:
        moves: whether there are updates after the first filling.
        counts_epochs: whether it reads `clock.samples_per_epoch`.
    """

    @property
    def moves(self) -> bool:
        """See the class."""
        ...

    @property
    def counts_epochs(self) -> bool:
        """See the class."""
        ...

    def update(self, clock: Clock) -> float:
        """A number that is another one from each update to the next: how many were due until now, say."""
        ...


def moves(schedule: Schedule) -> bool:
    """Whether masks are filled more than once; a plain function is believed to want it."""
    return schedule.moves if isinstance(schedule, Timed) else True


def counts_epochs(schedule: Schedule) -> bool:
    """Whether an epoch's size must be known from the beginning."""
    return schedule.counts_epochs if isinstance(schedule, Timed) else False


def sparsity_at(schedule: Schedule, clock: Clock) -> float:
    """What a schedule asks for at that time.

    Raises:
        OptionError: it returned something else than a number in [0, 1].
    """
    sparsity = schedule(clock)
    if not isinstance(sparsity, Real) or not 0 <= sparsity <= 1:
        raise OptionError(f"{schedule} returned the sparsity {sparsity!r}: it must be a number in [0, 1]")
    return float(sparsity)


def updates_of(schedule: Schedule) -> Callable[[Clock], float]:
    """From the clock to the number of the last update that was due; of a plain function, the sparsity it asks for."""
    return schedule.update if isinstance(schedule, Timed) else partial(sparsity_at, schedule)


@by_name("sparsity", example="Static(sparsity=0.9)")
@dataclass(frozen=True, kw_only=True)
class Static:
    """The whole sparsity from the beginning.

    Args:
        sparsity: in [0, 1].

    >>> Static(sparsity=0.9)(Clock())
    0.9
    """

    sparsity: float
    moves: ClassVar[bool] = False
    counts_epochs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)

    def __call__(self, clock: Clock) -> float:  # noqa: ARG002 - the form of a schedule
        """The sparsity at any time."""
        return float(self.sparsity)

    def update(self, clock: Clock) -> float:  # noqa: ARG002 - the form of a schedule
        """See `Timed`: there is only the first filling."""
        return 0


@by_name("sparsity", "start", "gamma", "every_samples", example="Gradual(sparsity=0.9)")
@dataclass(frozen=True, kw_only=True)
class Gradual:
    """N2D2's Gradual mode: begin at `start`, add `gamma` at each update, until `sparsity`.

    One update is due every `every_samples` samples, at most one a step. The sum is exact in decimals: 0.1 + 0.1 + 0.1
    is 0.3. With start > sparsity it stays at `start`.

    Args:
        sparsity: the last sparsity, in [0, 1].
        start: the first, in [0, 1].
        gamma: > 0, added at each update.
        every_samples: >= 1, samples between two updates; None: once per epoch.
        float32: add as N2D2 does: 0.1 + 0.1 + ... passes 0.70000005, which prunes one weight more than 0.7.

    Raises:
        OptionError: `gamma` is so small that adding it changes nothing; in float32 at the first call.

    >>> schedule = Gradual(sparsity=0.3, start=0.1, gamma=0.1, every_samples=100)
    >>> [schedule(Clock(samples=s, steps=s // 50)) for s in (0, 50, 100, 200, 300)]
    [0.1, 0.1, 0.2, 0.3, 0.3]
    """

    sparsity: float
    start: float = 0.1
    gamma: float = 0.05
    every_samples: int | None = None
    float32: bool = False
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)
        check_number("start", self.start, low=0, high=1)
        check_number("gamma", self.gamma, low=0, open_low=True)
        if self.every_samples is not None:
            check_count("every_samples", self.every_samples, low=1)
        if self.start < self.sparsity and float(_decimal(self.sparsity) - _decimal(self.gamma)) == self.sparsity:
            raise OptionError(f"gamma={self.gamma!r} is illegal: too small to change {self.sparsity}")

    @property
    def counts_epochs(self) -> bool:
        """See `Timed`: an update is due once per epoch."""
        return self.every_samples is None

    def n_updates(self, clock: Clock) -> int:
        """How many updates have been due until now, also those that came after the last sparsity was reached."""
        return min(clock.steps, clock.samples // (self.every_samples or clock.samples_per_epoch))

    def update(self, clock: Clock) -> int:
        """See `Timed`: the updates that changed the sparsity."""
        return min(self.n_updates(clock), self._last) if clock.samples else 0

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        n = self.update(clock)
        if self.float32:
            return _float32_steps(self.start, self.gamma, self.sparsity)[n]
        reached = _decimal(self.start) + n * _decimal(self.gamma)
        return float(min(reached, _decimal(max(self.start, self.sparsity))))

    @property
    def _last(self) -> int:
        """How many updates change the sparsity."""
        if self.float32:
            return len(_float32_steps(self.start, self.gamma, self.sparsity)) - 1
        steps = (_decimal(self.sparsity) - _decimal(self.start)) / _decimal(self.gamma)
        return max(int(steps.to_integral_value(ROUND_CEILING)), 0)


@by_name("sparsity", "epochs", example="Cubic(sparsity=0.9, epochs=1)")
@dataclass(frozen=True, kw_only=True)
class Cubic:
    """Fast at first, slowly at the end: s + (start - s) (1 - t)^3, t from 0 to 1 (Zhu & Gupta 2017).

    Source: To prune, or not to prune, https://arxiv.org/abs/1710.01878, equation 1. Give its length in exactly one of
    epochs, steps and samples.

    Args:
        sparsity: the last sparsity s, in [0, 1].
        start: the first, in [0, 1].
        epochs, steps, samples: > 0, the length.
        begin: >= 0, when t leaves 0, in the same unit.
        n_updates: >= 1, how many times the sparsity changes on the way.

    >>> schedule = Cubic(sparsity=0.8, steps=4, n_updates=4)
    >>> [round(schedule(Clock(steps=s)), 4) for s in range(6)]
    [0.0, 0.4625, 0.7, 0.7875, 0.8, 0.8]
    """

    sparsity: float
    start: float = 0.0
    epochs: float | None = None
    steps: int | None = None
    samples: int | None = None
    begin: float = 0
    n_updates: int = 100
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)
        check_number("start", self.start, low=0, high=1)
        check_number("begin", self.begin, low=0)
        check_count("n_updates", self.n_updates, low=1)
        lengths = {"epochs": self.epochs, "steps": self.steps, "samples": self.samples}
        given = {unit: length for unit, length in lengths.items() if length is not None}
        if len(given) != 1:
            raise OptionError(
                f"give exactly one of epochs, steps, samples to Cubic, not {', '.join(given) or 'none'}: for example"
                f" Cubic(sparsity={self.sparsity}, epochs=1)"
            )
        for unit, length in given.items():
            check_number(unit, length, low=0, open_low=True)

    @property
    def counts_epochs(self) -> bool:
        """See `Timed`: the length is in epochs."""
        return self.epochs is not None

    def update(self, clock: Clock) -> int:
        """See `Timed`: how many of the `n_updates` steps of t were made."""
        if self.epochs is not None:
            now, length = clock.samples / clock.samples_per_epoch, self.epochs
        elif self.steps is not None:
            now, length = float(clock.steps), float(self.steps)
        else:
            now, length = float(clock.samples), float(self.samples or 1)
        done = min(max((now - self.begin) / length, 0.0), 1.0)
        return int(done * self.n_updates)

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        t = self.update(clock) / self.n_updates
        return self.sparsity + (self.start - self.sparsity) * (1 - t) ** 3


def _decimal(number: float) -> Decimal:
    """The number that its author wrote."""
    return Decimal(repr(float(number)))


@lru_cache(maxsize=256)
def _float32_steps(start: float, gamma: float, sparsity: float) -> list[float]:
    """The values that Gradual passes in float32, each as the shortest decimal that rounds to it."""
    last, step = np.float32(sparsity), np.float32(gamma)
    values = [np.float32(start)]
    while values[-1] < last:
        following = min(np.float32(values[-1] + step), last)
        if following == values[-1]:
            raise OptionError(f"gamma={gamma!r} is illegal: too small to change {values[-1]} in float32")
        values.append(following)
    return [float(str(value)) for value in values]


SCHEDULES: dict[str, type[Schedule]] = {"Static": Static, "Gradual": Gradual, "Cubic": Cubic}
"""Name -> schedule; the laws of the tests run over all of them."""
