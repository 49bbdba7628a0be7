"""What an allocation is, what it may say of itself, and whole numbers that sum to a budget."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import cycle
from typing import Protocol, runtime_checkable

from prunecell.checks import check_number
from prunecell.described import shown
from prunecell.errors import OptionError
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count

Allocation = Callable[[Sequence[Evidence], float], Sequence[float]]


@runtime_checkable
class Naming(Protocol):
    """An allocation that calls weights by their names."""

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names of weights that it was not made for, before anything is pruned."""
        ...


def check_names(allocation: Allocation, names: Sequence[str]) -> None:
    """Let an allocation that calls weights by their names see all of them.

    Raises:
        PlanError: it does not fit them.
    """
    if isinstance(allocation, Naming):
        allocation.check_names(names)


def uniform(evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
    """Every weight tensor gets the same sparsity."""
    return [sparsity] * len(evidences)


def shares_of(allocation: Allocation, evidences: Sequence[Evidence], sparsity: float) -> list[float]:
    """What an allocation gives to each weight.

    Raises:
        OptionError: it returned something else than one number in [0, 1] for each.
    """
    shares = list(allocation(evidences, sparsity))
    if len(shares) != len(evidences):
        raise OptionError(f"{shown(allocation)} returned {len(shares)} sparsities for {len(evidences)} weights")
    for evidence, share in zip(evidences, shares, strict=True):
        check_number(f"{shown(allocation)} returned a sparsity for {evidence.name}, which", share, low=0, high=1)
    return [float(share) for share in shares]


def shares_within(
    allocation: Allocation, evidences: Sequence[Evidence], sparsity: float, limits: Sequence[int], bound: object
) -> list[float]:
    """What an allocation gives to each weight, where not all may go that it would prune.

    A weight of which too much would go gives up what it may, and the others share the rest of the budget by the same
    allocation: the total stays exact where that is.

    Args:
        allocation: of the budget.
        evidences: of all weights.
        sparsity: of all together.
        limits: how many numbers of each weight may go.
        bound: what sets the limits, for the message.

    Raises:
        OptionError: more is asked for than all limits together; or as `shares_of` does.
    """
    sizes = [e.weight.numel() for e in evidences]
    n_left = exact_count(sparsity, sum(sizes))
    if n_left > sum(limits):
        raise OptionError(
            f"sparsity={sparsity:g} is illegal: {shown(bound)} can prune {sum(limits) / sum(sizes):.4g} at most"
        )
    found = [limit / max(size, 1) for limit, size in zip(limits, sizes, strict=True)]
    free = list(range(len(sizes)))
    while free:
        budget = max(n_left, 0) / max(sum(sizes[i] for i in free), 1)
        shares = shares_of(allocation, [evidences[i] for i in free], budget)
        within = [i for i, share in zip(free, shares, strict=True) if exact_count(share, sizes[i]) <= limits[i]]
        if within == free:
            for i, share in zip(free, shares, strict=True):
                found[i] = share
            break
        n_left -= sum(limits[i] for i in free if i not in within)
        free = within
    return found


def apportioned(wanted: Sequence[Fraction | float], sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers that sum to `total`, each at most its size: those wanted, the largest remainders rounded up.

    Args:
        wanted: >= 0, numbers whose whole parts sum to `total` at most.
        sizes: that sum to `total` at least.
        total: >= 0.

    >>> apportioned([1.5, 2.7, 0.8], [9, 9, 9], 5)
    [1, 3, 1]
    """
    counts = [min(int(number), size) for number, size in zip(wanted, sizes, strict=True)]
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - wanted[i])
    for i in cycle(by_remainder) if sum(counts) < total else ():
        counts[i] += counts[i] < sizes[i]
        if sum(counts) == total:
            break
    return counts


def sparsities(kept: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """How many weights of each are kept -> the sparsities that give exactly these counts back."""
    return [(size - count) / max(size, 1) for count, size in zip(kept, sizes, strict=True)]
