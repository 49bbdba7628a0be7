"""Cells, and containers of cells. Those that compute are in `n2d2.cells.nn` too, as in N2D2.

cell                     what computes, with N2D2's options
containers, holding      Sequence and Layer; what all containers share
deepnet_cell, wiring     Block, DeepNetCell; a network as plain data
fitting                  how a DeepNetCell learns and is tested
any_cell, trainable      N2D2's names for cells, and for those that learn
nn                       all that compute, by the names of `n2d2.cells.nn`
weight_cell, weights     cells that learn
operators, resizing, normalizing   cells without weights
onnx, onnx_layers, onnx_operator   networks of ONNX files
options, naming, mapping, listed, last_call   what a cell is made of, and remembers
"""

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
