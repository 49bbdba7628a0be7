"""ERK: densities by the sizes of the dimensions."""

from collections.abc import Sequence
from fractions import Fraction

from prunecell.allocation.shares import apportioned, sparsities
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count


def erk(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """Densities in proportion to (sum of the sizes of all dimensions) / (their product), exact in the total count.

    Large layers become sparse and small ones stay dense: of a matrix the density is e (n_in + n_out) / (n_in n_out), of
    a kernel of a convolution e (n_in + n_out + height + width) / (n_in n_out height width). The factor e is such that
    the total is met; densities above 1 become 1. Nothing is looked at but the shapes.

    Source: Erdos-Renyi (Mocanu 2018, https://arxiv.org/abs/1707.04780), with kernels (Evci 2020,
    https://arxiv.org/abs/1911.11134).
    """
    sizes = [e.weight.numel() for e in evidences]
    ratios = [Fraction(sum(e.weight.shape), max(size, 1)) for e, size in zip(evidences, sizes, strict=True)]
    n_kept = sum(sizes) - exact_count(sparsity, sum(sizes))
    kept = apportioned(_kept(ratios, sizes, n_kept), sizes, n_kept)
    return sparsities(kept, sizes)


def _kept(ratios: Sequence[Fraction], sizes: Sequence[int], n_kept: int) -> list[Fraction]:
    """How many weights of each are kept, not whole: in proportion to ratio times size, at most the size."""
    dense: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in dense]
        weight = sum(ratios[i] * sizes[i] for i in free)
        factor = Fraction(n_kept - sum(sizes[i] for i in dense)) / (weight or 1)
        above = [i for i in free if factor * ratios[i] > 1]
        if not above:
            return [Fraction(size) if i in dense else factor * ratios[i] * size for i, size in enumerate(sizes)]
        dense.update(above)
