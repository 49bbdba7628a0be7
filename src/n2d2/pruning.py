"""A PruneCell in the engine's words: its spec, and the seed of its cell."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from prunecell import Gradual, IterNonStruct, PruneSpec, Random, Static
from prunecell.bits.mask import Mask
from prunecell.evidence import Evidence
from prunecell.fillers import Filler, Traits, keep_all, traits_of
from prunecell.schedules import Schedule

Settings = Mapping[str, Any]

FILLERS: Mapping[str, Callable[[Settings], Filler]] = {
    "None": lambda settings: keep_all,  # noqa: ARG005 - the form of the table
    "Random": lambda settings: Random(),  # noqa: ARG005
    "IterNonStruct": lambda settings: IterNonStruct(delta=settings["delta"]),
}
"""`prune_filler` -> the engine's filler, from the fields of a PruneCell."""

SCHEDULES: Mapping[str, Callable[[Settings], Schedule]] = {
    "Static": lambda settings: Static(sparsity=settings["threshold"]),
    "Gradual": lambda settings: Gradual(
        sparsity=settings["threshold"],
        start=settings["start"],
        gamma=settings["gamma"],
        every_samples=settings["stepsize"] or None,
        float32=True,
    ),
}
"""`prune_mode` -> the engine's schedule, from the fields of a PruneCell; Identity has none."""


def spec_of(settings: Settings, seed: int, begun: float | None = None) -> PruneSpec | None:
    """The fields of a PruneCell as a spec; None where nothing is pruned.

    Args:
        settings: the fields.
        seed: of what is drawn.
        begun: the sparsity of masks that were read: Gradual goes on from it, and Identity holds them.
    """
    mode = settings["prune_mode"]
    if mode == "Identity":
        return None if begun is None else PruneSpec(filler=keep_all, schedule=Static(sparsity=begun), seed=seed)
    schedule = SCHEDULES[mode](settings if begun is None else {**settings, "start": begun})
    return PruneSpec(filler=FILLERS[settings["prune_filler"]](settings), schedule=schedule, seed=seed)


def of_cell(spec: PruneSpec, cell: str | None, connections: torch.Tensor | None) -> PruneSpec:
    """The spec of one cell: its seed is its own, and what is not connected is left out."""
    filler = spec.filler if connections is None else Connected(spec.filler, connections)
    return replace(spec, filler=filler, seed=cell_seed(spec.seed, cell))


def sparsity_of(mask: torch.Tensor, connections: torch.Tensor | None = None) -> float:
    """The fraction of zeros of a bool mask, of the connected weights; a float32, as N2D2's thresholds are."""
    there = mask if connections is None else mask[connections.to(mask.device)]
    return float(1 - there.float().mean()) if there.numel() else 0.0


def cell_seed(seed: int, cell: str | None) -> int:
    """The seed of one cell under the seed of a run, so that cells draw apart: the same in scripts and INI files."""
    return zlib.crc32(f"{seed}/{cell}".encode())


@dataclass(frozen=True, eq=False)
class Connected:
    """A filler of the connected weights only; unconnected ones are zero anyway, and no part of the fraction.

    Args:
        filler: what fills the mask of the connected weights.
        connections: bool, of the weight's shape.
    """

    filler: Filler
    connections: torch.Tensor = field(repr=False)

    @property
    def traits(self) -> Traits:
        """As those of the filler within; weights that are not connected do not count as pruned."""
        return replace(traits_of(self.filler), n_absent=int((~self.connections).sum()))

    def __call__(self, evidence: Evidence, sparsity: float) -> torch.Tensor:
        """Fill one mask; see the class."""
        there = self.connections
        within = replace(
            evidence,
            weight=evidence.weight[there],
            mask=Mask.from_bool(evidence.mask.to_bool()[there]),
        )
        filled = self.filler(within, sparsity)
        keep = torch.zeros_like(there)
        keep[there] = filled.to_bool() if isinstance(filled, Mask) else filled
        return keep
