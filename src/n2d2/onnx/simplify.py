"""A network without what need not be computed: constants are computed once, and what leads nowhere is left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.graph import Graph, Node
from n2d2.onnx.host import LARGEST as LARGEST_HOST
from n2d2.onnx.host import Host, to_host, to_tensor
from n2d2.onnx.operators import STATIC, Value, compute_checked

LARGEST = 2**28
"""Elements of a constant at most that is computed from others: 1 GB of float32."""

SAME_VALUES = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators after which a weight is still the weight, in another form."""

META = torch.device("meta")


def argument(constants: Mapping[str, Tensor], node: Node, place: int) -> Value:
    """A constant as an input of a node: Python's numbers where the operator wants sizes or the like."""
    tensor = constants[node.inputs[place]]
    as_numbers = place in STATIC.get(node.op, ()) and tensor.numel() <= LARGEST_HOST
    return to_host(tensor) if as_numbers else tensor


def without_values(value: Value | None) -> Value | None:
    """The tensor with its sizes alone: computing with it costs nothing."""
    return value.to(META) if isinstance(value, Tensor) else value


def fold(graph: Graph) -> None:
    """Compute what hangs on constants alone, in place.

    Raises:
        WrongValue: something does not fit, or is absurdly large.
    """
    left = []
    for node in graph.nodes:
        given = [place for place, name in enumerate(node.inputs) if name]
        if not all(node.inputs[place] in graph.constants for place in given):
            left.append(node)
            continue
        values = [argument(graph.constants, node, place) if name else None for place, name in enumerate(node.inputs)]
        outputs = _folded(node, values)
        graph.constants.update(zip(node.outputs, outputs, strict=False))
        if node.op in SAME_VALUES and node.inputs[0] in graph.stored:
            graph.stored.add(node.outputs[0])
    graph.nodes = left


def _folded(node: Node, values: Sequence[Value | None]) -> list[Tensor]:
    try:
        sizes = compute_checked(node, [without_values(value) for value in values], META)
        check_sizes(node, sizes)
        made = compute_checked(node, values, torch.device("cpu"))
    except NotImplementedError as error:
        raise WrongValue(f"{node} cannot be computed from constants: {error}") from None
    return [to_tensor(one, None, dtype()) if isinstance(one, np.ndarray) else one.contiguous() for one in made]


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


def free_batch(graph: Graph) -> None:
    """Let Reshapes keep the batch, in place, where the file was written for batches of one size.

    A Reshape to constant sizes, whose first is the size of the batch before and after, keeps whatever stands there.
    """
    batch = graph.input_shape[0] if graph.input_shape else None
    if batch is None:
        return
    for place, node in enumerate(graph.nodes):
        if node.op != "Reshape" or len(node.inputs) != 2 or node.inputs[1] not in graph.constants:  # noqa: PLR2004 - data, shape
            continue
        asked, came = graph.constants[node.inputs[1]], graph.shapes.get(node.inputs[0])
        if came and came[0] == batch and len(asked) and asked[0] == batch and 0 not in asked:
            name = f"{node.name} without batch"
            graph.constants[name] = torch.cat([asked.new_zeros(1), asked[1:]])
            attributes = {**node.attributes, "allowzero": 0}
            graph.nodes[place] = replace(node, inputs=(node.inputs[0], name), attributes=attributes)
