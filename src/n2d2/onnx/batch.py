"""Networks that were written for batches of one size take batches of any size."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch

from n2d2.onnx.graph import Graph, Node


def free_batch(graph: Graph) -> None:
    """Change in place what has the size of the batch as a constant, where the file gives its input a fixed batch.

    For batches of that size, the network computes what it did before.
    """
    batch = graph.input_shape[0] if graph.input_shape else None
    if batch is not None:
        graph.nodes = [
            new for node in graph.nodes for new in (FREED[node.op](graph, node, batch) if node.op in FREED else [node])
        ]


def _has_batch(graph: Graph, name: str, batch: int) -> bool:
    return graph.shapes.get(name, ())[:1] == (batch,)


def _reshape(graph: Graph, node: Node, batch: int) -> Iterable[Node]:
    """A first size that is the batch before and after becomes 0, which keeps what stands there."""
    asked = graph.constants.get(node.inputs[1])
    if (
        asked is None
        or not _has_batch(graph, node.inputs[0], batch)
        or not len(asked)
        or asked[0] != batch
        or 0 in asked
    ):
        return [node]
    shape = _add(graph, f"{node.name} of any batch", torch.cat([asked.new_zeros(1), asked[1:]]))
    return [replace(node, inputs=(node.inputs[0], shape), attributes={**node.attributes, "allowzero": 0})]


def _resize(graph: Graph, node: Node, batch: int) -> Iterable[Node]:
    """Sizes of all axes, the batch first, become sizes of the others."""
    sizes = graph.constants.get(node.inputs[3]) if len(node.inputs) > 3 else None  # noqa: PLR2004 - the fourth input
    if sizes is None or node["axes"] is not None or not _has_batch(graph, node.inputs[0], batch) or sizes[0] != batch:
        return [node]
    others = _add(graph, f"{node.name} of any batch", sizes[1:])
    return [
        replace(
            node,
            inputs=(*node.inputs[:3], others),
            attributes={**node.attributes, "axes": list(range(1, len(sizes)))},
        )
    ]


def _concat(graph: Graph, node: Node, batch: int) -> Iterable[Node]:
    """A constant that is the same for each sample is repeated for as many as there are."""
    data = next((name for name in node.inputs if _has_batch(graph, name, batch) and name not in graph.constants), None)
    inputs, before = list(node.inputs), []
    for place, name in enumerate(node.inputs):
        tensor = graph.constants.get(name)
        if data is None or tensor is None or tensor.dim() < 2 or node["axis"] % tensor.dim() == 0:  # noqa: PLR2004 - a batch and more
            continue
        if len(tensor) == batch and (tensor == tensor[:1]).all():
            inputs[place] = f"{node.name} of any batch {place}"
            sizes, ones = (
                f"{inputs[place]}: size",
                _add(graph, f"{inputs[place]}: ones", torch.ones(tensor.dim() - 1).long()),
            )
            sample = _add(graph, f"{inputs[place]}: sample", tensor[:1])
            before += [
                Node("Shape", 15, (data,), (sizes,), {"start": 0, "end": 1}),
                Node("Concat", 13, (sizes, ones), (f"{sizes}s",), {"axis": 0}),
                Node("Expand", 13, (sample, f"{sizes}s"), (inputs[place],)),
            ]
    return [*before, replace(node, inputs=tuple(inputs))]


def _add(graph: Graph, name: str, tensor: torch.Tensor) -> str:
    graph.constants[name] = tensor
    return name


FREED: Mapping[str, Callable[[Graph, Node, int], Iterable[Node]]] = {
    "Concat": _concat,
    "Reshape": _reshape,
    "Resize": _resize,
}
"""Operator -> what a node becomes, and nodes before it."""
