"""Levels: an optimizer and all that it wraps, wherever it keeps them."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any
from weakref import ProxyTypes

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_MOST_OBJECTS = 3
"""How many objects that are no optimizers may lie between an optimizer and one that it wraps."""
_MOST_LOOKED_AT = 20_000
"""Values: a wrapper may hold a data set, or a logger by which half the program is reached. The near ones come first."""

_HOLD_NONE = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray),
    *(type, ModuleType, FunctionType, BuiltinFunctionType),
    *(Tensor, nn.Module, torch.dtype, torch.device),
)
_SERIES = (list, tuple, set, frozenset, deque)
_CONTAINERS = (*_SERIES, dict, MethodType)
"""Python's own: a look into others may read a file. A method holds its object, as in `[a.step, b.step]`."""
_BOOKS = frozenset({"state", "param_groups", "defaults"})
"""Attributes of an optimizer in which torch keeps no other; so too those whose names end with `_hooks`."""


def levels_of(optimizer: object) -> list[Any]:
    """An optimizer and those that it wraps, each once, the outermost first; empty: it is none.

    They are found in attributes, slots and containers to any depth, in bound methods, and in the attributes of other
    objects. What an optimizer reaches through other objects counts where both have a parameter in common: a trainer
    that it knows knows the optimizers of other networks too.
    """
    if not _is_optimizer(optimizer) and not (_steps(optimizer) and optimizers_in(optimizer)):
        return []
    found = [optimizer]
    for level in found:
        found += [inner for inner in optimizers_in(level) if not any(inner is known for known in found)]
    return found


def optimizers_in(holder: object) -> list[Any]:
    """The optimizers that a value holds, each once, the nearest first; not those that these wrap in turn."""
    found: list[Any] = []
    own = _own_parameters(holder)
    seen = {id(holder): holder}  # kept alive meanwhile, so that no other value gets its id
    waiting = deque((value, 0) for value in _parts(holder))
    while waiting and len(seen) < _MOST_LOOKED_AT:
        value, n_objects = waiting.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if _is_optimizer(value):
            if not n_objects or not own or own & _own_parameters(value):
                found.append(value)
        elif isinstance(value, _CONTAINERS):
            waiting += ((part, n_objects) for part in _parts(value))
        elif n_objects < _MOST_OBJECTS:
            waiting += ((part, n_objects + 1) for part in _parts(value))
    return found


def parameters_of(optimizer: object) -> set[int]:
    """The ids of the parameters that an optimizer, or one that it wraps, has in its groups now."""
    levels = [optimizer] if _groups_of(optimizer) else levels_of(optimizer)
    return {parameter for level in levels for parameter in _own_parameters(level)}


def maximized_by(optimizer: object) -> set[int]:
    """The ids of those parameters whose loss an optimizer, or one that it wraps, makes larger (maximize=True)."""
    levels = [optimizer] if _groups_of(optimizer) else levels_of(optimizer)
    return {id(p) for level in levels for group in _groups_of(level) if group.get("maximize") for p in group["params"]}


def _own_parameters(value: object) -> set[int]:
    return {id(p) for group in _groups_of(value) for p in group["params"]}


def _parts(value: object) -> Iterator[object]:
    """What a container or an object holds, without what holds no optimizers for sure."""
    for part in (*_contents(value), *_attributes(value)):
        if type(part) not in ProxyTypes and not isinstance(part, _HOLD_NONE):  # a proxy may be of something gone
            yield part


def _contents(value: object) -> list[object]:
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, _SERIES) else []


def _attributes(value: object) -> Iterator[object]:
    books = _BOOKS if _is_optimizer(value) else ()
    for name, part in list(getattr(value, "__dict__", {}).items()):
        if name not in books and not str(name).endswith("_hooks"):
            yield part
    for kind in type(value).__mro__:
        for slot in vars(kind).values():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):
                    yield slot.__get__(value)


def _steps(value: object) -> bool:
    return callable(getattr(type(value), "step", None)) and hasattr(value, "__dict__")


def _groups_of(value: object) -> list[dict[str, Any]]:
    groups = getattr(value, "param_groups", None)
    return groups if isinstance(groups, list) else []


def _is_optimizer(value: object) -> bool:
    return isinstance(value, Optimizer) or (_steps(value) and bool(_groups_of(value)))
