"""The state of a Quantizer: what `state_dict` holds, and what is checked before any of it is taken.

version     of this form
samples, steps    of the clock: seen, made
groups     one a spec: spec (its fields), lam, priced_at, first_bytes, excess
weights     name -> group (its number), latent, log_step, fixed, prices (rows, columns, kernels and numbers, or
            None where there are none)
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from prunecell.described import differences, same
from prunecell.errors import StateError
from prunecell.kinds import (
    COUNT,
    FLAG,
    LIST,
    MAPPING,
    NUMBER,
    SHARE,
    SPAN,
    TENSOR,
    check_fields,
    check_names,
    check_version,
    optional,
)
from prunecell.quantization.group import Group
from prunecell.quantization.prices import Prices
from prunecell.quantization.weight import QuantizedWeight
from prunecell.schedules import Clock

_VERSION = 1
_STATE_OF = "the quantizer's state"
_STATE = {"version": COUNT, "samples": COUNT, "steps": COUNT, "groups": LIST, "weights": MAPPING}
_GROUP = {"spec": MAPPING, "lam": SPAN, "priced_at": optional(SHARE), "first_bytes": COUNT, "excess": NUMBER}
_ENTRY = {
    "group": COUNT,
    "latent": TENSOR,
    "log_step": TENSOR,
    "fixed": FLAG,
    "prices": optional(MAPPING),
}
_PRICES = {
    "rows": TENSOR,
    "columns": TENSOR,
    "kernels": optional(TENSOR),
    "low": SPAN,
    "high": SPAN,
    "growth": SPAN,
}


def state_of(clock: Clock, groups: Sequence[Group]) -> dict[str, Any]:
    """The state, as numbers, text and tensors."""
    return {
        "version": _VERSION,
        "samples": clock.samples,
        "steps": clock.steps,
        "groups": [
            {"spec": group.spec.to_data()} | {name: getattr(group, name) for name in _GROUP if name != "spec"}
            for group in groups
        ],
        "weights": {
            weight.name: {
                "group": number,
                "latent": weight.latent.clone(),
                "log_step": weight.log_step.detach().clone(),
                "fixed": weight.fixed,
                "prices": _prices_of(weight),
            }
            for number, group in enumerate(groups)
            for weight in group.weights
        },
    }


def take_state(state: Mapping[str, Any], groups: Sequence[Group]) -> None:
    """Give groups and weights what `state_of` wrote.

    Raises:
        StateError: it is no state of this version, not whole, or was made under another plan or for another model;
            nothing was changed.
    """
    _check(state, groups)
    for group, saved in zip(groups, state["groups"], strict=True):
        for name in _GROUP.keys() - {"spec"}:
            setattr(group, name, saved[name])
        for weight in group.weights:
            entry, device = state["weights"][weight.name], weight.parameter.device
            weight.latent = _copied(entry["latent"], device)
            weight.log_step.data.copy_(entry["log_step"])
            weight.fixed = entry["fixed"]
            weight.rule.take_prices(_made(entry["prices"], device))


def _prices_of(weight: QuantizedWeight) -> dict[str, Any] | None:
    if (prices := weight.rule.prices) is None:
        return None
    values = {field.name: getattr(prices, field.name) for field in fields(prices)}
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in values.items()}


def _made(saved: Mapping[str, Any] | None, device: torch.device) -> Prices | None:
    if saved is None:
        return None
    values: dict[str, Any] = {
        name: _copied(value, device) if isinstance(value, Tensor) else value for name, value in saved.items()
    }
    return Prices(**values)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.detach().to(device, copy=True).contiguous()  # compiled passes read it


def _check(state: object, groups: Sequence[Group]) -> None:
    check_version(state, _VERSION, _STATE_OF)
    whole = check_fields(state, _STATE, _STATE_OF)
    if whole["samples"] < whole["steps"]:
        raise StateError(f"steps={whole['steps']} of {_STATE_OF} is illegal: only {whole['samples']} samples")
    saved = whole["weights"]
    check_names(saved, (weight.name for group in groups for weight in group.weights), _STATE_OF)
    if len(whole["groups"]) != len(groups):
        raise StateError(f"{_STATE_OF} has {len(whole['groups'])} specs, not {len(groups)}")
    for number, (group, then) in enumerate(zip(groups, whole["groups"], strict=True)):
        spec = check_fields(then, _GROUP, f"spec {number} in {_STATE_OF}")["spec"]
        if not same(spec, now := group.spec.to_data()):
            raise StateError(f"{_STATE_OF} was made under another spec: {differences(spec, now)}")
        for weight in group.weights:
            _check_entry(weight, saved[weight.name], number)


def _check_entry(weight: QuantizedWeight, entry: object, number: int) -> None:
    what = f"{weight.name} in {_STATE_OF}"
    saved_fields = check_fields(entry, _ENTRY, what)
    if saved_fields["group"] != number:
        raise StateError(f"{weight.name}: the state was made under another plan")
    own = {"latent": weight.latent, "log_step": weight.log_step}
    wanted = weight.rule.prices_of(weight.integers)
    if wanted is not None:
        own |= {"rows": wanted.rows, "columns": wanted.columns}
        own |= {} if wanted.kernels is None else {"kernels": wanted.kernels}
    given = dict(saved_fields)
    if (wanted is None) != (given["prices"] is None):
        raise StateError(f"prices={'None' if given['prices'] is None else 'some'} of {what} is illegal")
    if wanted is not None:
        given |= check_fields(given["prices"], _PRICES, f"the prices of {what}")
        if (wanted.kernels is None) != (given["kernels"] is None):
            raise StateError(f"kernels of {what} is illegal")
        if given["low"] > given["high"]:
            raise StateError(f"low={given['low']} of {what} is illegal: it must be no more than high={given['high']}")
    for name, tensor in own.items():
        if given[name].shape != tensor.shape or given[name].dtype != tensor.dtype:
            raise StateError(f"{name} of {what} must be {tensor.dtype} of shape {tuple(tensor.shape)}")
    if not bool(given["log_step"].isfinite().all()):
        raise StateError(f"log_step of {what} is illegal: it must be finite")
