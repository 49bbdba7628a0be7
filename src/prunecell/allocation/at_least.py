"""AtLeast: a minimum density of every layer, around any allocation."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunecell.allocation.shares import Allocation, check_names, shares_within
from prunecell.checks import check_number
from prunecell.choices import by_name, check_callable
from prunecell.described import shown
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count

_CALLS = {name: f"prunecell.allocation.{name}" for name in ("global_ranking", "lamp", "erk")}


@by_name("allocation", "density", example="AtLeast(allocation=prunecell.allocation.lamp, density=0.01)")
@dataclass(frozen=True, kw_only=True, repr=False)
class AtLeast:
    """Another allocation, but every tensor keeps at least a part of its weights.

    A tensor of which too much would go gives up what it may, and the others share the rest of the budget by the same
    allocation: the total stays exact where that is.

    Args:
        allocation: of the budget.
        density: in [0, 1], the smallest part of each tensor that is kept.

    Raises:
        OptionError: when masks are filled: more is asked for than the densities leave.

    >>> from prunecell.allocation import lamp
    >>> AtLeast(allocation=lamp, density=0.01)
    AtLeast(allocation=lamp, density=0.01)
    """

    allocation: Allocation
    density: float

    def __post_init__(self) -> None:
        check_callable("allocation", self.allocation, _CALLS)
        check_number("density", self.density, low=0, high=1)

    def __repr__(self) -> str:
        return shown(self)

    def check_names(self, names: Sequence[str]) -> None:
        """See `Naming`."""
        check_names(self.allocation, names)

    def __call__(self, evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
        """The sparsity of each; see the class."""
        return shares_within(self.allocation, evidences, sparsity, [self._limit(e) for e in evidences], self)

    def _limit(self, evidence: Evidence) -> int:
        """How many weights of a tensor may go: whole groups where the filler prunes such."""
        n = evidence.weight.numel()
        size = evidence.ranked(evidence.rank).group_size if evidence.rank else 1
        return (n - exact_count(self.density, n)) // size * size
