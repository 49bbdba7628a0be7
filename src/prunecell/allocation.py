"""Allocations: (evidence of all weights, sparsity) -> sparsity of each. One budget over many weights.

An allocation is any callable of that form; it sees the weights of one `PruneSpec`, in the model's order.
"""

from collections.abc import Callable, Sequence

import numpy as np

from prunecell.bits import select
from prunecell.described import shown
from prunecell.errors import OptionError, PlanError, check_number
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers import exact_count

Allocation = Callable[[Sequence[Evidence], float], Sequence[float]]


def uniform(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """Every weight tensor gets the same sparsity."""
    return [sparsity] * len(evidences)


def global_ranking(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """What the filler ranks lowest goes first: one ranking over all tensors, exact in the total count.

    Ties are broken by the order of the tensors in the model, then by index.

    Raises:
        PlanError: the filler does not rank, or the tensors are of more than one dtype or device.
    """
    rankings = [_ranking(e) for e in evidences]
    if len({(e.weight.dtype, e.weight.device) for e in evidences}) != 1:
        raise PlanError(f"global_ranking compares weights of one dtype and device, not {_kinds(evidences)}")
    sizes = [e.weight.numel() for e in evidences]
    m = exact_count(sparsity, sum(sizes))
    if m == 0:
        return [0.0] * len(evidences)
    counts = _shares(rankings, m)
    return [count * r.group_size / max(n, 1) for count, r, n in zip(counts, rankings, sizes, strict=True)]


def shares_of(allocation: Allocation, evidences: Sequence[Evidence], sparsity: float) -> list[float]:
    """What an allocation gives to each weight.

    Raises:
        OptionError: it returned something else than one number in [0, 1] for each.
    """
    shares = list(allocation(evidences, sparsity))
    if len(shares) != len(evidences):
        raise OptionError(f"{shown(allocation)} returned {len(shares)} sparsities for {len(evidences)} weights")
    for evidence, share in zip(evidences, shares, strict=True):
        check_number(f"{shown(allocation)} returned a sparsity for {evidence.name}, which", share, low=0, high=1)
    return [float(share) for share in shares]


def _ranking(evidence: Evidence) -> Ranking:
    if evidence.rank is None:
        raise PlanError(f"global_ranking needs a filler that ranks the weights of {evidence.name}, such as Lowest")
    return evidence.ranked(evidence.rank)


def _shares(rankings: Sequence[Ranking], m: int) -> list[int]:
    """How many groups of each ranking are among the lowest that make up m weights."""
    sizes = {r.group_size for r in rankings}
    if len(sizes) == 1:
        return select.shares([r.keys for r in rankings], -(-m // sizes.pop()))
    keys = np.concatenate([select.all_keys(r.keys) for r in rankings])
    owners = np.repeat(np.arange(len(rankings)), [r.n_groups for r in rankings])
    order = keys.argsort(kind="stable")
    n_weights = np.array([r.group_size for r in rankings])[owners[order]].cumsum()
    lowest = owners[order[: int(np.searchsorted(n_weights, m)) + 1]]
    return [int(n) for n in np.bincount(lowest, minlength=len(rankings))]


def _kinds(evidences: Sequence[Evidence]) -> str:
    kinds = {(e.weight.dtype, e.weight.device): e.name for e in reversed(evidences)}
    return ", ".join(f"{dtype} on {device} ({name})" for (dtype, device), name in reversed(kinds.items()))


ALLOCATIONS: dict[str, Allocation] = {"uniform": uniform, "global_ranking": global_ranking}
"""Name -> allocation; the laws of the tests run over all of them."""
