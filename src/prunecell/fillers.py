"""Fillers: (Evidence, sparsity) -> mask. They decide which weights of one tensor are pruned.

A filler is any callable of that form; it returns a `Mask` or a bool tensor of the weight's shape (True keeps). One with
a field `traits` says more of itself, and one with a method `rank` can be ruled by a global allocation.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from prunecell.bits import select
from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys, Scores, key_at_most, value_of_key
from prunecell.choices import by_name, check_callable, example_of
from prunecell.criteria import CRITERIA, Criterion, keys_of, magnitude, n_gradients_of, needs_of, random, revives
from prunecell.described import shown
from prunecell.errors import check_number
from prunecell.evidence import Evidence, Needs, Rank, Ranking
from prunecell.granularity import SINGLE, Granularity, check_granularity

Filler = Callable[[Evidence, float], Mask | Tensor]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the Pruner must know of a filler.

    Attributes:
        needs: what it looks at beside the values.
        n_gradients: of how many steps before an update it needs the gradients, each by itself.
        revives: whether it looks at pruned weights again and may revive some, so their hidden values are kept.
        n_absent: how many weights it masks that do not exist in the network (missing connections): they do not count.
    """

    needs: Needs = Needs.NOTHING
    n_gradients: int = 0
    revives: bool = False
    n_absent: int = 0


@runtime_checkable
class Described(Protocol):
    """A filler that says more of itself."""

    @property
    def traits(self) -> Traits:
        """What the Pruner must know."""
        ...


@runtime_checkable
class Ranks(Protocol):
    """A filler that prunes the lowest of a ranking, which an allocation may look at."""

    def rank(self, evidence: Evidence) -> Ranking:
        """The order in which it prunes."""
        ...


def traits_of(filler: Filler) -> Traits:
    """What a filler says of itself; a plain function has no wishes."""
    return filler.traits if isinstance(filler, Described) else Traits()


def rank_of(filler: Filler) -> Rank | None:
    """How a filler ranks the weights, if it does."""
    return filler.rank if isinstance(filler, Ranks) else None


@by_name("criterion", "granularity", "revives", example="Lowest()")
@dataclass(frozen=True, kw_only=True, repr=False)
class Lowest:
    """Prune what scores lowest by a criterion: the exact count, ties by index.

    Prunes the fewest groups whose weights make up the sparsity: with single weights, the smallest m with
    m / n >= sparsity. NaN scores highest.

    Args:
        criterion: Evidence -> scores, higher keeps.
        granularity: which weights live and die together.
        revives: whether pruned weights are judged by their hidden values at the next filling, and may come back
            (Zhu & Gupta 2017, https://arxiv.org/abs/1710.01878, let them); otherwise they are zeros and stay pruned.
            None: as the criterion's authors do it; of ours only `movement` revives.

    >>> import torch
    >>> from prunecell import PruneSpec, Pruner, Static
    >>> net = torch.nn.Linear(10, 10)
    >>> Pruner(net, PruneSpec(filler=Lowest(), schedule=Static(sparsity=0.9))).masks["weight"].sum().item()
    10
    """

    criterion: Criterion = magnitude
    granularity: Granularity = SINGLE
    revives: bool | None = None

    def __post_init__(self) -> None:
        calls = {name: example_of(value, "prunecell.criteria") for name, value in CRITERIA.items()}
        check_callable("criterion", self.criterion, calls)
        check_granularity(self.granularity)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def traits(self) -> Traits:
        """See `Described`."""
        may_revive = revives(self.criterion) if self.revives is None else self.revives
        return Traits(needs=needs_of(self.criterion), n_gradients=n_gradients_of(self.criterion), revives=may_revive)

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        keys = keys_of(self.criterion, evidence)
        if isinstance(keys, Scores) and not self.traits.revives and evidence.mask.n_pruned:
            keys = keys.after(evidence.mask)
        groups = self.granularity.group(keys)
        return Ranking(keys=groups, group_size=evidence.weight.numel() // max(groups.shape.numel(), 1))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        ranking = evidence.ranked(self.rank)
        groups = prune_smallest(ranking.keys, exact_count(sparsity, ranking.n_groups))
        return self.granularity.spread(groups, evidence.weight.shape)


@by_name(example="KeepZeros()")
@dataclass(frozen=True, kw_only=True)
class KeepZeros:
    """Prune what is zero already, and the smallest magnitudes beside it where more is asked for.

    For a model that is sparse before it comes here, and is to be trained on: `Static(sparsity=0)` keeps its zeros.
    """

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        return Ranking(keys=magnitude(evidence))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        n = evidence.weight.numel()
        n_zero = n - int(evidence.weight.count_nonzero())
        return prune_smallest(evidence.ranked(self.rank).keys, max(n_zero, exact_count(sparsity, n)))


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


def prune_smallest(keys: Keys, m: int) -> Mask:
    """The mask that prunes the m smallest keys, ties by index (C order)."""
    if m == 0:
        return Mask.full(keys.shape, keys.device)
    cut = select.smallest([keys], m)
    return select.prune_up_to(keys, cut, m - cut.n_below)


def exact_count(sparsity: float, n: int) -> int:
    """The smallest m with m / n >= sparsity.

    >>> exact_count(0.07, 100), exact_count(0.9, 7), exact_count(0.5, 0)
    (7, 7, 0)
    """
    m = math.ceil(sparsity * n)
    return m - 1 if m and (m - 1) / n >= sparsity else m


def float32_count(sparsity: float, n: int) -> int:
    """The smallest m with m / n >= sparsity where all three are float32, as N2D2 compares them."""
    wanted, size = np.float32(sparsity), np.float32(n)
    return min(bisect_left(range(n + 1), x=True, key=lambda m: bool(np.float32(m) / size >= wanted)), n)


FILLERS: dict[str, Filler | Callable[[], Filler]] = {
    "Lowest": Lowest,
    "KeepZeros": KeepZeros,
    "IterNonStruct": IterNonStruct,
    "Random": Random,
    "keep_all": keep_all,
}
"""Name -> filler: a class, or a function that is one itself."""
