"""Whether an optimizer can go on with a state that was loaded: torch asks for nothing but the number of parameters.

A momentum of another shape, a rate that is text, a count of steps below zero are found in the first step, when the
model has gone on already. So the step is tried on copies, one parameter at a time, with gradients of zero.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from prunecell.errors import StateError, quoted

_OWN = ("state", "param_groups", "defaults", "step")  # `step`: schedulers put a method of the true optimizer there


def check_groups(state: object, own: Mapping[str, Any]) -> None:
    """Refuse a state whose parameters are numbered otherwise, because torch would drop their moments without a word.

    Args:
        state: what is to be loaded.
        own: the optimizer's `state_dict()` now.

    Raises:
        StateError: it is of other parameters, or no state of an optimizer.
    """
    if not isinstance(state, Mapping) or not state.keys() >= {"state", "param_groups"}:
        raise StateError("it is no state of an optimizer")
    groups, moments = state["param_groups"], state["state"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise StateError("its param_groups must be a list of dicts")
    if not isinstance(moments, dict) or not all(isinstance(one, dict) for one in moments.values()):
        raise StateError("its state must be a dict of dicts")
    here = [group["params"] for group in own["param_groups"]]
    there = [group.get("params") for group in groups]
    if not all(isinstance(some, list) and all(type(n) is int for n in some) for some in there):
        raise StateError("the params of its param_groups must be lists of whole numbers")
    if there != here or not moments.keys() <= {n for some in here for n in some}:
        raise StateError("its parameters are not those of this optimizer")
    for group, mine in zip(groups, own["param_groups"], strict=True):
        if missing := sorted(mine.keys() - group.keys()):
            raise StateError(f"its param_groups lack {', '.join(missing)}")
        for name, value in mine.items():
            if name != "params" and not _alike(value, group[name]):
                raise StateError(
                    f"{name}={quoted(group[name])} of its param_groups is of another kind than {quoted(value)}"
                )


def _alike(own: object, other: object) -> bool:
    """Whether a setting that was saved is of the kind of the one that is there."""
    if isinstance(own, list | tuple):
        same = isinstance(other, list | tuple) and len(own) == len(other)
        return same and all(map(_alike, own, other))  # type: ignore[call-overload] # it is as long as the other
    if own is None:  # what nobody has set yet may have become anything
        return other is None or isinstance(other, bool | int | float | str)
    if isinstance(own, bool):
        return other is None or isinstance(other, bool)
    if isinstance(own, int | float):
        return isinstance(other, int | float) and not isinstance(other, bool)
    return type(own) is type(other) and getattr(own, "shape", None) == getattr(other, "shape", None)


def rehearsable(optimizer: Optimizer) -> bool:
    """Whether copies of the parameters can make a step each with the state that is there now.

    An optimizer that holds more than settings and moments, other parameters say, could change them. One that makes no
    step now (because it wants sparse gradients, or a closure) says nothing of another state.
    """
    if _settings_of(optimizer) is None:
        return False
    try:
        rehearse(optimizer)
    except Exception:  # noqa: BLE001 - what any optimizer raises
        return False
    return True


def rehearse(optimizer: Optimizer) -> None:
    """Let a copy of each parameter make a step. It raises what the optimizer raises; the optimizer is not changed."""
    settings = _settings_of(optimizer)
    if settings is None:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                _step_copy(optimizer, settings, group, parameter)


def _settings_of(optimizer: Optimizer) -> dict[str, Any] | None:
    """The attributes of an optimizer without its hooks; None where it holds other things than settings."""
    attributes = {name: value for name, value in vars(optimizer).items() if name not in _OWN}
    hooks = {name for name in attributes if name.startswith("_optimizer_")}
    settings = {name: value for name, value in attributes.items() if name not in hooks}
    if not all(isinstance(value, bool | int | float | str | None) for value in settings.values()):
        return None
    return settings | {name: OrderedDict() for name in hooks}


def _step_copy(
    optimizer: Optimizer, settings: Mapping[str, Any], group: Mapping[str, Any], parameter: nn.Parameter
) -> None:
    copied = nn.Parameter(parameter.detach().clone())
    copied.grad = torch.zeros_like(copied)
    of_group = {name: deepcopy(value) for name, value in group.items() if name != "params"}
    twin = object.__new__(type(optimizer))
    vars(twin).update(
        settings,
        defaults=optimizer.defaults,
        param_groups=[{**of_group, "params": [copied]}],
        state=defaultdict(dict, {copied: deepcopy(optimizer.state.get(parameter, {}))}),
    )
    type(optimizer).step(twin)
