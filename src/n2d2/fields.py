"""Fields of dataclasses that are checked: each kind of parameter that N2D2's objects have."""

from collections.abc import Callable
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

from n2d2.checks import check_flag, check_path
from n2d2.error_handler import check_choice
from prunecell.checks import check_count, check_number, check_texts

Check = Callable[[str, object], object]


def checked_by(check: Check, *, default: Any) -> Any:  # noqa: ANN401 - a field of any type
    """A field whose values `check(name, value)` lets pass, or refuses by an error."""
    return field(default=default, metadata={"check": check})


def number(default: float, *, low: float = float("-inf"), high: float = float("inf"), open_low: bool = False) -> Any:  # noqa: ANN401
    """A field that holds a finite number in [low, high], or (low, high]."""
    return checked_by(partial(check_number, low=low, high=high, open_low=open_low), default=default)


def count(default: int, *, low: int = 0) -> Any:  # noqa: ANN401
    """A field that holds a whole number >= low."""
    return checked_by(partial(check_count, low=low), default=default)


def choice(*legal: str, default: str = "") -> Any:  # noqa: ANN401
    """A field that holds one of the legal strings; without a default, the first."""
    return checked_by(partial(check_choice, legal=dict.fromkeys(legal)), default=default or legal[0])


def flag(*, default: bool) -> Any:  # noqa: ANN401
    """A field that holds a bool (or 0 or 1)."""
    return checked_by(check_flag, default=default)


def texts() -> Any:  # noqa: ANN401
    """A field that holds a list of texts, or None for none; by default an empty one."""
    return checked_by(lambda name, value: None if value is None else check_texts(name, value), default=())


def location(*, default: str | Path | None = None) -> Any:  # noqa: ANN401
    """A field that holds a path, or None."""
    return checked_by(lambda name, value: None if value is None else check_path(name, value), default=default)


def accepted(*, default: Any = None) -> Any:  # noqa: ANN401
    """A field that holds anything: N2D2 has it, here it has no effect."""
    return field(default=default)
