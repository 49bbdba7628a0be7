"""Checks of arguments that many calls share: each refuses, by name, what is illegal, by N2D2's errors."""

from pathlib import Path

import numpy as np

from n2d2.error_handler import WrongInputType, n2d2_errors
from prunecell.checks import check_count
from prunecell.errors import quoted


def check_counts(**counts: object) -> None:
    """Refuse what is not a whole number >= 1."""
    with n2d2_errors():
        for name, value in counts.items():
            check_count(name, value, low=1)


def check_flag(name: str, value: object) -> None:
    """Refuse what is not a bool (or 0 or 1)."""
    if not isinstance(value, int | np.integer | np.bool_) or value not in (0, 1):
        raise WrongInputType(f"{name}={value!r} is illegal: it must be True or False")


def check_text(name: str, value: object) -> None:
    """Refuse what is not a string."""
    if not isinstance(value, str):
        raise WrongInputType(f"{name}={quoted(value)} is illegal: it must be a string, not a {type(value).__name__}")


def check_path(name: str, value: object) -> None:
    """Refuse what is no path."""
    if not isinstance(value, str | Path):
        raise WrongInputType(f"{name}={quoted(value)} is illegal: it must be a path, not a {type(value).__name__}")
