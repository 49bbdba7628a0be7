"""N2D2's fillers, which count in float32 as it does."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunecell.bits import select
from prunecell.bits.mask import Mask
from prunecell.bits.order import key_at_most, value_of_key
from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.criteria import magnitude, random
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers.filler import Traits, prune_smallest


@by_name("delta", example="IterNonStruct(delta=0.001)")
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
    traits: ClassVar[Traits] = Traits(revives=True)

    def __post_init__(self) -> None:
        check_number("delta", self.delta, low=0, open_low=True)

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        return Ranking(keys=magnitude(evidence))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        dtype, keys = evidence.weight.dtype, evidence.ranked(self.rank).keys
        m = float32_count(sparsity, keys.shape.numel())
        edge = key_at_most(self.edge(value_of_key(select.smallest([keys], m).key, dtype)), dtype) if m else 0
        return select.prune_up_to(keys, select.Cut(edge + 1, 0), n_ties=0)

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


@by_name(example="Random()")
@dataclass(frozen=True, kw_only=True)
class Random:
    """N2D2's random filler: prune weights uniformly, to a count in float32.

    After a filling max(already pruned, ceil(fl32(sparsity n))) weights are pruned: N2D2's count, whose product is
    a float32 (0.3 of 840 gives 253). Weights pruned before stay pruned; exact zeros go first, so that pruning a
    sparse tensor further ends at the sparsity asked for.
    """

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        return Ranking(keys=random(evidence))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        n = evidence.weight.numel()
        wanted = min(math.ceil(np.float32(sparsity) * np.float32(n)), n)
        return prune_smallest(evidence.ranked(self.rank).keys, max(wanted, evidence.mask.n_pruned))


def keep_all(evidence: Evidence, sparsity: float) -> Mask:  # noqa: ARG001 - the form of a filler
    """N2D2's filler None: nothing is pruned, whatever the sparsity."""
    return evidence.mask


def float32_count(sparsity: float, n: int) -> int:
    """The smallest m with m / n >= sparsity where all three are float32, as N2D2 compares them."""
    wanted, size = np.float32(sparsity), np.float32(n)
    return min(bisect_left(range(n + 1), x=True, key=lambda m: bool(np.float32(m) / size >= wanted)), n)
