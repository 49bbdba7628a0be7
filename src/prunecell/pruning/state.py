"""The state of a Pruner: what `state_dict` holds, and what is checked before any of it is taken.

version     of this form
samples, steps, n_samples    of the clock: seen, made, in the last step
specs       each once, by its fields
weights     name -> spec (its number), target_sparsity, update, bits (the packed mask), hidden (values or None), and
            what a criterion adds up over steps: movement, gradients (n, *shape), or None
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.described import differences, same
from prunecell.errors import StateError
from prunecell.evidence import Needs
from prunecell.kinds import (
    COUNT,
    LIST,
    MAPPING,
    NUMBER,
    POSITIVE,
    SHARE,
    TENSOR,
    check_fields,
    check_names,
    check_version,
    optional,
)
from prunecell.pruning.group import Group
from prunecell.pruning.weight import PrunedWeight
from prunecell.schedules import Clock

_VERSION = 3
_STATE_OF = "the pruner's state"
_STATE = {
    "version": COUNT,
    "samples": COUNT,
    "steps": COUNT,
    "n_samples": optional(POSITIVE),
    "specs": LIST,
    "weights": MAPPING,
}
_ENTRY = {
    "spec": COUNT,
    "target_sparsity": SHARE,
    "update": optional(NUMBER),  # None: it was never filled
    "bits": TENSOR,
    "hidden": optional(TENSOR),
    "movement": optional(TENSOR),
    "gradients": optional(TENSOR),
}
SUMS = ("movement", "gradients")
"""What is collected over many steps."""
"""Characters of a message that tell one field of a spec."""


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
                **dict(zip(SUMS, weight.collector.gradients.sums(), strict=True)),
            }
            for number, group in enumerate(groups)
            for weight in group.weights
        },
    }


def check_state(state: Mapping[str, Any], groups: Sequence[Group]) -> Mapping[str, Mapping[str, Any]]:
    """The saved weights, name -> entry, where the whole state fits these groups.

    Raises:
        StateError: it is no state of this version, not whole, or was made under another plan or for another model.
    """
    check_version(state, _VERSION, _STATE_OF)
    check_fields(state, _STATE, _STATE_OF)
    if state["samples"] < state["steps"]:
        raise StateError(f"steps={state['steps']} of {_STATE_OF} is illegal: only {state['samples']} samples")
    saved: Mapping[str, Mapping[str, Any]] = state["weights"]
    check_names(saved, (weight.name for group in groups for weight in group.weights), _STATE_OF)
    for group in groups:
        spec = group.spec.to_data()
        for weight in group.weights:
            _check_entry(weight, saved[weight.name], state["specs"], spec)
    return saved


def _check_entry(weight: PrunedWeight, entry: object, specs: Sequence[Any], spec: Mapping[str, Any]) -> None:
    """Refuse an entry that is not of this weight under this spec."""
    name = weight.name
    fields = check_fields(entry, _ENTRY, f"{name} in {_STATE_OF}")
    if fields["spec"] >= len(specs):
        raise StateError(f"{name}: the state has no spec number {fields['spec']}")
    if not same(then := specs[fields["spec"]], spec):
        raise StateError(f"{name}: the state was made under another spec: {differences(then, spec)}")
    mask = _mask(name, fields["bits"], weight.mask)
    if _n_hidden(name, fields["hidden"]) != (mask.n_pruned if weight.spec.parks else 0):
        raise StateError(f"{name}: the state holds the wrong number of hidden values")
    shape, n = tuple(weight.mask.shape), weight.spec.n_gradients
    _check_sum(name, fields, "movement", {shape} if Needs.MOVEMENT in weight.spec.needs else set())
    _check_sum(name, fields, "gradients", {(k, *shape) for k in range(1, n + 1)})


def _check_sum(name: str, fields: Mapping[str, Any], field: str, shapes: set[tuple[int, ...]]) -> None:
    """Refuse what is no such sum."""
    found = fields[field]
    if found is not None and not (found.is_floating_point() and tuple(found.shape) in shapes):
        raise StateError(f"{name}: {field} of shape {tuple(found.shape)}, {found.dtype}, is not what its spec collects")


def _n_hidden(name: str, hidden: Tensor | None) -> int:
    """How many values a weight hides."""
    if hidden is None:
        return 0
    if not hidden.is_floating_point() or hidden.ndim != 1:
        shape = tuple(hidden.shape)
        raise StateError(f"{name}: hidden values must be a vector of floats, not {hidden.dtype} of shape {shape}")
    return len(hidden)


def _mask(name: str, bits: Tensor, like: Mask) -> Mask:
    """The saved mask of a weight that has the mask `like`."""
    if bits.shape != like.bits.shape or bits.dtype != like.bits.dtype:
        raise StateError(f"{name}: the saved mask does not fit a weight of shape {tuple(like.shape)}")
    unused = -like.shape.numel() % 8
    if unused and int(bits[-1]) >> 8 - unused:
        raise StateError(f"{name}: the saved mask has bits set after those of its {like.shape.numel()} weights")
    return Mask(bits, like.shape)
