"""The state of a Pruner: what `state_dict` holds, and what is checked before any of it is taken.

version     of this form
samples, steps, n_samples    of the clock: seen, made, in the last step
specs       each once, by its fields
weights     name -> spec (its number), target_sparsity, update, bits (the packed mask), hidden (values or None)
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.errors import OptionTypeError, StateError
from prunecell.group import Group
from prunecell.schedules import Clock

_VERSION = 2
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
    if state.get("version") != _VERSION:
        raise StateError(f"version={state.get('version')!r} of the pruner's state is unknown: it must be {_VERSION}")
    if missing := {"samples", "steps", "n_samples", "specs", "weights"} - state.keys():
        raise StateError(f"the state is not whole: it lacks {', '.join(sorted(missing))}")
    for name in ("samples", "steps"):
        _check_count(name, state[name])
    if state["n_samples"] is not None:
        _check_count("n_samples", state["n_samples"])
    saved: Mapping[str, Mapping[str, Any]] = state["weights"]
    names = {weight.name for group in groups for weight in group.weights}
    if not isinstance(saved, Mapping) or not isinstance(state["specs"], Sequence):
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
        if missing := _ENTRIES - entry.keys():
            raise StateError(f"{name}: the state is not whole: it lacks {', '.join(sorted(missing))}")
        if not isinstance(entry["spec"], int) or not 0 <= entry["spec"] < len(specs):
            raise StateError(f"{name}: the state has no spec number {entry['spec']!r}")
        if (then := specs[entry["spec"]]) != spec:
            raise StateError(f"{name}: the state was made under another spec: {_differences(then, spec)}")
        bits, hidden = entry["bits"], entry["hidden"]
        for number in ("target_sparsity", "update"):
            _check_number(f"{name}: {number}", entry[number])
        if hidden is not None and not (isinstance(hidden, Tensor) and hidden.is_floating_point() and hidden.ndim == 1):
            raise StateError(f"{name}: hidden values must be a vector of floats, not {type(hidden).__name__}")
        if not isinstance(bits, Tensor) or bits.shape != weight.mask.bits.shape or bits.dtype != weight.mask.bits.dtype:
            raise StateError(f"{name}: the saved mask does not fit a weight of shape {tuple(weight.mask.shape)}")
        n_pruned = Mask(bits, weight.mask.shape).n_pruned if group.spec.parks else 0
        if n_pruned != (0 if hidden is None else len(hidden)):
            raise StateError(f"{name}: the state holds the wrong number of hidden values")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StateError(f"{name}={value!r} of the pruner's state is illegal: it must be a whole number >= 0")


def _check_number(name: str, value: object) -> None:
    missing = value is None and name.endswith("update")  # it was never filled
    if not missing and (isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)):
        raise StateError(f"{name}={value!r} of the pruner's state is illegal: it must be a finite number")


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The fields that differ, as they were and as they are."""
    names = [name for name in (*now, *(then.keys() - now.keys())) if then.get(name) != now.get(name)]
    return "; ".join(f"{name} was {then.get(name)!r}, now {now.get(name)!r}" for name in names)
