"""Ramps: schedules that rise from one sparsity to another in many small updates."""

import math
from abc import abstractmethod
from dataclasses import dataclass

from prunecell.checks import check_count, check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError
from prunecell.schedules.clock import Clock
from prunecell.schedules.span import Span, n_whole


@dataclass(frozen=True, kw_only=True)
class Ramp(Span):
    """From `start` to `sparsity`, along a curve of t, which goes from 0 to 1 within the length.

    Args:
        start: the first sparsity, in [0, 1].
        n_updates: >= 1, how many times the sparsity changes on the way.
    """

    start: float = 0.0
    n_updates: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("start", self.start, low=0, high=1)
        check_count("n_updates", self.n_updates, low=1)

    @abstractmethod
    def curve(self, t: float) -> float:
        """The sparsity at t, 0 < t < 1."""

    def progress(self, clock: Clock) -> float:
        """See `Progressing`: t."""
        return min(self.passed(clock) / self.length, 1.0)

    def update(self, clock: Clock) -> int:
        """See `Timed`: how many of the `n_updates` steps of t were made."""
        return n_whole(self.progress(clock) * self.n_updates)

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        n = self.update(clock)
        if n in {0, self.n_updates}:
            return float(self.sparsity if n else self.start)
        return self.curve(n / self.n_updates)


@by_name("sparsity", "epochs", example="Cubic(sparsity=0.9, epochs=1)")
@dataclass(frozen=True, kw_only=True)
class Cubic(Ramp):
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

    def curve(self, t: float) -> float:
        """See the class."""
        return self.sparsity + (self.start - self.sparsity) * (1 - t) ** 3


@by_name("sparsity", "epochs", example="Exponential(sparsity=0.9, epochs=1)")
@dataclass(frozen=True, kw_only=True)
class Exponential(Ramp):
    """Each update prunes the same fraction of what is left: 1 - (1 - start)^(1 - t) (1 - s)^t, t from 0 to 1.

    The density falls exponentially, as in the rounds of `Iterative`, but in many small steps.

    Args:
        sparsity: the last sparsity s, in [0, 1).
        start: the first, in [0, 1].
        epochs, steps, samples: > 0, the length; give exactly one.
        begin: >= 0, when t leaves 0, in the same unit.
        n_updates: >= 1, how many times the sparsity changes on the way.

    >>> schedule = Exponential(sparsity=0.9375, steps=4, n_updates=4)
    >>> [schedule(Clock(steps=s)) for s in range(6)]
    [0.0, 0.5, 0.75, 0.875, 0.9375, 0.9375]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sparsity == 1:
            raise OptionError(
                f"sparsity={self.sparsity!r} is illegal: fractions of what is left never reach it; it must be a number"
                " below 1"
            )

    def curve(self, t: float) -> float:
        """See the class."""
        return 1 - math.pow(1 - self.start, 1 - t) * math.pow(1 - self.sparsity, t)


_ALPHA, _BETA = 14, 5
"""Of OneCycle, as its authors chose them."""


@by_name("sparsity", "epochs", example="OneCycle(sparsity=0.9, epochs=1)")
@dataclass(frozen=True, kw_only=True)
class OneCycle(Ramp):
    """Slowly, then fast, then slowly: for one short training from the first step to the last (Hubens 2021).

    The sparsity is start + (s - start) (1 + e^(5 - 14)) / (1 + e^(5 - 14 t)), for t above 0. Give the length of the
    whole training. Source: One-Cycle Pruning: Pruning ConvNets under a tight training budget,
    https://arxiv.org/abs/2107.02086, equation 3.

    Args:
        sparsity: the last sparsity s, in [0, 1].
        start: the first, in [0, 1].
        epochs, steps, samples: > 0, the length; give exactly one.
        begin: >= 0, when t leaves 0, in the same unit.
        n_updates: >= 1, how many times the sparsity changes on the way.

    >>> schedule = OneCycle(sparsity=0.8, steps=4, n_updates=4)
    >>> [round(schedule(Clock(steps=s)), 4) for s in range(6)]
    [0.0, 0.146, 0.7047, 0.7968, 0.8, 0.8]
    """

    def curve(self, t: float) -> float:
        """See the class."""
        return self.start + (self.sparsity - self.start) * (1 + math.exp(_BETA - _ALPHA)) / (
            1 + math.exp(_BETA - _ALPHA * t)
        )
