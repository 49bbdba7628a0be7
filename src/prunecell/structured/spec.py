"""RemoveSpec: which units of a model are removed, and how many."""

from dataclasses import dataclass

from prunecell.allocation import ALLOCATIONS, Allocation, uniform
from prunecell.checks import check_count, check_number
from prunecell.choices import by_name, check_callable, example_of
from prunecell.criteria import CRITERIA, Criterion, magnitude
from prunecell.described import shown
from prunecell.errors import OptionError


@by_name("flops", example="RemoveSpec(flops=0.5)")
@dataclass(frozen=True, kw_only=True, repr=False)
class RemoveSpec:
    """How units are removed: filters, channels, heads and hidden units.

    The score of a unit is the mean of the criterion's scores over its rows, in all layers that it is in.

    Args:
        flops: the fraction of the multiplications with weights that may stay, in (0, 1]; or
        sparsity: the fraction of the units of each group that goes, in [0, 1). One of the two must be given.
        criterion: Evidence -> scores, higher keeps (Li et al. 2017, https://arxiv.org/abs/1608.08710, take magnitudes).
        allocation: how one sparsity is shared by the groups. `uniform`: the same share of each. `global_ranking`: one
            ranking over all, of scores that are divided by their mean in the group, so that layers can be compared.
        multiple_of: >= 1; the number of units that stay is a multiple of it, where there were as many. More are kept
            then than were asked for.

    >>> RemoveSpec(flops=0.5).allocation.__name__
    'uniform'
    """

    flops: float | None = None
    sparsity: float | None = None
    criterion: Criterion = magnitude
    allocation: Allocation = uniform
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if (self.flops is None) == (self.sparsity is None):
            raise OptionError("RemoveSpec needs flops or sparsity, and not both: for example RemoveSpec(flops=0.5)")
        if self.flops is not None:
            check_number("flops", self.flops, low=0, high=1, open_low=True)
        if self.sparsity is not None:
            check_number("sparsity", self.sparsity, low=0, high=1)
        criteria = {name: example_of(value, "prunecell.criteria") for name, value in CRITERIA.items()}
        check_callable("criterion", self.criterion, criteria)
        allocations = {name: example_of(value, "prunecell.allocation") for name, value in ALLOCATIONS.items()}
        check_callable("allocation", self.allocation, allocations)
        check_count("multiple_of", self.multiple_of, low=1)

    def __repr__(self) -> str:
        return shown(self)
