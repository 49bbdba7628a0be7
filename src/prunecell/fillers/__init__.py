"""Fillers: (Evidence, sparsity) -> mask. They decide which weights of one tensor are pruned.

A filler is any callable of that form; it returns a `Mask` or a bool tensor of the weight's shape (True keeps). One with
a field `traits` says more of itself, and one with a method `rank` can be ruled by a global allocation.

filler     what it may say of itself, and how many weights it prunes
lowest     Lowest, KeepZeros
n_of_m     NofM
regrowth   SET, RigL
as_n2d2    IterNonStruct, Random, keep_all
"""

from collections.abc import Callable

from prunecell.fillers.as_n2d2 import IterNonStruct, Random, float32_count, keep_all
from prunecell.fillers.filler import (
    Bounded,
    Described,
    Filler,
    Grouping,
    Ranks,
    Traits,
    exact_count,
    prune_smallest,
    rank_of,
    traits_of,
)
from prunecell.fillers.lowest import KeepZeros, Lowest
from prunecell.fillers.n_of_m import NofM
from prunecell.fillers.regrowth import SET, RigL

__all__ = [
    "FILLERS",
    "SET",
    "Bounded",
    "Described",
    "Filler",
    "Grouping",
    "IterNonStruct",
    "KeepZeros",
    "Lowest",
    "NofM",
    "Random",
    "Ranks",
    "RigL",
    "Traits",
    "exact_count",
    "float32_count",
    "keep_all",
    "prune_smallest",
    "rank_of",
    "traits_of",
]

FILLERS: dict[str, Filler | Callable[[], Filler]] = {
    "Lowest": Lowest,
    "KeepZeros": KeepZeros,
    "NofM": NofM,
    "SET": SET,
    "RigL": RigL,
    "IterNonStruct": IterNonStruct,
    "Random": Random,
    "keep_all": keep_all,
}
"""Name -> filler: a class, or a function that is one itself."""
