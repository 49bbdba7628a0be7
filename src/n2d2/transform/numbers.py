"""Checks of a number, or one per channel."""

import math
from numbers import Real

from n2d2.error_handler import WrongInputType, WrongValue


def check_numbers(name: str, value: object) -> None:
    """Refuse, by name, what is neither a finite number nor a list of them."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(one, Real) or isinstance(one, bool) or not math.isfinite(one):
            kind = WrongValue if isinstance(one, float) else WrongInputType
            raise kind(f"{name}={value!r} is illegal: it must be a number, or a list with one per channel")


def check_values(name: str, value: object) -> None:
    """Refuse, by name, what is neither numbers nor a callable that returns them when they are first needed."""
    if isinstance(value, type) or not callable(value):
        check_numbers(name, value)
    if value in ((), []):
        raise WrongValue(f"{name}={value!r} is illegal: it must be a number, or a list with one per channel")
