"""The exceptions of prunecell. Each of ours is also the builtin that it specialises.

PrunecellError
├── OptionError      (ValueError)   an argument or setting has an illegal value
│   └── UnknownNameError            a name that is in no table: the nearest one is offered
├── OptionTypeError  (TypeError)    an argument has the wrong type
├── PlanError        (ValueError)   a plan does not fit the model
├── StateError       (ValueError)   a state_dict does not fit the pruner
├── FormatError      (ValueError)   a file is damaged, hostile, or not ours
├── DataError        (RuntimeError) a data set cannot be had
└── DivergedError    (ArithmeticError) training came to nothing

NothingSparseWarning (UserWarning)  compact_ made no layer sparse
UnfinishedWarning    (UserWarning)  a Pruner, Quantizer or Sharing let go of a model before it was done, or undone
"""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any


class PrunecellError(Exception):
    """The root of all exceptions that prunecell raises on purpose."""


class OptionError(PrunecellError, ValueError):
    """An argument or setting has an illegal value; the message names it and says what is legal."""


class UnknownNameError(OptionError):
    """A name that is in no table; the message lists the legal ones and offers the nearest."""


class OptionTypeError(PrunecellError, TypeError):
    """An argument has the wrong type."""


class PlanError(PrunecellError, ValueError):
    """A plan does not fit the model: a pattern matches nothing, or what it matches cannot be pruned."""


class StateError(PrunecellError, ValueError):
    """A state_dict does not fit the pruner or the model that it is loaded into."""


class FormatError(PrunecellError, ValueError):
    """A file is damaged, hostile, of an unknown version, or not ours; nothing was handed out."""


class DataError(PrunecellError, RuntimeError):
    """A data set cannot be had; the message says what to do."""


class DivergedError(PrunecellError, ArithmeticError):
    """Training came to nothing: the loss is not a number any more."""


class NothingSparseWarning(UserWarning):
    """`compact_` found no layer that had better be sparse; the message says why."""


class UnfinishedWarning(UserWarning):
    """A Pruner, Quantizer or Sharing let go of a model before it was done, or undone; the message says what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what is legal instead of `name`, the nearest match first; nothing where nothing is.

    >>> nearest("magnitud", ["random", "magnitude"])
    "; did you mean 'magnitude'? Legal: magnitude, random"
    """
    names = sorted(map(str, known))
    if not names:
        return ""
    close = get_close_matches(str(name), names, n=1) or get_close_matches(
        str(name).lower(), [n.lower() for n in names], n=1
    )
    hint = next((f" did you mean {n!r}?" for n in names if close and n.lower() == close[0].lower()), "")
    return f";{hint} {'Legal' if hint else 'legal'}: {', '.join(names)}"


def some(names: Iterable[object], n: int = 5, *, between: str = ", ") -> str:
    """The first `n` names, and how many more there are; never "and 1 more", which would take that one's place.

    >>> some(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    listed = [str(name) for name in names]
    if len(listed) <= n + 1:
        return between.join(listed)
    return f"{between.join(listed[:n])} and {len(listed) - n:,} more"


def quoted(value: object, width: int = 80) -> str:
    """A value of any kind and length, from anywhere, as a message shows it: its repr, its middle cut out if it is long.

    Of arrays only shape and dtype are shown, of lists that are long or have arrays in them only the length.

    >>> quoted("fc.weight"), len(quoted("x" * 1000)), quoted(list(range(1000)))
    ("'fc.weight'", 83, '<list of 1,000>')
    """
    if (brief := _brief(value)) is not None:
        return brief
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):  # a number of too many digits, lists in lists in lists
        return typed(value)
    return text if len(text) <= width else f"{text[: width // 2]}...{text[-width // 2 :]}"


_MOST_ITEMS = 20
"""Of a list whose items are shown."""
_DEEPEST = 3
"""Lists in lists that are looked through for arrays."""


def _brief(value: object, depth: int = 0) -> str | None:
    """What an array is, or a collection that is too much to be shown; None of anything else."""
    if shape := _shape_of(value):
        return f"<{type(value).__name__} of shape {shape}, {value.dtype}>"  # type: ignore[attr-defined] # arrays have one
    if isinstance(value, list | tuple | set | frozenset | dict) and depth <= _DEEPEST:
        items = islice(value.values() if isinstance(value, dict) else value, _MOST_ITEMS)
        if len(value) > _MOST_ITEMS or any(_brief(item, depth + 1) for item in items):
            return f"<{type(value).__name__} of {len(value):,}>"
    return None


def _shape_of(value: object) -> tuple[int, ...]:
    """The shape of a tensor, or of another library's array; () of what is one number, or none of them.

    No library of arrays is known here, because the command line starts with this file.
    """
    if isinstance(value, type) or not hasattr(type(value), "dtype"):
        return ()
    try:
        return tuple(value.shape)  # type: ignore[attr-defined] # it is asked
    except (AttributeError, TypeError, RuntimeError):  # a parameter that is not initialized has none
        return ()


def typed(value: object) -> str:
    """What a value is, in a sentence.

    >>> typed(3), typed([])
    ('an int', 'a list')
    """
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


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


def percent(number: float) -> str:
    """Say what a number is as a fraction, where it looks like a percentage; else nothing.

    >>> percent(90)
    '; 90 % is 0.9'
    """
    return f"; {number:g} % is {number / 100:g}" if 2 <= number <= 100 else ""  # noqa: PLR2004 - 1.5 is no percentage


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
    if value < low or (high is not None and value > high):
        raise OptionError(f"{name}={quoted(value)} is illegal: {legal}")


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
