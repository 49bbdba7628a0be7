"""Patterns of names: the shell's (`*`, `?`, `[seq]`), or `re:` and a regular expression that fits the whole name."""

import re
from collections.abc import Callable
from fnmatch import translate

from prunecell.errors import PlanError

_EXPRESSION = "re:"


def is_pattern(key: str) -> bool:
    """Whether it is more than one name.

    >>> is_pattern("fc.weight"), is_pattern("fc.*"), is_pattern("re:fc")
    (False, True, True)
    """
    return key.startswith(_EXPRESSION) or any(c in key for c in "*?[")


def matcher(key: str, what: str) -> Callable[[str], bool]:
    """Whether a name is the key, or fits it if it is a pattern.

    Args:
        key: a name or a pattern.
        what: the key is, for the message.

    Raises:
        PlanError: it is no regular expression, though it begins with `re:`.

    >>> [*filter(matcher("layers.*", "key"), ["layers.0.weight", "head.weight"])]
    ['layers.0.weight']
    """
    if not is_pattern(key):
        return key.__eq__
    expression = key.removeprefix(_EXPRESSION) if key.startswith(_EXPRESSION) else translate(key)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise PlanError(f"{what} {key!r} is no regular expression: {error}") from None
    return lambda name: pattern.fullmatch(name) is not None
