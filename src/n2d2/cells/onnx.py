"""ONNX files as networks of cells. What learns, or acts otherwise while learning, becomes N2D2's cell of its kind.

A cell has the name of its operator's first output, as in N2D2. All other operators become `Operator` cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from n2d2.cells.cell import Cell
from n2d2.cells.mapping import grouped
from n2d2.cells.onnx_layers import CutDeconv, FcOfRows, PaddedConv
from n2d2.cells.onnx_operator import LearningOperator, Operator
from n2d2.cells.operators import Dropout, Softmax
from n2d2.cells.weights import BatchNorm2d, Conv, Deconv, Fc
from n2d2.cells.wiring import Wiring
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.onnx.file import read_graph
from n2d2.onnx.graph import Graph, Node
from n2d2.onnx.steps import program, shape_arithmetic
from n2d2.onnx.windows import Windows


def read_onnx(path: str | Path, *, ignore: Sequence[str] = ()) -> Wiring:
    """Read the network of an ONNX file; Conv, Deconv and Fc cells can be pruned, and all weights of it can learn.

    Args:
        path: the file.
        ignore: first outputs of operators to leave out; what these take comes out of the network.

    Raises:
        WrongValue: the file cannot be read, has operators that are not known here, or nothing to ignore.
    """
    graph = read_graph(path, ignore=ignore)
    arithmetic = shape_arithmetic(graph)
    cells: dict[str, Cell] = {}
    inputs: dict[str, Sequence[str]] = {}
    for node in graph.nodes:
        wanted = [name for name in node.outputs if name and (name not in arithmetic or name in graph.outputs)]
        if not wanted:
            continue
        try:
            cell = CELLS[node.op](graph, node) if node.op in CELLS and len(wanted) == 1 else None
        except (WrongValue, WrongInputType) as error:
            raise WrongValue(f"{path} cannot be read as a network: {node}: {error}") from None
        if cell is not None:
            cells[node.name], inputs[node.name] = cell, [node.inputs[_data(graph, node)]]
            continue
        for name in wanted:
            cells[name], inputs[name] = _operator(graph, node, name, arithmetic)
    return Wiring(cells, inputs, graph.outputs, graph.input_shape)


def _data(graph: Graph, node: Node) -> int:
    """The place of the only input that is not in the file."""
    return next(place for place, name in enumerate(node.inputs) if name and name not in graph.constants)


# ---- cells of N2D2's kinds


def _weights(graph: Graph, node: Node) -> tuple[Tensor, Tensor | None] | None:
    """Weights and biases of a node, if they stand in the file and the input does not."""
    weight, *bias = [graph.constants.get(name) for name in node.inputs[1:] if name]
    if weight is None or (bias and bias[0] is None) or node.inputs[0] in graph.constants:
        return None
    if not weight.is_floating_point() or not weight.numel():
        raise WrongValue(f"weights of {_shown(weight)} and {weight.dtype} are illegal")
    return weight, bias[0] if bias else None


def _shown(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1 number"


@torch.no_grad()
def _filled(cell: Any, weight: Tensor, bias: Tensor | None) -> Cell:  # noqa: ANN401 - a cell with weights
    for what, mine, given in (("weights", cell.weight, weight), ("biases", cell.bias, bias)):
        if given is None:
            continue
        if mine.shape != given.shape:
            raise WrongValue(f"{what} of {_shown(given)} are illegal: they must be {_shown(mine)}")
        mine.copy_(given)
    filled: Cell = cell
    return filled


@dataclass(frozen=True)
class _Kernels:
    """What Conv and Deconv cells are made of: the constants of a node, and the arguments of its cell, x first."""

    weight: Tensor
    bias: Tensor | None
    windows: Windows
    sizes: tuple[int, int, list[int]]
    config: dict[str, Any]


def _kernels(graph: Graph, node: Node, *, inputs_first: bool) -> _Kernels | None:
    """Read a convolution whose weights are constants.

    Args:
        graph: of the file.
        node: a Conv or ConvTranspose.
        inputs_first: whether the weight's first dimension is of the inputs, as for ConvTranspose.

    Raises:
        WrongValue: the kernel's shape is not that of the weights.
    """
    if (found := _weights(graph, node)) is None:
        return None
    weight, bias = found
    windows = Windows.of(node, node["kernel_shape"] or weight.shape[2:])
    if windows.sizes != tuple(weight.shape[2:]):
        raise WrongValue(f"kernel_shape={list(windows.sizes)} is illegal for weights of {_shown(weight)}")
    even = windows.even or (0,) * len(windows.sizes)
    first, second = weight.shape[0], weight.shape[1] * node["group"]
    n_inputs, n_outputs = (first, second) if inputs_first else (second, first)
    config = {
        "name": node.name,
        "stride_dims": list(windows.strides[::-1]),
        "padding_dims": list(even[::-1]),
        "dilation_dims": list(windows.dilations[::-1]),
        "mapping": grouped(n_inputs, n_outputs, node["group"]) if node["group"] > 1 else None,
        "no_bias": bias is None,
    }
    return _Kernels(weight, bias, windows, (n_inputs, n_outputs, list(windows.sizes[::-1])), config)


def _conv(graph: Graph, node: Node) -> Cell | None:
    if (kernels := _kernels(graph, node, inputs_first=False)) is None:
        return None
    windows, sizes, config = kernels.windows, kernels.sizes, kernels.config
    cell = Conv(*sizes, **config) if windows.even is not None else PaddedConv(windows, *sizes, **config)
    return _filled(cell, kernels.weight, kernels.bias)


def _deconv(graph: Graph, node: Node) -> Cell | None:
    if (kernels := _kernels(graph, node, inputs_first=True)) is None:
        return None
    windows, sizes, config = kernels.windows, kernels.sizes, kernels.config
    if windows.even is not None and not any(node["output_padding"] or []) and not node["output_shape"]:
        cell: Cell = Deconv(*sizes, **config)
    else:
        cell = CutDeconv(node, windows, *sizes, **config | {"padding_dims": [0] * len(windows.sizes)})
    return _filled(cell, kernels.weight, kernels.bias)


def _gemm(graph: Graph, node: Node) -> Cell | None:
    if (found := _weights(graph, node)) is None or node["transA"]:
        return None
    weight, bias = found
    if weight.dim() != 2:  # noqa: PLR2004 - a matrix
        raise WrongValue(f"weights of {_shown(weight)} are illegal: they must be a matrix")
    weight = node["alpha"] * (weight if node["transB"] else weight.T)
    if bias is not None:
        if bias.numel() not in (1, len(weight)) or bias.numel() != (bias.shape[-1] if bias.dim() else 1):
            return None  # another bias for each sample
        bias = (node["beta"] * bias).reshape(-1).expand(len(weight))
    n_outputs, n_inputs = weight.shape
    return _filled(Fc(n_inputs, n_outputs, name=node.name, no_bias=bias is None), weight, bias)


def _matmul(graph: Graph, node: Node) -> Cell | None:
    if (found := _weights(graph, node)) is None or found[0].dim() != 2:  # noqa: PLR2004 - a matrix
        return None
    weight, rank = found[0].T, graph.rank(node.inputs[0])
    sizes, config = weight.shape[::-1], dict[str, Any](name=node.name, no_bias=True)
    cell = Fc(*sizes, **config) if rank == 2 else FcOfRows(rank, *sizes, **config)  # noqa: PLR2004 - (batch, values)
    return _filled(cell, weight, None)


@torch.no_grad()
def _batch_norm(graph: Graph, node: Node) -> Cell | None:
    vectors = [graph.constants[name] for name in node.inputs[1:] if name in graph.constants]
    if len(vectors) != len(node.inputs) - 1 or graph.rank(node.inputs[0]) not in (2, 3, 4, None):
        return None
    n = vectors[0].numel()
    momentum = min(max(1 - node["momentum"], 0.0), 1.0)  # torch has the weight of what is new, ONNX of what was
    cell = BatchNorm2d(n, name=node.name, epsilon=node["epsilon"], moving_average_momentum=momentum)
    layer: Any = cell.layer
    layer.eps = node["epsilon"]
    for mine, given in zip((layer.weight, layer.bias, layer.running_mean, layer.running_var), vectors, strict=True):
        if given.shape != mine.shape:
            told = " and ".join(map(_shown, vectors))
            raise WrongValue(f"vectors of {told} are illegal: each has one value for each of the {n} channels")
        mine.copy_(given)
    filled: Cell = cell
    return filled


def _softmax(graph: Graph, node: Node) -> Cell | None:
    """A Softmax over the channels; at the end of the network it comes with the loss."""
    rank, shape = graph.rank(node.inputs[0]), graph.shapes.get(node.inputs[0], ())
    if rank is None or rank < 2 or node["axis"] % rank != 1:  # noqa: PLR2004 - (batch, channels, ...)
        return None
    if node.version < 13 and any(size != 1 for size in shape[2:]):  # noqa: PLR2004 - all axes from there on
        return None
    taken = any(node.name in other.inputs for other in graph.nodes)
    return Softmax(name=node.name, with_loss=not taken)


def _dropout(graph: Graph, node: Node) -> Cell | None:
    ratio = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else node["ratio"]
    if len(node.inputs) > 1 and node.inputs[1] and ratio is None:
        return None
    return Dropout(name=node.name, dropout=0.5 if ratio is None else float(ratio))


CELLS: Mapping[str, Callable[[Graph, Node], Cell | None]] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _deconv,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Softmax": _softmax,
}
"""Operator -> its cell, filled; None where no cell computes what the node asks for."""


# ---- all other operators


WEIGHTS: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(("Add", "Mul", "MatMul"), (0, 1)),
    **dict.fromkeys(("BatchNormalization", "Conv", "ConvTranspose", "Gemm", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization"), (1, 2)),
    **dict.fromkeys(("PRelu", "RMSNormalization"), (1,)),
    "Gather": (0,),
}
"""The inputs of an operator that are weights, if they are initializers. Other constants do not learn: a file does not
tell a mask or a table of positions from weights."""


def _operator(graph: Graph, node: Node, name: str, arithmetic: Mapping[str, Node]) -> tuple[Cell, Sequence[str]]:
    made = program(graph, node, arithmetic)
    if not made.inputs:
        raise WrongValue(f"{node} takes nothing that comes from the input of the network")
    learned = [one for step in made.steps for one in _learned(graph, step.node)]
    ranks = {one: graph.rank(one) for one in made.inputs}
    if learned:
        return LearningOperator(name, made, graph.constants, ranks, learned), made.inputs
    return Operator(name, made, graph.constants, ranks), made.inputs


def _learned(graph: Graph, node: Node) -> list[str]:
    names = [node.inputs[place] for place in WEIGHTS.get(node.op, ()) if place < len(node.inputs)]
    found = {name: graph.constants[name] for name in names if name in graph.stored and name in graph.constants}
    return [name for name, tensor in found.items() if tensor.is_floating_point() and _may_learn(node.op, tensor)]


def _may_learn(op: str, tensor: Tensor) -> bool:
    """A bias or a gain is a vector; what else is added or multiplied may be anything."""
    return op not in ("Add", "Mul") or sum(size > 1 for size in tensor.shape) == 1
