"""The one place where text becomes a value: a name is looked up in a literal table."""

from collections.abc import Mapping
from typing import TypeVar

from prunecell.errors import OptionTypeError, UnknownNameError, nearest

_T = TypeVar("_T")


def chosen(option: str, name: object, table: Mapping[str, _T]) -> _T:
    """Return what a name stands for.

    Args:
        option: what the user calls the choice; the message begins with it.
        name: what the user gave.
        table: name -> value.

    Raises:
        UnknownNameError: the table has no such name; the nearest one is offered.
        OptionTypeError: it is no text.

    >>> chosen("backend", "zlip", {"zlib": 1, "pcodec": 2})
    Traceback (most recent call last):
    prunecell.errors.UnknownNameError: backend='zlip' is illegal; did you mean 'zlib'? Legal: pcodec, zlib
    """
    if not isinstance(name, str):
        raise OptionTypeError(f"{option}={name!r} is illegal: it must be a name. Legal: {', '.join(sorted(table))}")
    if name not in table:
        raise UnknownNameError(f"{option}={name!r} is illegal{nearest(name, table)}")
    return table[name]
