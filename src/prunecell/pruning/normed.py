"""Weights that their layer divides by a norm: in no slice may a mask prune all that is not zero.

Weight norm computes g v / |v|. Where all of v is 0, that is 0 / 0, and the output is NaN.
"""

import warnings

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count


def spared(mask: Mask, evidence: Evidence, dims: tuple[int, ...], sparsity: float) -> Mask:
    """The mask, changed so that every slice keeps its largest weight if it kept none.

    Where weights are pruned one by one, as many others are pruned instead, those that rank lowest.

    Args:
        mask: that a filler returned.
        evidence: of the weight.
        dims: along which the slices lie; () is the whole weight.
        sparsity: that was asked for.

    Warns:
        RuntimeWarning: less is pruned than was asked for.
    """
    weight = evidence.weight
    keep, sizes = _in_slices(mask.to_bool(), dims), _in_slices(weight.abs(), dims)
    starved = _starved(keep, sizes)
    if not bool(starved.any()):
        return mask
    keep |= _largest(sizes) & starved.unsqueeze(1)
    may_go = _back(keep & ~_largest(sizes.masked_fill(~keep, -1)), weight, dims)
    mask = Mask.from_bool(_back(keep, weight, dims))
    n_missing = exact_count(sparsity, weight.numel()) - mask.n_pruned
    if n_missing > 0:
        mask = _prune_more(mask, evidence, may_go, n_missing)
    if mask.n_pruned < exact_count(sparsity, weight.numel()):
        warnings.warn(
            f"{mask.n_pruned / weight.numel():.2%} of {evidence.name} is pruned, not {sparsity:.2%}: its layer divides"
            f" {f'each slice along {dims}' if dims else 'it'} by its norm, so one weight of it is kept; to prune whole"
            " slices, remove the norm first (torch.nn.utils.parametrize.remove_parametrizations, or"
            " torch.nn.utils.remove_weight_norm)",
            RuntimeWarning,
            stacklevel=2,
        )
    return mask


def n_starved(mask: Mask, weight: Tensor, dims: tuple[int, ...]) -> int:
    """How many slices a mask leaves without a weight that is not zero."""
    return int(_starved(_in_slices(mask.to_bool(), dims), _in_slices(weight.detach().abs(), dims)).sum())


def _starved(keep: Tensor, sizes: Tensor) -> Tensor:
    """Of which slices nothing is kept that is not zero, though there is something."""
    return sizes.ne(0).any(1) & ~(sizes.ne(0) & keep).any(1)


def _largest(sizes: Tensor) -> Tensor:
    """True at the largest of each slice, and nowhere else."""
    largest = torch.zeros_like(sizes, dtype=torch.bool)
    return largest.scatter_(1, sizes.argmax(1, keepdim=True), value=True)


def _prune_more(mask: Mask, evidence: Evidence, may_go: Tensor, n: int) -> Mask:
    """Prune n more, the lowest of the filler's ranking, if it ranks single weights."""
    ranking = evidence.ranked(evidence.rank) if evidence.rank else None
    if ranking is None or ranking.group_size > 1:
        return mask
    index = may_go.flatten().nonzero().squeeze(1)
    lowest = index[ranking.keys.at(index).topk(min(n, len(index)), largest=False).indices]
    keep = mask.to_bool()
    keep.view(-1)[lowest] = False
    return Mask.from_bool(keep)


def _in_slices(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(...) -> (slices, weights of a slice)."""
    moved = tensor.movedim(dims, tuple(range(len(dims)))) if dims else tensor.unsqueeze(0)
    return moved.flatten(0, max(len(dims) - 1, 0)).reshape(moved.shape[: max(len(dims), 1)].numel(), -1)


def _back(slices: Tensor, like: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(slices, weights of a slice) -> the shape of `like`."""
    if not dims:
        return slices.view(like.shape)
    rest = [size for dim, size in enumerate(like.shape) if dim not in dims]
    return slices.view([*(like.shape[dim] for dim in dims), *rest]).movedim(tuple(range(len(dims))), dims)
