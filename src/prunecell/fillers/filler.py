"""What a filler is and may say of itself, and how many weights it prunes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from prunecell.bits import select
from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys
from prunecell.evidence import Evidence, Needs, Rank, Ranking

Filler = Callable[[Evidence, float], Mask | Tensor]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the Pruner must know of a filler.

    Attributes:
        needs: what it looks at beside the values.
        n_gradients: of how many steps before an update it needs the gradients, each by itself.
        needs_at_first: whether it needs that for its first filling too, which otherwise comes at once.
        revives: whether it looks at pruned weights again and may revive some, so their hidden values are kept.
        grows: whether it lets pruned weights come back, at zero.
        n_absent: name of a weight tensor -> how many of its weights it masks because they do not exist in the network
            (missing connections): they do not count.
    """

    needs: Needs = Needs.NOTHING
    n_gradients: int = 0
    needs_at_first: bool = True
    revives: bool = False
    grows: bool = False
    n_absent: Mapping[str, int] = field(default_factory=dict)


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


@runtime_checkable
class Grouping(Protocol):
    """A filler whose weights live and die together in groups."""

    def group_size(self, shape: torch.Size) -> int:
        """How many weights of a tensor of that shape are in a group; an OptionError where it cannot be grouped."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A filler that cannot prune any number of weights."""

    def most(self, name: str, shape: torch.Size) -> int:
        """How many weights of a tensor it can prune at most; an OptionError where it can prune none so."""
        ...


def traits_of(filler: Filler) -> Traits:
    """What a filler says of itself; a plain function has no wishes."""
    return filler.traits if isinstance(filler, Described) else Traits()


def rank_of(filler: Filler) -> Rank | None:
    """How a filler ranks the weights, if it does."""
    return filler.rank if isinstance(filler, Ranks) else None


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
