"""Cells, and containers of cells. Those that compute are in `n2d2.cells.nn` too, as in N2D2."""

from n2d2.cells import nn
from n2d2.cells.any_cell import Cell
from n2d2.cells.cell import Cell as NeuralNetworkCell
from n2d2.cells.containers import Iterable, Layer, Sequence
from n2d2.cells.deepnet_cell import Block, DeepNetCell
from n2d2.cells.nn import *  # noqa: F403 - every name of nn.__all__, listed there
from n2d2.cells.trainable import Trainable
from n2d2.error_handler import UndefinedParameterError
from prunecell.errors import nearest

__all__ = ["Block", "Cell", "DeepNetCell", "Iterable", "Layer", "NeuralNetworkCell", "Sequence", "Trainable", "nn"]
__all__ += nn.__all__


def __getattr__(name: str) -> object:
    """Say which cell was meant."""
    raise UndefinedParameterError(f"n2d2.cells has no {name!r}{nearest(name, __all__)}")
