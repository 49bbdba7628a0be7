"""A state_dict within a checkpoint: which entry it is, and what stands beside it and comes back at unpacking."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from prunecell.errors import FormatError, UnknownNameError, nearest, typed

METADATA = "torch_checkpoint"
"""The key of an archive's metadata that says where in the checkpoint its tensors stood, and what stood beside them."""

_USUAL = ("state_dict", "model_state_dict", "model")
_DEEPEST = 3  # levels of entries in which a state_dict is looked for
_MOST = 1 << 20  # bytes of JSON that one entry may take
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Nested:
    """What torch read from a checkpoint, taken apart.

    Attributes:
        state: the tensors.
        metadata: empty, or `METADATA` -> the way to the state_dict and the plain values around it.
        left_out: what neither holds, in words.
    """

    state: Mapping[str, Tensor]
    metadata: Mapping[str, object] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def taken_apart(found: object, path: Path, key: str | None) -> Nested:
    """Find the state_dict in what torch read, and keep what plain values stand around it.

    Args:
        found: what `torch.load` returned.
        path: for messages.
        key: which entry it is, `a.b` for one within another; None: all of `found`, a usual name, or the only one.

    Raises:
        FormatError: there is none, or there are several.
        UnknownNameError: no entry of this key holds one.
    """
    if not isinstance(found, Mapping):
        hint = ": save its state_dict()" if hasattr(found, "state_dict") else ""
        raise FormatError(f"{path}: it holds no state_dict but {typed(found)}{hint}")
    way = _way(found, path) if key is None else _way_of(key, found, path)
    entry = _at(found, way)
    state = {name: item for name, item in entry.items() if isinstance(item, Tensor)}
    if not way and len(state) == len(found):
        return Nested(state=found)
    left_out: list[str] = []
    around = _kept_around(found, way, left_out)
    return Nested(state=state, metadata={METADATA: {"key": list(way), "around": around}}, left_out=tuple(left_out))


def put_together(state: Mapping[str, Tensor], metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the checkpoint that `taken_apart` took apart; the state_dict alone where the metadata tell of none."""
    told = metadata.get(METADATA)
    try:
        told = json.loads(told) if isinstance(told, str) else told  # a safetensors file has it as text
    except (ValueError, RecursionError):
        return state
    if not _is_told(told):
        return state
    whole: dict[str, Any] = dict(told["around"])
    place = whole
    for name in told["key"]:
        place[name] = dict(place[name])
        place = place[name]
    place.update(state)
    return whole


def names_of(metadata: Mapping[str, object]) -> list[str]:
    """The names of metadata as their user knows them: of `METADATA`, what stands beside the state_dict."""
    told = metadata.get(METADATA)
    beside = [name for name in told["around"] if name not in told["key"][:1]] if _is_told(told) else []
    return [*(name for name in metadata if name != METADATA), *beside]


def _is_told(told: object) -> TypeGuard[dict[str, Any]]:
    if not isinstance(told, dict) or told.keys() != {"key", "around"} or not isinstance(told["key"], list):
        return False
    place = told["around"]
    for name in told["key"]:
        if not isinstance(name, str) or not isinstance(place, dict) or name not in place:
            return False
        place = place[name]
    return isinstance(place, dict)


# ---- where it is


def _way(found: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    ways = list(_ways(found))
    usual = [(name,) for name in _USUAL if (name,) in ways]
    inner = [way for way in ways if way]
    if () in ways and not (usual or inner):
        return ()
    if usual:
        return usual[0]
    if len(ways) == 1:
        return ways[0]
    if not ways:
        held = ", ".join(f"{name!r}: {type(value).__name__}" for name, value in list(found.items())[:_NAMED])
        raise FormatError(f"{path}: it holds no state_dict, which is names with tensors, but {held or 'nothing'}")
    names = ", ".join(".".join(way) or "the tensors outside of these" for way in ways)
    raise FormatError(f"{path}: it holds several state_dicts: {names}; choose one of them by key=")


def _ways(
    found: Mapping[Any, Any], deepest: int = _DEEPEST, within: tuple[Mapping[Any, Any], ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The ways to all entries that are state_dicts: names, and at least one tensor that is no single number.

    An entry that holds itself is gone into once: `within` are those that `found` is in.
    """
    within = (*within, found)
    if any(isinstance(item, Tensor) and item.ndim for item in found.values()) or _are_tensors(found):
        yield ()
    for name, item in found.items():
        if not (deepest and isinstance(name, str) and isinstance(item, Mapping) and item):
            continue
        if not any(item is one for one in within):
            yield from ((name, *way) for way in _ways(item, deepest - 1, within))


def _are_tensors(found: Mapping[Any, Any]) -> bool:
    return all(isinstance(item, Tensor) for item in found.values())


def _way_of(key: str, found: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    way = (key,) if key in found else tuple(key.split("."))
    if way not in set(_ways(found)):
        known = [".".join(one) for one in _ways(found) if one]
        raise UnknownNameError(f"{path}: key={key!r} is illegal: no state_dict is there{nearest(key, known)}")
    return way


def _at(found: Mapping[Any, Any], way: tuple[str, ...]) -> Mapping[Any, Any]:
    for name in way:
        found = found[name]
    return found


# ---- what stands around it


def _kept_around(found: Mapping[Any, Any], way: tuple[str, ...], left_out: list[str], at: str = "") -> dict[str, Any]:
    """All plain entries, those on the way to the state_dict too; what is left out is written into `left_out`."""
    kept = {}
    for name, item in found.items():
        if way and name == way[0]:
            kept[name] = _kept_around(item, way[1:], left_out, f"{at}{name}.")
        elif isinstance(item, Tensor) and not way:
            pass  # of the state_dict
        elif isinstance(name, str) and _is_plain(item):
            kept[name] = item
        else:
            left_out.append(f"{at}{name} ({_kind(item) if isinstance(name, str) else 'its name is no text'})")
    return kept


def _is_plain(value: object) -> bool:
    """Whether JSON gives the value back as it is, in little space."""
    if not _is_small(value):
        return False
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return len(text.encode()) <= _MOST and _same(json.loads(text), value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return False


def _is_small(value: object) -> bool:
    """Whether JSON may need no more than `_MOST` bytes: what stands in many places is written in each of them."""
    n, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        items = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
        n += len(one) if isinstance(one, str) else len(items)
        if n > _MOST:
            return False
        waiting += items
    return True


def _same(read: object, value: object) -> bool:
    if isinstance(read, dict) and isinstance(value, Mapping):
        return list(read) == list(value) and all(_same(read[name], value[name]) for name in read)
    if isinstance(read, list) and type(value) is list:
        return len(read) == len(value) and all(map(_same, read, value))
    return type(read) is type(value) and read == value


def _kind(value: object) -> str:
    """What it is, for a line about what was left out."""
    if isinstance(value, Mapping):
        return "a dict with tensors" if _has_tensors(value) else "a dict with values that are neither numbers nor text"
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return typed(value)


def _has_tensors(value: object) -> bool:
    """Whether there is a tensor in it; what stands in several places, or in itself, is looked at once."""
    waiting, seen = [value], {id(value)}
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            return True
        items = one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
        new = {id(item): item for item in items if id(item) not in seen}
        seen.update(new)
        waiting += new.values()
    return False
