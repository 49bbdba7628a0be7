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

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice


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


def percent(number: float) -> str:
    """Say what a number is as a fraction, where it looks like a percentage; else nothing.

    >>> percent(90)
    '; 90 % is 0.9'
    """
    return f"; {number:g} % is {number / 100:g}" if 2 <= number <= 100 else ""  # noqa: PLR2004 - 1.5 is no percentage
