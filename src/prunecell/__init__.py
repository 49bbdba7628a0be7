"""Pruning that really makes a PyTorch model smaller: on disk, in memory, and in time on a CPU."""

from prunecell.allocation import global_magnitude, uniform
from prunecell.fillers import IterNonStruct, Magnitude, Random
from prunecell.plan import Plan, PruneSpec
from prunecell.pruner import Pruner
from prunecell.schedules import Cubic, Gradual, Static

__all__ = [
    "Cubic",
    "Gradual",
    "IterNonStruct",
    "Magnitude",
    "Plan",
    "PruneSpec",
    "Pruner",
    "Random",
    "Static",
    "global_magnitude",
    "uniform",
]
