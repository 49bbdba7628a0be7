"""A network without what need not be computed: constants are computed once, and what leads nowhere is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.arithmetic import HOST
from n2d2.onnx.graph import Graph, Node
from n2d2.onnx.host import Host, WithoutValuesError, fits_host, to_host, to_tensor
from n2d2.onnx.operators import STATIC, Value, compute_checked

LARGEST = 2**28
"""Elements at most of an output, and of all constants that are computed beyond what the file holds: 1 GB of float32."""

SAME_VALUES = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators after which a weight is still the weight, in another form."""

META = torch.device("meta")


def argument(constants: Mapping[str, Tensor], node: Node, place: int, *, arithmetic: bool) -> Value:
    """A constant as an input of a node: Python's numbers where the operator wants sizes or the like.

    Args:
        constants: by name.
        node: the node.
        place: of the input.
        arithmetic: whether the node computes with sizes of tensors alone.
    """
    tensor = constants[node.inputs[place]]
    if place in STATIC.get(node.op, ()) or (arithmetic and node.op in HOST):
        return to_host(tensor) if fits_host(tensor) else tensor
    return tensor


def without_values(value: Value | None) -> Value | None:
    """The tensor with its sizes alone: computing with it costs nothing."""
    return value.to(META) if isinstance(value, Tensor) else value


def fold(graph: Graph) -> None:
    """Compute what hangs on constants alone, in place.

    Raises:
        WrongValue: something does not fit, or is absurdly large.
    """
    left, room = [], LARGEST + 4 * sum(tensor.numel() for tensor in graph.constants.values())
    for node in graph.nodes:
        given = [place for place, name in enumerate(node.inputs) if name]
        if not all(node.inputs[place] in graph.constants for place in given):
            left.append(node)
            continue
        constants = graph.constants
        values = [
            argument(constants, node, place, arithmetic=False) if name else None
            for place, name in enumerate(node.inputs)
        ]
        outputs = _folded(node, values)
        room -= sum(output.numel() for output in outputs)
        if room < 0:
            raise WrongValue(f"{node} is refused: constants that are computed take more than {LARGEST} elements")
        graph.constants.update(zip(node.outputs, outputs, strict=False))
        if node.op in SAME_VALUES and node.inputs[0] in graph.stored:
            graph.stored.add(node.outputs[0])
    graph.nodes = left


def _folded(node: Node, values: Sequence[Value | None]) -> list[Tensor]:
    try:
        sizes = compute_checked(node, [without_values(value) for value in values], META)
        check_sizes(node, sizes)
        made = compute_checked(node, values, torch.device("cpu"))
    except WithoutValuesError as error:
        raise WrongValue(f"it cannot be computed from constants: {error}") from None
    return [to_tensor(one, None, dtype()) if isinstance(one, Host) else one for one in made]


def check_sizes(node: Node, made: Sequence[Tensor | Host]) -> None:
    """Refuse outputs that are absurdly large."""
    for one in made:
        if isinstance(one, Tensor) and one.numel() > LARGEST:
            sizes = " x ".join(map(str, one.shape))
            raise WrongValue(f"{node} is refused: its output of {sizes} has more than {LARGEST} elements")


def leave_out_idle(graph: Graph) -> None:
    """Leave out the nodes that lead to no output, in place; outputs that nobody takes lose their names."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    graph.nodes = [replace(node, outputs=tuple(n if n in wanted else "" for n in node.outputs)) for node in kept[::-1]]
