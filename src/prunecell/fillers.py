"""Fillers: (Evidence, sparsity) -> mask. They decide which weights of one tensor are pruned.

A filler is any callable of that form; it returns a `Mask` or a bool tensor of the weight's shape (True keeps). One
that wants to look at pruned weights again, and so may revive some, has an attribute `revives = True`; one that masks
weights which do not exist in the network (missing connections) has their number as `n_absent`: they do not count.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from prunecell.bits import select
from prunecell.bits.mask import Mask
from prunecell.bits.order import Draws, Keys, key_at_most, value_of_key
from prunecell.errors import check_number
from prunecell.evidence import Evidence

Filler = Callable[[Evidence, float], Mask | Tensor]


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """Prune the weights of smallest magnitude: the exact count, ties by index.

    Prunes the smallest m with m / n >= sparsity. NaN and inf count as the largest magnitudes.

    Args:
        revives: whether pruned weights are judged by their hidden values at the next filling, and may come back
            (Zhu & Gupta 2017, https://arxiv.org/abs/1710.01878, let them); otherwise they are zeros and stay pruned.

    >>> from prunecell import PruneSpec, Pruner, Static
    >>> net = torch.nn.Linear(10, 10)
    >>> Pruner(net, PruneSpec(filler=Magnitude(), schedule=Static(sparsity=0.9))).masks["weight"].sum().item()
    10
    """

    revives: bool = False

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        return prune_smallest(evidence.magnitudes, exact_count(sparsity, evidence.weight.numel()))


@dataclass(frozen=True, kw_only=True)
class IterNonStruct:
    """N2D2's iterative filler: prune all weights up to the first multiple of `delta` that prunes enough.

    With the smallest whole k >= 1 such that count(|w| <= fl32(delta k)) / n >= sparsity, in float32, the mask keeps
    |w| > fl32(delta k); at sparsity 0 only exact zeros are pruned. So ties and a coarse delta prune more than was
    asked. It is computed in closed form, from the m-th smallest magnitude. NaN and inf are never pruned. Pruned
    weights may come back.

    Args:
        delta: > 0, the step of the search.
    """

    delta: float = 0.001
    revives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("delta", self.delta, low=0, open_low=True)

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        dtype, weight = evidence.weight.dtype, evidence.magnitudes
        m = float32_count(sparsity, weight.shape.numel())
        edge = key_at_most(self.edge(value_of_key(select.smallest([weight], m).key, dtype)), dtype) if m else 0
        return select.prune_up_to(weight, select.Cut(edge + 1, 0), n_ties=0)

    def edge(self, value: float) -> float:
        """The smallest fl32(delta k), k >= 1 whole, that is not below `value` >= 0 (NaN counts as inf).

        Beyond k = 2^62 the multiples lie closer than float32s do: there the edge is the value itself.
        """
        if math.isnan(value):
            return math.inf
        delta = np.float32(self.delta)
        with np.errstate(over="ignore"):
            k = bisect_left(range(1 << 62), x=True, lo=1, key=lambda k: float(delta * np.float32(k)) >= value)
            return max(float(delta * np.float32(k)), value)


@dataclass(frozen=True, kw_only=True)
class Random:
    """Prune weights at random, uniformly, to an exact count.

    After a filling max(already pruned, ceil(fl32(sparsity n))) weights are pruned: N2D2's count, whose product is
    a float32 (0.3 of 840 gives 253). Weights pruned before stay pruned; exact zeros go first, so that pruning a
    sparse tensor further ends at the sparsity asked for.
    """

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        n = evidence.weight.numel()
        wanted = min(math.ceil(np.float32(sparsity) * np.float32(n)), n)
        seed = int(torch.randint(1 << 62, (), generator=evidence.generator))
        draws = Draws(evidence.weight, evidence.mask, seed)
        return prune_smallest(draws, max(wanted, evidence.mask.n_pruned))


def keep_all(evidence: Evidence, sparsity: float) -> Mask:  # noqa: ARG001 - the form of a filler
    """N2D2's filler None: nothing is pruned, whatever the sparsity."""
    return evidence.mask


def prune_smallest(weight: Keys, m: int) -> Mask:
    """The mask that prunes the m smallest keys, ties by index (C order)."""
    if m == 0:
        return Mask.full(weight.shape, weight.device)
    cut = select.smallest([weight], m)
    return select.prune_up_to(weight, cut, m - cut.n_below)


def exact_count(sparsity: float, n: int) -> int:
    """The smallest m with m / n >= sparsity.

    >>> exact_count(0.07, 100), exact_count(0.9, 7), exact_count(0.5, 0)
    (7, 7, 0)
    """
    m = math.ceil(sparsity * n)
    return m - 1 if m and (m - 1) / n >= sparsity else m


def float32_count(sparsity: float, n: int) -> int:
    """The smallest m with m / n >= sparsity where all three are float32, as N2D2 compares them."""
    threshold, size = np.float32(sparsity), np.float32(n)
    return min(bisect_left(range(n + 1), x=True, key=lambda m: bool(np.float32(m) / size >= threshold)), n)
