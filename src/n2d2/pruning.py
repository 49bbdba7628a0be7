"""A PruneCell in the engine's words: its spec, and the seed of its cell."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from n2d2.connected import connected
from prunecell import Gradual, IterNonStruct, PruneSpec, Random, Static
from prunecell.fillers import Filler, keep_all
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


def of_cell(spec: PruneSpec, cell: str | None, connections: Mapping[str, torch.Tensor]) -> PruneSpec:
    """The spec of one cell: its seed is its own, and what is not connected is left out."""
    return connected(replace(spec, seed=cell_seed(spec.seed, cell)), connections)


def sparsity_of(mask: torch.Tensor, connections: torch.Tensor | None = None) -> float:
    """The fraction of zeros of a bool mask, of the connected weights; a float32, as N2D2's thresholds are."""
    there = mask if connections is None else mask[connections.to(mask.device)]
    return float(1 - there.float().mean()) if there.numel() else 0.0


def cell_seed(seed: int, cell: str | None) -> int:
    """The seed of one cell under the seed of a run, so that cells draw apart: the same in scripts and INI files."""
    return zlib.crc32(f"{seed}/{cell}".encode())
