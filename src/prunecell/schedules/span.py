"""Span: a stretch of time in epochs, steps or samples, which schedules have in common."""

import math
from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from prunecell.errors import OptionError, check_number
from prunecell.schedules.clock import Clock

_DIGITS = 9
"""After the point, of a number of spans: a quotient that falls short of a whole number by less is that number."""

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
        lengths = {"epochs": self.epochs, "steps": self.steps, "samples": self.samples}
        given = {unit: length for unit, length in lengths.items() if length is not None}
        if len(given) != 1:
            name = type(self).__name__
            raise OptionError(
                f"give exactly one of epochs, steps, samples to {name}, not {', '.join(given) or 'none'}: for example"
                f" {name}(sparsity={self.sparsity}, epochs=1)"
            )
        for unit, length in given.items():
            check_number(unit, length, low=0, open_low=True)

    @property
    def counts_epochs(self) -> bool:
        """See `Timed`: the length is in epochs."""
        return self.epochs is not None

    @property
    def last(self) -> float:
        """See `Ending`."""
        return float(self.sparsity)

    @property
    def length(self) -> float:
        """In its unit."""
        return next(float(length) for length in (self.epochs, self.steps, self.samples) if length is not None)

    def passed(self, clock: Clock) -> float:
        """The time since `begin`, >= 0, in the unit of the length."""
        if self.epochs is not None:
            now = clock.samples / clock.samples_per_epoch
        else:
            now = float(clock.samples if self.steps is None else clock.steps)
        return max(now - self.begin, 0.0)


def n_whole(number: float) -> int:
    """How many whole ones are in a number >= 0, as if it were not rounded: 29 / 100 * 100 has 29.

    >>> int(29 / 100 * 100), n_whole(29 / 100 * 100)
    (28, 29)
    """
    return int(round(min(number, _MANY), _DIGITS))


def n_begun(number: float) -> int:
    """How many ones, whole or not, are in a number >= 0, as if it were not rounded."""
    return math.ceil(round(min(number, _MANY), _DIGITS))
