"""Pruning that really makes a PyTorch model smaller: on disk, in memory, and in time on a CPU."""

from prunecell.allocation import global_magnitude, uniform
from prunecell.archive import Archive, load, save
from prunecell.checkpoint import Checkpoint
from prunecell.errors import PrunecellError
from prunecell.files import pack, unpack
from prunecell.fillers import IterNonStruct, Magnitude, Random
from prunecell.plan import Plan, PruneSpec
from prunecell.pruner import Pruner
from prunecell.schedules import Cubic, Gradual, Static
from prunecell.sharing import share_
from prunecell.sparse import compact_, tune_runtime
from prunecell.training import Task, evaluate, fit

__all__ = [
    "Archive",
    "Checkpoint",
    "Cubic",
    "Gradual",
    "IterNonStruct",
    "Magnitude",
    "Plan",
    "PruneSpec",
    "PrunecellError",
    "Pruner",
    "Random",
    "Static",
    "Task",
    "compact_",
    "evaluate",
    "fit",
    "global_magnitude",
    "load",
    "pack",
    "save",
    "share_",
    "tune_runtime",
    "uniform",
    "unpack",
]
