"""Values as data: what a state on disk says of a spec, by its fields and never by an address.

A value of one of our tables is written by its name there, a dataclass by its fields, a function by its module and name
(one without a name of its own also by its code), any other object by its type and attributes. Two values that do
different things are described differently; the same value is described alike in every process.
"""

import functools
import json
import types
import zlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunecell.errors import StateError, UnknownNameError, nearest, quoted, some, typed
from prunecell.memory import flat

_DEEPEST = 16
_WIDTH = 200  # characters of a value in a message


def shown(value: object) -> str:
    """A value as its author would write it: functions by name, dataclasses without what is the default.

    >>> from prunecell.fillers import Lowest
    >>> shown(Lowest()), shown(Lowest(revives=True)), shown(len)
    ('Lowest()', 'Lowest(revives=True)', 'len')
    """
    if is_dataclass(value) and not isinstance(value, type):
        given = {f.name: getattr(value, f.name) for f in fields(value) if f.repr and not _is_default(f, value)}
        return f"{type(value).__name__}({', '.join(f'{name}={shown(item)}' for name, item in given.items())})"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr(value)


def _is_default(field: "Field[Any]", value: object) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return default is getattr(value, field.name) or (default is not MISSING and default == getattr(value, field.name))


def described(value: object, *, depth: int = 0) -> Any:  # noqa: ANN401 - plain data
    """A value as numbers, text, None, lists and dicts.

    >>> from prunecell.schedules import Static
    >>> described(Static(sparsity=0.5))
    {'type': 'prunecell.schedules.steps.Static', 'fields': {'sparsity': 0.5}}
    """
    if isinstance(value, np.generic):
        return described(value.item(), depth=depth)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEEPEST:
        return {"type": _path(type(value))}
    within = functools.partial(described, depth=depth + 1)
    for kinds, describe in _KINDS:
        if isinstance(value, kinds):
            return describe(value, within)
    return {"type": _path(type(value)), **_contents(value, within)}


def as_written(data: object, *, depth: int = 0) -> str:
    """What `described` wrote as its author would write it: no modules, no fields that are None.

    Args:
        data: a description, or anything else that a file may have in its place.
        depth: descriptions that it is within.

    >>> as_written({"type": "prunecell.schedules.ramps.Cubic", "fields": {"sparsity": 0.9, "steps": None, "epochs": 2}})
    'Cubic(sparsity=0.9, epochs=2)'
    """
    if isinstance(data, Mapping) and depth <= _DEEPEST:
        name, fields_of = data.get("type", data.get("function")), data.get("fields")
        if isinstance(name, str) and (isinstance(fields_of, Mapping) or "function" in data):
            word = _bare(name.rpartition(".")[2])
            if "function" in data or not isinstance(fields_of, Mapping):
                return word
            given = [(name, value) for name, value in fields_of.items() if value is not None]
            return (
                f"{word}({', '.join(f'{_bare(name)}={as_written(value, depth=depth + 1)}' for name, value in given)})"
            )
    return quoted(data)


def _bare(name: object) -> str:
    return quoted(str(name))[1:-1]


