"""One ranking over the weights of all tensors: of the filler's keys, or of LAMP's scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from prunecell.bits import select
from prunecell.bits.order import Scores
from prunecell.errors import PlanError
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers import exact_count


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


def lamp(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """Magnitudes beside those that would be left: one ranking over all tensors, exact in the total count (Lee 2021).

    The score of a weight is w^2 over the sum of v^2 of all v of its tensor that are not smaller. The largest of each
    tensor scores 1, so none is emptied before all others hold one weight. How many weights of each tensor are among
    the lowest is its share; which ones go, the filler decides. Zeros score 0, NaN and inf 1.

    Source: Layer-adaptive sparsity for the magnitude-based pruning, https://arxiv.org/abs/2010.07611, equation 5.
    """
    sizes = [e.weight.numel() for e in evidences]
    m = exact_count(sparsity, sum(sizes))
    if m == 0:
        return [0.0] * len(evidences)
    counts = select.shares([Scores(_lamp_scores(e.weight)) for e in evidences], m)
    return [count / max(n, 1) for count, n in zip(counts, sizes, strict=True)]


def _lamp_scores(weight: Tensor) -> Tensor:
    """The scores of a tensor, float64, ascending."""
    values = weight.detach().double().reshape(-1)
    finite = values[values.isfinite()].abs()
    scaled = (finite / finite.max()).nan_to_num() if len(finite) else finite  # so that no square is infinite
    squares = _ascending(scaled).square_()
    scores = squares.div_(squares.flip(0).cumsum_(0).flip(0)).nan_to_num_()
    return torch.cat([scores, scores.new_ones(len(values) - len(finite))])


def _ascending(values: Tensor) -> Tensor:
    """Sorted; on the CPU by numpy, which takes a seventh of torch's time."""
    if values.is_cpu and type(values) is Tensor:
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values


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
