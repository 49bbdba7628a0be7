"""What an allocation is, what it may say of itself, and whole numbers that sum to a budget."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import cycle
from typing import Protocol, runtime_checkable

from prunecell.described import shown
from prunecell.errors import OptionError, check_number
from prunecell.evidence import Evidence

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
