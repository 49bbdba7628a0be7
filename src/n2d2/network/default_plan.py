"""The section `[prunecell.Plan]`, which N2D2 has not: the whole network is pruned by prunecell's default plan."""

from dataclasses import dataclass

from n2d2.cells.weight_cell import WeightCell
from n2d2.fields import count, number
from n2d2.ini import Document, IniError
from n2d2.network.graph import Graph
from n2d2.network.layers import PRUNABLE
from n2d2.network.parameters import configured
from prunecell.errors import some

PLAN_SECTION = "prunecell.Plan"


@dataclass(frozen=True, kw_only=True)
class DefaultPlan:
    """How far and how fast the network is pruned while it learns; see `prunecell.default_plan`.

    Attributes:
        sparsity: `Sparsity`, in (0, 1], of all weights of Conv, Deconv and Fc cells together, but for those cells that
            are left dense.
        epochs: `Epochs`, >= 1, that the network learns; the sparsity grows over the first six tenths of them.
    """

    sparsity: float = number(0.95, low=0, high=1, open_low=True)
    epochs: int = count(10, low=1)


def read_default_plan(document: Document, graph: Graph) -> DefaultPlan | None:
    """Read the section; None where it is not there.

    Raises:
        IniError: a value is illegal, a cell is pruned by its own QWeight too, or there is nothing to prune.
    """
    section = document.get(PLAN_SECTION)
    if section is None:
        return None
    if graph.quantizers:
        cells = some(f"[{name}]" for name in graph.quantizers)
        problem = f"prunes the whole network, and {cells} by QWeight=Prune too: leave out one of the two"
        raise IniError(f"{section}{problem}", section.place)
    if not any(isinstance(cell, WeightCell) for cell in graph.cells.values()):
        raise IniError(f"{section}there is nothing to prune: no cell is a {' or '.join(PRUNABLE)}", section.place)
    return configured(section, DefaultPlan)
