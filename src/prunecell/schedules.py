"""Schedules: Clock -> sparsity. When weights are pruned. Time is counted in samples.

A schedule is any callable of that form. One that is constant has `constant = True`: its masks are filled once; one
that counts in epochs has `needs_epoch_size = True`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

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


@dataclass(frozen=True, kw_only=True)
class Static:
    """The whole sparsity from the beginning.

    Args:
        sparsity: in [0, 1].

    >>> Static(sparsity=0.9)(Clock())
    0.9
    """

    sparsity: float
    constant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)

    def __call__(self, clock: Clock) -> float:  # noqa: ARG002 - the form of a schedule
        """The sparsity at any time."""
        return float(self.sparsity)


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """N2D2's Gradual mode: begin at `start`, add `gamma` at each update, until `sparsity`.

    One update is due every `every_samples` samples, at most one a step. The sum is a float32's, as N2D2's is:
    0.1 + 0.1 + ... passes 0.70000005. With start > sparsity it stays at `start`.

    Args:
        sparsity: the last sparsity, in [0, 1].
        start: the first, in [0, 1].
        gamma: > 0, added at each update.
        every_samples: >= 1, samples between two updates; None: once per epoch.

    >>> schedule = Gradual(sparsity=0.3, start=0.1, gamma=0.1, every_samples=100)
    >>> [schedule(Clock(samples=s, steps=s // 50)) for s in (0, 50, 100, 200, 300)]
    [0.1, 0.1, 0.2, 0.3, 0.3]
    """

    sparsity: float
    start: float = 0.1
    gamma: float = 0.05
    every_samples: int | None = None

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)
        check_number("start", self.start, low=0, high=1)
        check_number("gamma", self.gamma, low=0, open_low=True)
        if self.every_samples is not None:
            check_count("every_samples", self.every_samples, low=1)

    @property
    def needs_epoch_size(self) -> bool:
        """Whether an update is due once per epoch."""
        return self.every_samples is None

    def n_updates(self, clock: Clock) -> int:
        """How many updates have been due until now, also those that came after the last sparsity was reached."""
        return min(clock.steps, clock.samples // (self.every_samples or clock.samples_per_epoch))

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        steps = _float32_steps(self.start, self.gamma, self.sparsity)
        return steps[min(self.n_updates(clock), len(steps) - 1)] if clock.samples else steps[0]


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

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)
        check_number("start", self.start, low=0, high=1)
        check_number("begin", self.begin, low=0)
        check_count("n_updates", self.n_updates, low=1)
        lengths = {"epochs": self.epochs, "steps": self.steps, "samples": self.samples}
        given = {unit: length for unit, length in lengths.items() if length is not None}
        if len(given) != 1:
            raise OptionError(f"give exactly one of epochs, steps, samples to Cubic, not {sorted(given) or 'none'}")
        for unit, length in given.items():
            check_number(unit, length, low=0, open_low=True)

    @property
    def needs_epoch_size(self) -> bool:
        """Whether the length is in epochs."""
        return self.epochs is not None

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        if self.epochs is not None:
            now, length = clock.samples / clock.samples_per_epoch, self.epochs
        elif self.steps is not None:
            now, length = float(clock.steps), float(self.steps)
        else:
            now, length = float(clock.samples), float(self.samples or 1)
        done = min(max((now - self.begin) / length, 0.0), 1.0)
        t = int(done * self.n_updates) / self.n_updates
        return self.sparsity + (self.start - self.sparsity) * (1 - t) ** 3


@lru_cache(maxsize=256)
def _float32_steps(start: float, gamma: float, sparsity: float) -> list[float]:
    """The values that Gradual passes: float32s, each written as the shortest decimal that rounds to it."""
    last, step = np.float32(sparsity), np.float32(gamma)
    values = [np.float32(start)]
    while values[-1] < last:
        following = min(np.float32(values[-1] + step), last)
        if following == values[-1]:
            raise OptionError(f"gamma={gamma!r} is illegal: too small to change {values[-1]} in float32")
        values.append(following)
    return [float(str(value)) for value in values]
