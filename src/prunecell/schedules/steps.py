"""Static, and N2D2's Gradual: all at once, or a fixed number more at each update."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import ClassVar

import numpy as np

from prunecell.checks import check_count, check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError
from prunecell.schedules.clock import Clock


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

    @property
    def last(self) -> float:
        """See `Foreseen`."""
        return float(self.sparsity)

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

    @property
    def last(self) -> float:
        """See `Foreseen`."""
        if self.float32:
            return _float32_steps(self.start, self.gamma, self.sparsity)[-1]
        return float(max(self.start, self.sparsity))

    def n_updates(self, clock: Clock) -> int:
        """How many updates have been due until now, also those that came after the last sparsity was reached."""
        return min(clock.steps, clock.samples // (self.every_samples or clock.samples_per_epoch))

    def update(self, clock: Clock) -> int:
        """See `Timed`: the updates that changed the sparsity."""
        return min(self.n_updates(clock), self._last) if clock.samples else 0

    def progress(self, clock: Clock) -> float:
        """See `Progressing`: of the updates that change the sparsity."""
        return self.update(clock) / max(self._last, 1)

    def so_far(self, clock: Clock) -> str:
        """See `SoFar`: the updates that were made, of all that change the sparsity."""
        return f"{self.update(clock):,} of {self._last:,} updates"

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
