"""Span: what schedules with a length have in common."""

import math
from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from prunecell.checks import check_number
from prunecell.schedules.clock import Clock
from prunecell.schedules.length import DIGITS, Length

_MANY = 1e18
"""What a quotient by a tiny length counts at most: it may be infinite."""


@dataclass(frozen=True, kw_only=True)
class Span(ABC):
    """What every schedule with a length has. Give the length in exactly one of epochs, steps and samples.

    Args:
        sparsity: the last sparsity, in [0, 1].
        epochs, steps, samples: > 0, the length.
        begin: >= 0, when it begins, in the same unit.
    """

    sparsity: float
    epochs: float | None = None
    steps: int | None = None
    samples: int | None = None
    begin: float = 0
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, low=0, high=1)
        check_number("begin", self.begin, low=0)
        _ = self.time

    @property
    def counts_epochs(self) -> bool:
        """See `Timed`: the length is in epochs."""
        return self.epochs is not None

    @property
    def last(self) -> float:
        """See `Foreseen`."""
        return float(self.sparsity)

    @property
    def time(self) -> Length:
        """The length with its unit."""
        name = type(self).__name__
        example = f"{name}(sparsity={self.sparsity}, epochs=1)"
        return Length.of(name, example, epochs=self.epochs, steps=self.steps, samples=self.samples)

    @property
    def length(self) -> float:
        """In its unit."""
        return float(self.time.amount)

    @property
    def end(self) -> float:
        """When it is over, in the unit of the length."""
        return self.begin + self.length

    def so_far(self, clock: Clock) -> str:
        """See `SoFar`: the time that is over, of all.

        >>> from prunecell.schedules import Cubic
        >>> Cubic(sparsity=0.9, epochs=8, begin=2).so_far(Clock(samples=250, epoch_size=100))
        '2.5 of 10 epochs'
        """
        return self.time.so_far(clock, self.end)

    def passed(self, clock: Clock) -> float:
        """The time since `begin`, >= 0, in the unit of the length."""
        return max(self.time.now(clock) - self.begin, 0.0)


def n_whole(number: float) -> int:
    """How many whole ones are in a number >= 0, as if it were not rounded: 29 / 100 * 100 has 29.

    >>> int(29 / 100 * 100), n_whole(29 / 100 * 100)
    (28, 29)
    """
    return int(round(min(number, _MANY), DIGITS))


def n_begun(number: float) -> int:
    """How many ones, whole or not, are in a number >= 0, as if it were not rounded."""
    return math.ceil(round(min(number, _MANY), DIGITS))
