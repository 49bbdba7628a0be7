"""Missing connections, which only N2D2 has: their weights are zero anyway, and no part of what is pruned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from prunecell.allocation import Allocation
from prunecell.bits.mask import Mask
from prunecell.evidence import Evidence
from prunecell.fillers import Filler, Traits, traits_of
from prunecell.plan.spec import PruneSpec

Connections = Mapping[str, torch.Tensor]
"""Name of a weight tensor, where some connections are missing -> which are there: bool, of its shape."""


def connected(spec: PruneSpec, connections: Connections) -> PruneSpec:
    """The same spec, for the weights that are connected."""
    if not connections:
        return spec
    filler, allocation = Connected(spec.filler, connections), ConnectedShares(spec.allocation, connections)
    return replace(spec, filler=filler, allocation=allocation)


@dataclass(frozen=True, eq=False)
class Connected:
    """A filler of the connected weights only.

    Args:
        filler: what fills the mask of the connected weights.
        connections: of the weights that have not all.
    """

    filler: Filler
    connections: Connections = field(repr=False)

    @property
    def traits(self) -> Traits:
        """As those of the filler within; weights that are not connected do not count as pruned."""
        absent = {name: int((~there).sum()) for name, there in self.connections.items()}
        return replace(traits_of(self.filler), n_absent=absent)

    def __call__(self, evidence: Evidence, sparsity: float) -> torch.Tensor | Mask:
        """Fill one mask; see the class."""
        filled = self.filler(_within(evidence, self.connections), sparsity)
        there = self.connections.get(evidence.name)
        if there is None:
            return filled
        keep = torch.zeros_like(there)
        keep[there] = filled.to_bool() if isinstance(filled, Mask) else filled
        return keep


@dataclass(frozen=True, eq=False)
class ConnectedShares:
    """An allocation that divides a budget of the connected weights only.

    Args:
        allocation: what divides it.
        connections: of the weights that have not all.
    """

    allocation: Allocation
    connections: Connections = field(repr=False)

    def __call__(self, evidences: Sequence[Evidence], sparsity: float) -> Sequence[float]:
        """The sparsity of each; see the class."""
        return self.allocation([_within(evidence, self.connections) for evidence in evidences], sparsity)


def _within(evidence: Evidence, connections: Connections) -> Evidence:
    """What is known of the weights that are connected, in one row."""
    there = connections.get(evidence.name)
    if there is None:
        return evidence
    return replace(evidence, weight=evidence.weight[there], mask=Mask.from_bool(evidence.mask.to_bool()[there]))
