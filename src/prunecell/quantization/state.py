"""The state of a Quantizer: what `state_dict` holds, and what is checked before any of it is taken.

version     of this form
samples, steps    of the clock: seen, made
courses     one a spec: spec (its fields), lam, looked, first_bytes, excess
weights     name -> course (its number), latent, log_step, fixed, prices (rows, columns, kernels and numbers, or
            None where there are none)
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

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
from prunecell.pruning.state import differences, same
from prunecell.quantization.course import Course
from prunecell.quantization.prices import Prices
from prunecell.quantization.rules import RateRule
from prunecell.quantization.weight import QuantizedWeight
from prunecell.schedules import Clock

_VERSION = 1
_STATE_OF = "the quantizer's state"
_STATE = {"version": COUNT, "samples": COUNT, "steps": COUNT, "courses": LIST, "weights": MAPPING}
_COURSE = {"spec": MAPPING, "lam": SPAN, "looked": optional(SHARE), "first_bytes": COUNT, "excess": NUMBER}
_ENTRY = {
    "course": COUNT,
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


def state_of(clock: Clock, courses: Sequence[Course]) -> dict[str, Any]:
    """The state, as numbers, text and tensors."""
    return {
        "version": _VERSION,
        "samples": clock.samples,
        "steps": clock.steps,
        "courses": [
            {"spec": course.spec.to_data()} | {name: getattr(course, name) for name in _COURSE if name != "spec"}
            for course in courses
        ],
        "weights": {
            weight.name: {
                "course": number,
                "latent": weight.latent.clone(),
                "log_step": weight.log_step.detach().clone(),
                "fixed": weight.fixed,
                "prices": _prices_of(weight),
            }
            for number, course in enumerate(courses)
            for weight in course.weights
        },
    }


def take_state(state: Mapping[str, Any], courses: Sequence[Course]) -> None:
    """Give courses and weights what `state_of` wrote.

    Raises:
        StateError: it is no state of this version, not whole, or was made under another plan or for another model;
            nothing was changed.
    """
    _check(state, courses)
    for course, saved in zip(courses, state["courses"], strict=True):
        for name in _COURSE.keys() - {"spec"}:
            setattr(course, name, saved[name])
        for weight in course.weights:
            entry, device = state["weights"][weight.name], weight.parameter.device
            weight.latent = _copied(entry["latent"], device)
            weight.log_step.data.copy_(entry["log_step"])
            weight.fixed = entry["fixed"]
            if isinstance(weight.rule, RateRule):
                weight.rule.prices = _made(entry["prices"], device)


def _prices_of(weight: QuantizedWeight) -> dict[str, Any] | None:
    prices = weight.rule.prices if isinstance(weight.rule, RateRule) else None
    if prices is None:
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


def _check(state: object, courses: Sequence[Course]) -> None:
    check_version(state, _VERSION, _STATE_OF)
    fields_of = check_fields(state, _STATE, _STATE_OF)
    if fields_of["samples"] < fields_of["steps"]:
        raise StateError(f"steps={fields_of['steps']} of {_STATE_OF} is illegal: only {fields_of['samples']} samples")
    saved = fields_of["weights"]
    check_names(saved, (weight.name for course in courses for weight in course.weights), _STATE_OF)
    if len(fields_of["courses"]) != len(courses):
        raise StateError(f"{_STATE_OF} has {len(fields_of['courses'])} specs, not {len(courses)}")
    for number, (course, then) in enumerate(zip(courses, fields_of["courses"], strict=True)):
        spec = check_fields(then, _COURSE, f"spec {number} in {_STATE_OF}")["spec"]
        if not same(spec, now := course.spec.to_data()):
            raise StateError(f"{_STATE_OF} was made under another spec: {differences(spec, now)}")
        for weight in course.weights:
            _check_entry(weight, saved[weight.name], number)


def _check_entry(weight: QuantizedWeight, entry: object, number: int) -> None:
    what = f"{weight.name} in {_STATE_OF}"
    fields_of = check_fields(entry, _ENTRY, what)
    if fields_of["course"] != number:
        raise StateError(f"{weight.name}: the state was made under another plan")
    own = {"latent": weight.latent, "log_step": weight.log_step}
    wanted = None
    if isinstance(weight.rule, RateRule) and weight.latent.ndim > 1:
        wanted = Prices.of(weight.integers, weight.image)
        own |= {"rows": wanted.rows, "columns": wanted.columns}
        own |= {} if wanted.kernels is None else {"kernels": wanted.kernels}
    given = dict(fields_of)
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
