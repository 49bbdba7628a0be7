"""The state of a Pruner: what `state_dict` holds, and what is checked before any of it is taken.

version     of this form
samples, steps, n_samples    of the clock: seen, made, in the last step
specs       each once, by its fields
weights     name -> spec (its number), target_sparsity, update, bits (the packed mask), hidden (values or None)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.errors import OptionTypeError, StateError
from prunecell.group import Group
from prunecell.schedules import Clock

_VERSION = 2
_ENDLESS = 1 << 63
_ENTRIES = {"spec", "target_sparsity", "update", "bits", "hidden"}


def state_of(clock: Clock, n_samples: int | None, groups: Sequence[Group]) -> dict[str, Any]:
    """The state, as numbers, text and tensors."""
    return {
        "version": _VERSION,
        "samples": clock.samples,
        "steps": clock.steps,
        "n_samples": n_samples,
        "specs": [group.spec.to_data() for group in groups],
        "weights": {
            weight.name: {
                "spec": number,
                "target_sparsity": weight.target_sparsity,
                "update": weight.update,
                "bits": weight.mask.bits.clone(),
                "hidden": None if weight.hidden is None else weight.hidden.clone(),
            }
            for number, group in enumerate(groups)
            for weight in group.weights
        },
    }


def check_state(state: Mapping[str, Any], groups: Sequence[Group]) -> Mapping[str, Mapping[str, Any]]:
    """The saved weights, name -> entry, where the whole state fits these groups.

    Raises:
        OptionTypeError: it is no mapping.
        StateError: it is not whole, or was made under another plan or for another model.
    """
    if not isinstance(state, Mapping):
        raise OptionTypeError(f"state is a {type(state).__name__}: it must be what Pruner.state_dict() returned")
    version = state.get("version")
    if type(version) is not int or version != _VERSION:
        raise StateError(f"version={version!r} of the pruner's state is unknown: it must be {_VERSION}")
    if missing := {"samples", "steps", "n_samples", "specs", "weights"} - state.keys():
        raise StateError(f"the state is not whole: it lacks {', '.join(sorted(missing))}")
    for name in ("samples", "steps"):
        _check_count(name, state[name], low=0)
    if state["samples"] < state["steps"]:
        raise StateError(f"steps={state['steps']} of the pruner's state is illegal: only {state['samples']} samples")
    if state["n_samples"] is not None:
        _check_count("n_samples", state["n_samples"], low=1)
    saved: Mapping[str, Mapping[str, Any]] = state["weights"]
    names = {weight.name for group in groups for weight in group.weights}
    if not isinstance(saved, Mapping) or not isinstance(state["specs"], list | tuple):
        raise StateError("weights of the pruner's state must be a mapping, and specs a list")
    if saved.keys() != names:
        raise StateError(f"the state prunes {sorted(map(str, saved))}, this pruner {sorted(names)}")
    for group in groups:
        _check_group(group, saved, state["specs"])
    return saved


def _check_group(group: Group, saved: Mapping[str, Mapping[str, Any]], specs: Sequence[Any]) -> None:
    spec = group.spec.to_data()
    for weight in group.weights:
        name, entry = weight.name, saved[weight.name]
        if not isinstance(entry, Mapping):
            raise StateError(f"{name}: the state is a {type(entry).__name__}: it must be a mapping")
        if missing := _ENTRIES - entry.keys():
            raise StateError(f"{name}: the state is not whole: it lacks {', '.join(sorted(missing))}")
        number = entry["spec"]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(specs):
            raise StateError(f"{name}: the state has no spec number {number!r}")
        if not _same(then := specs[number], spec):
            raise StateError(f"{name}: the state was made under another spec: {_differences(then, spec)}")
        _check_number(f"{name}: target_sparsity", entry["target_sparsity"], low=0, high=1)
        if entry["update"] is not None:  # None: it was never filled
            _check_number(f"{name}: update", entry["update"])
        mask = _mask(name, entry["bits"], weight.mask)
        if _n_hidden(name, entry["hidden"]) != (mask.n_pruned if group.spec.parks else 0):
            raise StateError(f"{name}: the state holds the wrong number of hidden values")


def _n_hidden(name: str, hidden: object) -> int:
    """How many values a weight hides."""
    if hidden is None:
        return 0
    if not isinstance(hidden, Tensor) or not hidden.is_floating_point() or hidden.ndim != 1 or not _is_plain(hidden):
        raise StateError(f"{name}: hidden values must be a vector of floats, not {type(hidden).__name__}")
    return len(hidden)


def _mask(name: str, bits: object, like: Mask) -> Mask:
    """The saved mask of a weight that has the mask `like`."""
    fits = isinstance(bits, Tensor) and bits.shape == like.bits.shape and bits.dtype == like.bits.dtype
    if not isinstance(bits, Tensor) or not fits or not _is_plain(bits):
        raise StateError(f"{name}: the saved mask does not fit a weight of shape {tuple(like.shape)}")
    unused = -like.shape.numel() % 8
    if unused and int(bits[-1]) >> 8 - unused:
        raise StateError(f"{name}: the saved mask has bits set after those of its {like.shape.numel()} weights")
    return Mask(bits, like.shape)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized


def _check_count(name: str, value: object, *, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < _ENDLESS:
        raise StateError(
            f"{name}={value!r} of the pruner's state is illegal: it must be a whole number in [{low}, 2^63)"
        )


def _check_number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> None:
    is_finite = math.isfinite(value) if isinstance(value, float) else isinstance(value, int) and abs(value) < _ENDLESS
    if not isinstance(value, int | float) or isinstance(value, bool) or not is_finite or not low <= value <= high:
        legal = "a finite number" if low == -math.inf else f"a number in [{low}, {high}]"
        raise StateError(f"{name}={value!r} of the pruner's state is illegal: it must be {legal}")


def _same(then: object, now: object) -> bool:
    """Whether two descriptions are equal; a tensor in one, which compares to no truth, is not."""
    try:
        return bool(then == now)
    except (RuntimeError, ValueError):
        return False


def _differences(then: object, now: Mapping[str, Any]) -> str:
    """The fields that differ, as they were and as they are."""
    if not isinstance(then, Mapping):
        return f"it is a {type(then).__name__} in place of a description"
    names = [name for name in (*now, *(then.keys() - now.keys())) if not _same(then.get(name), now.get(name))]
    return "; ".join(f"{name} was {then.get(name)!r}, now {now.get(name)!r}" for name in names)
