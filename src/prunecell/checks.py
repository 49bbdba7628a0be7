"""Checks of arguments: each refuses, by name, what is illegal, and says what is legal."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from prunecell.errors import OptionError, OptionTypeError, percent, quoted, typed


def check_number(name: str, value: object, *, low: float, high: float = math.inf, open_low: bool = False) -> None:
    """Refuse, by name, a value that is not a finite real number in [low, high] (or (low, high]).

    Raises:
        OptionTypeError: `value` is not a number (a bool is not one either).
        OptionError: it is NaN, infinite, or out of range.

    >>> check_number("sparsity", 1.5, low=0, high=1)
    Traceback (most recent call last):
    prunecell.errors.OptionError: sparsity=1.5 is illegal: it must be a number in [0, 1]
    """
    legal = _range(low, high, open_low=open_low)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionTypeError(f"{name}={quoted(value)} is illegal: it must be {legal}, not {typed(value)}")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
        raise OptionError(
            f"{name}={quoted(value)} is illegal: it must be {legal}{percent(number) if high == 1 else ''}"
        )


def _range(low: float, high: float, *, open_low: bool) -> str:
    """What a number in this range is called, without the ends that are none."""
    if high < math.inf:
        return f"a number <= {high}" if low == -math.inf else f"a number in {'(' if open_low else '['}{low}, {high}]"
    return "a finite number" if low == -math.inf else f"a finite number {'>' if open_low else '>='} {low}"


def check_count(name: str, value: object, *, low: int = 0, high: int | None = None) -> None:
    """Refuse, by name, a value that is not a whole number >= `low`, or in [low, high].

    Raises:
        OptionTypeError: `value` is not an integer.
        OptionError: it is out of range.

    >>> check_count("bits", 1, low=2, high=8)
    Traceback (most recent call last):
    prunecell.errors.OptionError: bits=1 is illegal: it must be a whole number in [2, 8]
    """
    legal = f"it must be a whole number {f'>= {low}' if high is None else f'in [{low}, {high}]'}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise OptionTypeError(f"{name}={quoted(value)} is illegal: {legal}, not {typed(value)}")
    if not low <= int(value) <= (math.inf if high is None else high):
        raise OptionError(f"{name}={quoted(value)} is illegal: {legal}")


LARGEST_SEED = 2**32 - 1
"""Of numpy's generators."""


def check_seed(value: object) -> None:
    """Refuse what is no seed: a whole number in [0, 2**32).

    Raises:
        OptionTypeError: it is not an integer.
        OptionError: it is out of range.

    >>> check_seed(1 << 32)
    Traceback (most recent call last):
    prunecell.errors.OptionError: seed=4294967296 is illegal: it must be a whole number in [0, 4294967295]
    """
    check_count("seed", value, high=LARGEST_SEED)


def check_texts(name: str, value: object) -> tuple[str, ...]:
    """Return the texts of a list; refuse, by name, one text, which Python would take letter by letter.

    Raises:
        OptionTypeError: it is a text, or nothing that can be gone through, or something in it is no text.

    >>> check_texts("names", "0.weight")
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: names='0.weight' is illegal: it must be a list of texts, as ['0.weight']
    """
    if isinstance(value, str):
        raise OptionTypeError(f"{name}={quoted(value)} is illegal: it must be a list of texts, as [{quoted(value)}]")
    if not isinstance(value, Iterable):
        raise OptionTypeError(f"{name}={quoted(value)} is illegal: it must be a list of texts")
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, str):
            raise OptionTypeError(f"{name} holds {quoted(text)}: it must be a list of texts")
    return texts


def check_path(name: str, value: object) -> Path:
    """Return the path; refuse, by name, what is none, and the empty text, which would be the current folder.

    Raises:
        OptionTypeError: it is neither text nor a Path.
        OptionError: it is empty.

    >>> check_path("path", "")
    Traceback (most recent call last):
    prunecell.errors.OptionError: path='' is illegal: it must be the name of a file or folder; the current folder is '.'
    """
    legal = "it must be the name of a file or folder"
    if not isinstance(value, str | PathLike):
        raise OptionTypeError(f"{name}={quoted(value)} is illegal: {legal}, not {typed(value)}")
    if value == "":
        raise OptionError(f"{name}='' is illegal: {legal}; the current folder is '.'")
    return Path(value)


def check_mapping(name: str, value: object, legal: str) -> None:
    """Refuse, by name, what is no mapping; `legal` says what it must be.

    Raises:
        OptionTypeError: it is none.
    """
    if not isinstance(value, Mapping):
        raise OptionTypeError(f"{name} is {typed(value)}: it must be {legal}")


def check_pair(batch: object) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch; refuse what is no pair.

    Raises:
        OptionTypeError: it is none.

    >>> check_pair(3)
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: a batch is an int: it must be a pair (inputs, targets)
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:  # noqa: PLR2004 - a pair
        parts = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise OptionTypeError(f"a batch is {typed(batch)}{parts}: it must be a pair (inputs, targets)")
    return batch[0], batch[1]
