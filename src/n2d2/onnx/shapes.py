"""The sizes of what flows through a network: computed with tensors that have no values, or inferred by ONNX."""

import math

import onnx
import onnx.helper
import onnx.shape_inference
import torch

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.graph import Graph, Shape
from n2d2.onnx.host import WithoutValuesError
from n2d2.onnx.operators import Value, compute_checked
from n2d2.onnx.simplify import LARGEST, META, argument, check_sizes, without_values

SMALL = 4096
"""Elements of an initializer whose values may say sizes."""


def find_shapes(graph: Graph, proto: onnx.GraphProto, opset: int) -> dict[str, Shape]:
    """The sizes of all tensors, as far as they are known.

    An input of known sizes, the batch aside, goes through the whole network.

    Raises:
        WrongValue: it does not fit.
    """
    sizes = graph.input_shape
    if sizes is None or any(size is None for size in sizes[1:]):
        return infer(proto, opset)
    try:
        return _computed(graph, [1 if size is None else size for size in sizes])
    except WithoutValuesError:  # sizes that hang on the values of the input
        return infer(proto, opset)


ONE_MORE = ("Flatten", "OneHot")
"""Operators whose axis may be as large as the number of dimensions: it lies between them."""


def check_axes(graph: Graph) -> None:
    """Refuse axes that the input of a node does not have, as far as its dimensions are known."""
    for node in graph.nodes:
        rank = graph.rank(node.inputs[0]) if node.inputs and node.op != "Unsqueeze" else None
        if rank is None:
            continue
        high = rank + (node.op in ONE_MORE)
        for name in ("axis", "axes"):
            given = node[name] if isinstance(node[name], list) else [] if node[name] is None else [node[name]]
            if not all(-high <= axis < high for axis in given):
                raise WrongValue(f"{node}: {name}={node[name]} is illegal for {rank} dimensions")


def _computed(graph: Graph, sizes: list[int]) -> dict[str, Shape]:
    if math.prod(sizes) <= 0:
        raise WrongValue(f"input {graph.input!r} of {sizes} is illegal: all sizes must be > 0")
    if math.prod(sizes) > LARGEST:
        raise WrongValue(f"input {graph.input!r} of {sizes} is refused: it has more than {LARGEST} elements")
    known: dict[str, Value] = {graph.input: torch.empty(sizes, dtype=dtype(), device=META)}
    for node in graph.nodes:
        arithmetic = all(not isinstance(known.get(name), torch.Tensor) for name in node.inputs)
        values = [
            None
            if not name
            else without_values(argument(graph.constants, node, place, arithmetic=arithmetic))
            if name in graph.constants
            else known[name]
            for place, name in enumerate(node.inputs)
        ]
        made = compute_checked(node, values, META)
        check_sizes(node, made)
        known.update(zip(node.outputs, made, strict=False))
    return {name: tuple(value.shape) for name, value in known.items() if isinstance(value, torch.Tensor)}


def infer(proto: onnx.GraphProto, opset: int) -> dict[str, Shape]:
    """What ONNX infers of a network without its large tensors; what the file claims of sizes is not looked at."""
    small = [one for one in proto.initializer if math.prod(one.dims) <= SMALL]
    large = [(one.name, one.data_type, list(one.dims)) for one in proto.initializer if math.prod(one.dims) > SMALL]
    large += [(one.values.name, one.values.data_type, list(one.dims)) for one in proto.sparse_initializer]
    initialized = {one.name for one in proto.initializer}
    inputs = [one for one in proto.input if one.name not in initialized]
    inputs += [onnx.helper.make_tensor_value_info(*one) for one in large]
    outputs = [onnx.helper.make_empty_tensor_value_info(one.name) for one in proto.output]
    skeleton = onnx.helper.make_model(
        onnx.helper.make_graph(proto.node, "skeleton", inputs, outputs, small),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except Exception:  # noqa: BLE001 - a library's; what is not known is not used
        return {}
    known = [*inferred.input, *inferred.value_info, *inferred.output]
    return {one.name: shape for one in known if (shape := shape_of(one)) is not None}


def shape_of(info: onnx.ValueInfoProto) -> Shape | None:
    """The sizes that a file claims of a tensor; None where it claims none."""
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in kind.shape.dim
    )
