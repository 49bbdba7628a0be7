"""Allocations: (evidence of all weights, sparsity) -> sparsity of each. One budget over many weights.

An allocation is any callable of that form; it sees the weights whose parameters share one `PruneSpec`.
"""

from collections.abc import Callable, Sequence

import torch

from prunecell.bits import select
from prunecell.errors import PlanError
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count

Allocation = Callable[[Sequence[Evidence], float], Sequence[float]]


def uniform(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """Every weight tensor gets the same sparsity."""
    return [sparsity] * len(evidences)


def global_magnitude(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """The smallest magnitudes of all tensors together go: one threshold, exact in the total count.

    Ties are broken by the order of the tensors in the model, then by index.

    Raises:
        PlanError: the tensors are of more than one dtype or device.
    """
    weights = [e.weight for e in evidences]
    if len({(w.dtype, w.device) for w in weights}) != 1:
        raise PlanError(f"global_magnitude compares weights of one dtype and device, not {_kinds(evidences)}")
    m = exact_count(sparsity, sum(w.numel() for w in weights))
    if m == 0:
        return [0.0] * len(weights)
    counts = select.shares([e.magnitudes for e in evidences], m)
    return [count / max(w.numel(), 1) for count, w in zip(counts, weights, strict=True)]


def _kinds(evidences: Sequence[Evidence]) -> str:
    kinds: dict[tuple[torch.dtype, torch.device], str] = {}
    for e in evidences:
        kinds.setdefault((e.weight.dtype, e.weight.device), e.name)
    return ", ".join(f"{dtype} on {device} ({name})" for (dtype, device), name in kinds.items())
