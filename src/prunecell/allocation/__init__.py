"""Allocations: (evidence of all weights, sparsity) -> sparsity of each. One budget over many weights.

An allocation is any callable of that form; it sees the weights of one `PruneSpec`, in the model's order.

shares        uniform, and what all have in common
ranked        global_ranking, lamp
erdos_renyi   erk
per_layer     PerLayer
at_least      AtLeast
"""

from collections.abc import Callable

from prunecell.allocation.at_least import AtLeast
from prunecell.allocation.erdos_renyi import erk
from prunecell.allocation.per_layer import PerLayer
from prunecell.allocation.ranked import global_ranking, lamp
from prunecell.allocation.shares import Allocation, Naming, check_names, shares_of, shares_within, uniform

__all__ = [
    "ALLOCATIONS",
    "Allocation",
    "AtLeast",
    "Naming",
    "PerLayer",
    "check_names",
    "erk",
    "global_ranking",
    "lamp",
    "shares_of",
    "shares_within",
    "uniform",
]

ALLOCATIONS: dict[str, Allocation | Callable[..., Allocation]] = {
    "uniform": uniform,
    "global_ranking": global_ranking,
    "erk": erk,
    "lamp": lamp,
    "PerLayer": PerLayer,
    "AtLeast": AtLeast,
}
"""Name -> allocation: a function that is one, or a class; the laws of the tests run over all of them."""