def rebuilt(data: object, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what was described
    """The value that `described` wrote, where it is made of what `known` holds.

    Args:
        data: what `described` returned.
        known: "module.name" -> the dataclass or function of that name.

    Raises:
        UnknownNameError: it is made of something else.
        StateError: it is no description, or its fields are not those of its type.

    >>> from prunecell.schedules import Static
    >>> rebuilt(described(Static(sparsity=0.5)), {"prunecell.schedules.steps.Static": Static})
    Static(sparsity=0.5)
    """
    if isinstance(data, list):
        return tuple(rebuilt(item, known) for item in data)
    if not isinstance(data, Mapping):
        return data
    name = data.get("type", data.get("function"))
    if not isinstance(name, str):
        raise StateError(f"{quoted(data)} describes no value that can be made again")
    if name not in known:
        raise UnknownNameError(f"{quoted(name)} cannot be made again from its description{nearest(name, known)}")
    if "function" in data:
        return known[name]
    try:
        return known[name](**{field: rebuilt(item, known) for field, item in data["fields"].items()})
    except (KeyError, AttributeError, TypeError) as error:
        raise StateError(f"{name}: the fields do not fit: {error}") from None


def _contents(value: object, within: Callable[[object], Any]) -> dict[str, Any]:
    """What an object consists of."""
    if is_dataclass(value):
        return {"fields": {f.name: within(getattr(value, f.name)) for f in fields(value)}}
    if hasattr(value, "__dict__"):
        return {"attributes": within(vars(value))}
    try:
        made = value.__reduce_ex__(2)  # how pickle would make it
    except TypeError:
        return {}
    return {"made": within(made[1:3] if isinstance(made, tuple) else made)}


def _function(function: types.FunctionType, within: Callable[[object], Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"function": _path(function)}
    if "<" in function.__qualname__:  # a lambda, or a function inside another: the name alone is no name
        code = function.__code__
        told["code"] = zlib.crc32(repr((code.co_code, code.co_names, _constants(code))).encode())
        told["closure"] = [within(cell.cell_contents) for cell in function.__closure__ or ()]
        told["defaults"] = within([function.__defaults__, function.__kwdefaults__])
    return told


def _builtin(function: types.BuiltinFunctionType, within: Callable[[object], Any]) -> dict[str, Any]:
    """A function in C: by its name, and by the object whose method it is."""
    owner = function.__self__
    return {
        "name": function.__qualname__,
        "of": owner.__name__ if isinstance(owner, types.ModuleType) else within(owner),
    }


def _constants(code: types.CodeType) -> list[object]:
    """The constants of a function; those that are code themselves (lambdas inside it) by what they do."""
    return [_constant(constant) for constant in code.co_consts]


def _constant(constant: object) -> object:
    """Sets in an order of their own, which differs between processes."""
    if isinstance(constant, types.CodeType):
        return constant.co_code, constant.co_names, _constants(constant)
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def _array(value: "Tensor | np.ndarray[Any, Any]") -> dict[str, Any]:
    array = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(value.copy())
    data = flat(array).view(torch.uint8).numpy().tobytes()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "crc32": zlib.crc32(data)}


def _path(value: Any) -> str:  # noqa: ANN401 - whatever has a name
    return f"{value.__module__}.{value.__qualname__}"


_Describe = Callable[[Any, Callable[[object], Any]], Any]
_KINDS: tuple[tuple[Any, _Describe], ...] = (
    ((list, tuple), lambda value, within: [within(item) for item in value]),
    (Mapping, lambda value, within: {str(key): within(item) for key, item in value.items()}),
    ((Tensor, np.ndarray), lambda value, _: _array(value)),
    (
        functools.partial,
        lambda v, within: {"partial": within(v.func), "args": within(v.args), "kw": within(v.keywords)},
    ),
    (types.MethodType, lambda v, within: {"method": v.__func__.__qualname__, "of": within(v.__self__)}),
    (types.FunctionType, _function),
    (types.BuiltinFunctionType, _builtin),
    (type, lambda value, _: {"name": _path(value)}),
    ((Enum, torch.dtype, torch.device, bytes, bytearray, complex, range, PurePath), lambda v, _: repr(v)),
    ((set, frozenset), lambda value, within: {"set": sorted(json.dumps(within(item)) for item in value)}),
)
"""(types, (value, how to describe what is in it) -> plain data); the first that fits."""


def same(then: object, now: object) -> bool:
    """Whether two descriptions are equal; a tensor in one, which compares to no truth, is not."""
    try:
        return bool(then == now)
    except (RuntimeError, ValueError):
        return False


def differences(then: object, now: Mapping[str, Any]) -> str:
    """The fields that differ, as they were and as they are."""
    if not isinstance(then, Mapping):
        return f"it is {typed(then)} in place of a description"
    names = [name for name in (*now, *(then.keys() - now.keys())) if not same(then.get(name), now.get(name))]
    return some(
        (f"{quoted(name)[1:-1]} was {_difference(then.get(name), now.get(name))}" for name in names), between="; "
    )


def _difference(then: object, now: object) -> str:
    """The two as they are written, or as they are described where that looks the same."""
    short = as_written(then), as_written(now)
    told = short if len(set(short)) > 1 else (quoted(then, _WIDTH), quoted(now, _WIDTH))
    return ", now ".join(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..." for text in told)
