"""An ONNX file as a Graph: parsed, checked and simplified, before anything is made of it."""

from collections.abc import Collection, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx.helper
import onnx.inliner
import onnx.version_converter
from torch import Tensor

from n2d2.error_handler import WrongValue, n2d2_errors
from n2d2.ini.errors import hint
from n2d2.onnx.batch import free_batch
from n2d2.onnx.graph import Graph, Node
from n2d2.onnx.schema import NEWEST, OLDEST, constant, is_made_of_others, read_node
from n2d2.onnx.shapes import check_axes, find_shapes, shape_of
from n2d2.onnx.simplify import fold, leave_out_idle
from n2d2.onnx.tensors import to_dense, to_torch
from prunecell.checks import check_texts


def read_graph(path: str | Path, *, ignore: Sequence[str] = ()) -> Graph:
    """Read the network of an ONNX file.

    Args:
        path: the file; tensors that lie in files of their own are looked for beside it.
        ignore: first outputs of operators to leave out; what these take comes out of the network.

    Raises:
        WrongValue: the file is none or damaged, has operators that are unknown here, does not fit together, or there
            is nothing to ignore. The message names the file and the node.
        WrongInputType: `ignore` is one text.
    """
    with n2d2_errors():
        ignore = check_texts("ignore", ignore)
    if not Path(path).is_file():
        raise WrongValue(f"{path} is no file")
    try:
        model, opset = _in_known_version(onnx.load(path))
    except WrongValue as error:
        raise WrongValue(f"{path} cannot be read as a network: {error}") from None
    except Exception as error:  # protobuf, the file system and ONNX: each has its own tree of exceptions
        raise WrongValue(f"{path} cannot be read as a network: {error}") from error
    proto = model.graph
    outputs = _leave_out(proto, ignore)
    try:
        return _graph(proto, opset, outputs)
    except WrongValue as error:
        raise WrongValue(f"{path} cannot be read as a network: {error}") from None


