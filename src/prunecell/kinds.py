"""Kinds of values in a state that was read from a file, and the check that each value is of its kind."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecell.errors import StateError, quoted, some, typed

_LARGEST = 1 << 53
"""Counts are below it, so that they stay exact as floats, and far from what overflows."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a value must be.

    Attributes:
        told: in words.
        fits: whether a value is.
    """

    told: str
    fits: Callable[[object], bool]


def _is_finite(value: Any) -> bool:  # noqa: ANN401 - any value
    return (type(value) is int and abs(value) < _LARGEST) or (type(value) is float and math.isfinite(value))


def _is_dense(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
    )


COUNT = Kind(told="a whole number in [0, 2^53)", fits=lambda v: type(v) is int and 0 <= v < _LARGEST)
POSITIVE = Kind(told="a whole number in [1, 2^53)", fits=lambda v: type(v) is int and 0 < v < _LARGEST)
NUMBER = Kind(told="a finite number", fits=_is_finite)
REAL = Kind(told="a number, NaN and inf too", fits=lambda v: type(v) is float or _is_finite(v))
SPAN = Kind(told="a finite number >= 0", fits=lambda v: _is_finite(v) and v >= 0)  # type: ignore[operator]
SHARE = Kind(told="a number in [0, 1]", fits=lambda v: _is_finite(v) and 0 <= v <= 1)  # type: ignore[operator]
FLAG = Kind(told="true or false", fits=lambda v: isinstance(v, bool))
TEXT = Kind(told="text", fits=lambda v: isinstance(v, str))
LIST = Kind(told="a list", fits=lambda v: isinstance(v, list))
MAPPING = Kind(told="a mapping", fits=lambda v: isinstance(v, Mapping))
TENSOR = Kind(told="a dense tensor with values", fits=_is_dense)


def optional(kind: Kind) -> Kind:
    """The kind, or None."""
    return Kind(told=f"{kind.told}, or None", fits=lambda value: value is None or kind.fits(value))


def check_version(state: object, version: int, what: str) -> None:
    """Refuse a state of another version before its fields are looked at, which are others.

    Raises:
        StateError: it is no mapping, or its field "version" is another number.
    """
    if not isinstance(state, Mapping):
        raise StateError(f"{what} is {typed(state)}: it must be a mapping")
    given = state.get("version")
    if type(given) is not int or given != version:
        raise StateError(f"version={quoted(given)} of {what} is unknown: it must be {version}")


def check_names(given: Iterable[object], wanted: Iterable[str], what: str) -> None:
    """Refuse a state that is of other parameters than what it is loaded into.

    Raises:
        StateError: there are names that only one of them has; the message lists both kinds.
    """
    here, there = dict.fromkeys(wanted), dict.fromkeys(given)
    lacks = [quoted(name) for name in here if name not in there]
    beside = [quoted(name) for name in there if name not in here]
    if lacks or beside:
        verb = "is" if len(beside) == 1 else "are"
        facts = [f"it lacks {some(lacks)}"] * bool(lacks)
        facts += [f"it has {some(beside)}, which {verb} not here"] * bool(beside)
        raise StateError(f"{what} is of other parameters: {', and '.join(facts)}")


def check_fields(state: object, kinds: Mapping[str, Kind], what: str) -> Mapping[str, Any]:
    """The state, if it has exactly these fields and each value is of its kind.

    Args:
        state: what was read.
        kinds: name of a field -> its kind.
        what: of what it is the state, for messages.

    Raises:
        StateError: it is not so; the message names the field and what is legal.

    >>> check_fields({"steps": -1}, {"steps": COUNT}, "the progress")
    Traceback (most recent call last):
    prunecell.errors.StateError: steps=-1 of the progress is illegal: it must be a whole number in [0, 2^53)
    """
    if not isinstance(state, Mapping):
        raise StateError(f"{what} is {typed(state)}: it must be a mapping")
    if missing := kinds.keys() - state.keys():
        raise StateError(f"{what} lacks {', '.join(sorted(missing))}")
    if unknown := state.keys() - kinds.keys():
        raise StateError(f"{what} has unknown fields: {some(sorted(map(quoted, unknown)))}")
    for name, kind in kinds.items():
        if not kind.fits(state[name]):
            raise StateError(f"{name}={quoted(state[name])} of {what} is illegal: it must be {kind.told}")
    return state
