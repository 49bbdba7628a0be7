"""Which layers do what a fresh layer of their kind would do, and nothing else.

Only those become sparse: what a layer does beyond its kind (a forward of its own, a hook, a parametrization, a tensor
that is computed from others) its sparse twin would not do. So everything that a layer has is compared with what a fresh
one has, and whatever is not known to be harmless keeps it dense.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

_HARMLESS = {
    *("__module__", "__qualname__", "__doc__", "__annotations__", "__annotate__", "__annotate_func__", "__dict__"),
    *("__weakref__", "__firstlineno__", "__static_attributes__", "__annotations_cache__", "__parameters__"),
    *("__init__", "reset_parameters", "extra_repr", "__repr__"),  # what __init__ makes is seen in the layer
}
"""What a class may have of its own without computing anything else than its kind."""

_MARKS = {"_is_hf_initialized"}
"""Attributes that libraries leave on every layer, and read only before a model is used."""

_COMPUTING = ("forward", "__call__", "_call_impl", "_conv_forward", "__getattr__")


def why_not_plain(layer: nn.Module, kind: type[nn.Module], fresh: Callable[[Any], nn.Module]) -> str:
    """Say what a layer has that a fresh one of its kind has not; the empty text where there is nothing.

    Args:
        layer: of `kind` or a subclass.
        kind: the class.
        fresh: makes one of that kind, with the options of a layer, on the meta device.

    >>> why_not_plain(nn.Linear(2, 2), nn.Linear, lambda dense: nn.Linear(2, 2, device="meta"))
    ''
    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.register_forward_hook(lambda *_: None)
    >>> why_not_plain(layer, nn.Linear, lambda dense: nn.Linear(2, 2, device="meta"))
    'it has hooks'
    """
    if parametrize.is_parametrized(layer):
        return "it is parametrized"
    if reason := _of_class(layer, kind):
        return reason
    if has_hooks(layer):
        return "it has hooks"
    try:
        like = fresh(layer)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return "its options make no layer"
    return _of_attributes(layer, like) or _of_parameters(layer, like)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module does more than its forward."""
    return any("hooks" in name and value for name, value in vars(module).items())


def _of_class(layer: nn.Module, kind: type[nn.Module]) -> str:
    for cls in type(layer).__mro__:
        if cls in kind.__mro__:
            continue
        for name in vars(cls):
            if name not in _HARMLESS:
                return f"its class overrides {name}" if hasattr(kind, name) else f"its class has {name} of its own"
    return why_replaced(kind)


def why_replaced(kind: type[nn.Module]) -> str:
    """Say which method of a class of torch a program replaced; the empty text where it did not.

    >>> why_replaced(nn.Sequential)
    ''
    """
    for name in _COMPUTING:
        owner = next((cls for cls in kind.__mro__ if name in vars(cls)), None)
        if owner is not None and is_replaced(vars(owner)[name], owner.__module__):
            return f"{name} of {owner.__name__} was replaced"
    return ""


def is_replaced(function: object, module: str) -> bool:
    """Whether a program put another function in place of the one that a module was written with."""
    return getattr(function, "__module__", None) != module or hasattr(function, "__wrapped__")


def _of_attributes(layer: nn.Module, like: nn.Module) -> str:
    for name, value in vars(layer).items():
        if name in vars(like) or name in _MARKS or _is_own_method(layer, name, value):
            continue
        if callable(getattr(type(layer), name, None)):
            return f"it has {name} of its own"
        return f"it has an attribute of its own: {name}"
    for what, table in (("parameter", "_parameters"), ("buffer", "_buffers"), ("module", "_modules")):
        own, usual = getattr(layer, table), getattr(like, table)
        for name in own:
            if name not in usual:
                return f"it has a {what} of its own: {name}"
        for name in usual:
            if name not in own:
                return f"its {name} is no {what}"
    return ""


def _is_own_method(layer: nn.Module, name: str, value: object) -> bool:
    """Whether an attribute is only the layer's own method, as accelerate leaves it when its hook is removed."""
    function = getattr(type(layer), name, None)
    return getattr(value, "__self__", None) is layer and getattr(value, "__func__", None) is function is not None


def _of_parameters(layer: nn.Module, like: nn.Module) -> str:
    for name, usual in like._parameters.items():  # noqa: SLF001 - those that are None too
        parameter = layer._parameters[name]  # noqa: SLF001
        if (parameter is None) != (usual is None):
            return f"its {name} and its options do not fit together"
        if parameter is None or usual is None:
            continue
        if type(parameter) is not nn.Parameter or parameter.layout != torch.strided:
            return f"its {name} is no ordinary tensor"
        if parameter.shape != usual.shape:
            return f"its {name} is of shape {tuple(parameter.shape)}, by its options it is {tuple(usual.shape)}"
    return ""
