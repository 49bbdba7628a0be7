"""The library's arguments as the options of a command: its messages name what the user has typed, or can type."""

import re
from collections.abc import Mapping

_VALUE = r"(?=[^\s,;:.)])"
_CALL = r"(\w\((?:[^()]|\([^()]*\))*\))"
"""Of Python, which has arguments and no options; in it one more is read."""


def as_options(message: str, options: Mapping[str, str]) -> str:
    """A message of the library in the words of a command; calls of Python in it stay as they are.

    Args:
        message: in which an argument stands as `name=value`, `name=`, or by its name, if that is no English word.
        options: argument -> option.

    >>> as_options("values='x' is illegal, give max_drop=0.3 or max_rise", {"max_drop": "--max-drop"})
    "values='x' is illegal, give --max-drop 0.3 or max_rise"
    """
    names = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    if not names:
        return message
    parts = re.split(_CALL, message)
    parts[::2] = [_translated(part, names, options) for part in parts[::2]]
    return "".join(parts)


def _translated(message: str, names: str, options: Mapping[str, str]) -> str:
    """What is outside of calls."""
    start = rf"(?<![\w./'\"=\[-])({names})"
    message = re.sub(start + "=" + _VALUE, lambda found: f"{options[found[1]]} ", message)
    message = re.sub(start + "=", lambda found: options[found[1]], message)
    return re.sub(start + r"\b(?!\.)", lambda found: options[found[1]] if "_" in found[1] else found[0], message)