def _in_known_version(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The model in a version of the operators that is read here, and which this is.

    Functions of its own are gone, and so are operators that ONNX itself tells by others (Attention is one).
    """
    if not model.graph.node:
        raise WrongValue("it has no operators")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)
    if opset > NEWEST:
        raise WrongValue(
            f"it uses version {opset} of ONNX's operators, and the installed onnx knows {NEWEST}: pip install -U onnx"
        )
    if opset < OLDEST:
        return onnx.version_converter.convert_version(model, OLDEST), OLDEST
    by_others = sorted({node.op_type for node in model.graph.node if is_made_of_others(node, opset)})
    if by_others:
        named, there = [("", op) for op in by_others], {one.name for one in model.graph.value_info}
        model.graph.value_info.extend(  # what ONNX tells by others may hang on the types of what it takes
            onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
            for one in model.graph.initializer
            if one.name not in there
        )
        model = onnx.inliner.inline_selected_functions(model, named, inline_schema_functions=True)
    return model, opset


def _leave_out(graph: onnx.GraphProto, ignore: Sequence[str]) -> list[str]:
    """Take the operators out whose first outputs these are; return the names that come out of the network now."""
    names = [node.output[0] for node in graph.node if node.output]
    for name in ignore:
        if name not in names:
            raise WrongValue(f"ignore={name!r} is illegal{hint(name, names)}")
    dropped = [node for node in graph.node if node.output and node.output[0] in ignore]
    kept = [node for node in graph.node if not node.output or node.output[0] not in ignore]
    made = {output for node in kept for output in node.output}
    gone = {output for node in dropped for output in node.output}
    for node in kept:
        for name in gone.intersection(node.input):
            raise WrongValue(f"ignore={name!r} is illegal: {node.output[0]!r} takes it, and must be ignored too")
    wanted = [one.name for one in graph.output if one.name not in gone]
    wanted += [name for node in dropped for name in node.input if name in made]
    if dropped:
        del graph.node[:], graph.output[:]
        graph.node.extend(kept)
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    return list(dict.fromkeys(wanted))


def _graph(proto: onnx.GraphProto, opset: int, outputs: Sequence[str]) -> Graph:
    constants = _initializers(proto)
    stored, nodes = set(constants), []
    for node in (read_node(one, opset) for one in proto.node):
        if node.op == "Constant":
            _once(node.name, constants)
            constants[node.name] = constant(node)
        else:
            nodes.append(node)
    inputs = {one.name: one for one in proto.input if one.name not in stored}
    _check_names(nodes, constants, inputs, outputs)
    graph = Graph(_in_order(nodes), constants, stored, "", None, tuple(outputs))
    fold(graph)
    leave_out_idle(graph)
    _check_outputs(graph)
    _find_input(graph, inputs)
    graph.shapes = find_shapes(graph, proto, opset)
    check_axes(graph)
    free_batch(graph)
    return graph


def _initializers(proto: onnx.GraphProto) -> dict[str, Tensor]:
    constants: dict[str, Tensor] = {}
    for one in proto.initializer:
        _once(one.name, constants)
        constants[one.name] = to_torch(one)
    for sparse in proto.sparse_initializer:
        _once(sparse.values.name, constants)
        constants[sparse.values.name] = to_dense(sparse)
    return constants


def _once(name: str, known: Collection[str]) -> None:
    if name in known or not name:
        raise WrongValue(f"two tensors have the name {name!r}" if name else "a tensor has no name")


def _check_names(
    nodes: Iterable[Node], constants: Collection[str], inputs: Collection[str], outputs: Iterable[str]
) -> None:
    """Every tensor is made once, and everything that is taken is made."""
    made = {*constants, *inputs}
    for node in nodes:
        for name in filter(None, node.outputs):
            _once(name, made)
            made.add(name)
    for node in nodes:
        for name in filter(None, node.inputs):
            if name not in made:
                raise WrongValue(f"{node} takes {name!r}, which nothing makes{hint(name, made)}")
    for name in outputs:
        if name not in made:
            raise WrongValue(f"output {name!r} is made by nothing{hint(name, made)}")


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    """Each node after those whose outputs it takes."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.outputs if name}
    takes = {place: {makers[name] for name in node.inputs if name in makers} for place, node in enumerate(nodes)}
    if all(maker < place for place, before in takes.items() for maker in before):
        return list(nodes)
    try:
        return [nodes[place] for place in TopologicalSorter(takes).static_order()]
    except CycleError as error:
        circle = [nodes[place].name for place in error.args[1]]
        shown = " -> ".join(circle if len(circle) <= 10 else [*circle[:10], "..."])  # noqa: PLR2004 - for a line
        raise WrongValue(f"these operators feed each other: {shown}") from None


def _check_outputs(graph: Graph) -> None:
    made = {name for node in graph.nodes for name in node.outputs}
    for name in graph.outputs:
        if name not in made:
            what = "is a constant" if name in graph.constants else "is an input, which no operator changes"
            raise WrongValue(f"output {name!r} {what}")
    if not graph.outputs:
        raise WrongValue("nothing comes out of it")


def _find_input(graph: Graph, inputs: dict[str, onnx.ValueInfoProto]) -> None:
    """Set the only input that is used; what is declared of it are its sizes with the batch."""
    used = [name for name in inputs if any(name in node.inputs for node in graph.nodes)]
    if len(used) != 1:
        named = f": {', '.join(used)}" if used else ""
        raise WrongValue(f"it has {len(used)} inputs{named}; a network has one here, the data of the provider")
    if not inputs[used[0]].type.HasField("tensor_type"):
        raise WrongValue(f"input {used[0]!r} must be a tensor")
    graph.input, graph.input_shape = used[0], shape_of(inputs[used[0]])
    if graph.input_shape == ():
        raise WrongValue(f"input {used[0]!r} is a single number: it must have a batch")
