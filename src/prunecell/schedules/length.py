"""Length: a stretch of time in epochs, steps or samples, one of which was given."""

import math
from dataclasses import dataclass

from prunecell.checks import check_number
from prunecell.errors import OptionError
from prunecell.schedules.clock import Clock

DIGITS = 9
"""After the point, of a quotient: what falls short of a whole number by less is that number."""


@dataclass(frozen=True)
class Length:
    """So many epochs, steps or samples.

    Attributes:
        unit: "epochs", "steps" or "samples".
        amount: > 0.
    """

    unit: str
    amount: float

    @classmethod
    def of(cls, what: str, example: str, **given: float | None) -> "Length":
        """The length that was given.

        Args:
            what: it is given to.
            example: a right call.
            given: epochs, steps and samples; all but one are None.

        Raises:
            OptionError: there is none, or more than one, or it is no number > 0.
        """
        amounts = {unit: amount for unit, amount in given.items() if amount is not None}
        if len(amounts) != 1:
            raise OptionError(
                f"give exactly one of {', '.join(given)} to {what}, not {', '.join(amounts) or 'none'}: for example"
                f" {example}"
            )
        ((unit, amount),) = amounts.items()
        check_number(unit, amount, low=0, open_low=True)
        return cls(unit, amount)

    def now(self, clock: Clock) -> float:
        """The time since the beginning, in this unit."""
        if self.unit == "epochs":
            return clock.samples / clock.samples_per_epoch
        return float(clock.steps if self.unit == "steps" else clock.samples)

    def so_far(self, clock: Clock, end: float | None = None) -> str:
        """How much of it, or of the time until `end`, is over, in words; what is not over is never rounded up to all.

        >>> Length("steps", 50_000).so_far(Clock(steps=1200)), Length("samples", 8).so_far(Clock(samples=3), 10.5)
        ('1,200 of 50,000 steps', '3 of 10.5 samples')
        """
        end = self.amount if end is None else end
        return f"{_in_words(min(self.now(clock), end))} of {_in_words(end)} {self.unit}"


def _in_words(number: float) -> str:
    """With two digits after the point at most, the rest cut off.

    >>> _in_words(9.999)
    '9.99'
    """
    return f"{math.floor(round(number * 100, DIGITS)) / 100:,.2f}".rstrip("0").rstrip(".")
