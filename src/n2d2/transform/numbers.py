"""The check of numbers of one value or one per channel."""

import math
from numbers import Real

from n2d2.error_handler import WrongInputType, WrongValue


def check_numbers(name: str, value: object) -> None:
    """A number, one per channel, or a callable that returns the number when it is first needed."""
    for one in value if isinstance(value, list | tuple) and value else (value,):
        is_number = isinstance(one, Real) and not isinstance(one, bool) and math.isfinite(one)
        if not (is_number or (callable(one) and not isinstance(one, type))):
            kind = WrongValue if isinstance(one, float) else WrongInputType
            raise kind(f"{name}={value!r} is illegal: it must be a number, or a list with one per channel")
