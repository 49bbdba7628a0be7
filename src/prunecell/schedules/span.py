"""Span: a stretch of time in epochs, steps or samples, which schedules have in common."""

import math
from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from prunecell.checks import check_number
from prunecell.errors import OptionError
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
        """See `Foreseen`."""
        return float(self.sparsity)

    @property
    def length(self) -> float:
        """In its unit."""
        return next(float(length) for length in (self.epochs, self.steps, self.samples) if length is not None)

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
        unit = "epochs" if self.epochs is not None else "samples" if self.steps is None else "steps"
        return of_all(self._now(clock), self.end, unit)

    def passed(self, clock: Clock) -> float:
        """The time since `begin`, >= 0, in the unit of the length."""
        return max(self._now(clock) - self.begin, 0.0)

    def _now(self, clock: Clock) -> float:
        if self.epochs is not None:
            return clock.samples / clock.samples_per_epoch
        return float(clock.samples if self.steps is None else clock.steps)


def of_all(now: float, end: float, unit: str) -> str:
    """How much of a time is over, in words; what is not over yet is never rounded up to all.

    >>> of_all(2.0, 10, "epochs"), of_all(9.999, 10.5, "epochs"), of_all(1200, 50_000, "steps")
    ('2 of 10 epochs', '9.99 of 10.5 epochs', '1,200 of 50,000 steps')
    """
    return f"{_in_words(min(now, end))} of {_in_words(end)} {unit}"


def _in_words(number: float) -> str:
    """With two digits after the point at most, the rest cut off."""
    return f"{math.floor(round(number * 100, _DIGITS)) / 100:,.2f}".rstrip("0").rstrip(".")


def n_whole(number: float) -> int:
    """How many whole ones are in a number >= 0, as if it were not rounded: 29 / 100 * 100 has 29.

    >>> int(29 / 100 * 100), n_whole(29 / 100 * 100)
    (28, 29)
    """
    return int(round(min(number, _MANY), _DIGITS))


def n_begun(number: float) -> int:
    """How many ones, whole or not, are in a number >= 0, as if it were not rounded."""
    return math.ceil(round(min(number, _MANY), _DIGITS))
