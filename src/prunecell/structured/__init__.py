"""Structured pruning that removes: whole units go, and an ordinary smaller model stays.

spec        how many units go, and which
places      where units stand in tensors, and whether they may change places
resizing    load_model: a model with the shapes of a file
running     a copy of a model is run
inputs      other inputs than the example, of its kind
ways        where its code decides by values, it goes the other way, too
alike       whether a model is the same when units change places, in all of these ways
coupled     which units go together, from torch-pruning's dependency graph
removal     remove_
optimizers  an optimizer's state, carried over
report      what became smaller
"""

from prunecell.structured.removal import remove_
from prunecell.structured.report import Removal
from prunecell.structured.resizing import load_model
from prunecell.structured.spec import RemoveSpec

__all__ = ["Removal", "RemoveSpec", "load_model", "remove_"]
