"""ONNX files as networks of cells: onnx2torch makes torch modules of them, which are put into cells here.

A cell has the name of its operator's first output, as in N2D2.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import onnx.helper
import onnx.version_converter
import torch
from torch import fx, nn

from n2d2.cells.cell import Cell
from n2d2.cells.mapping import grouped
from n2d2.cells.operators import Softmax
from n2d2.cells.weights import BatchNorm2d, Conv, Fc
from n2d2.cells.wiring import Wiring
from n2d2.error_handler import WrongValue
from prunecell.errors import nearest


class Opaque(Cell):
    """A torch module of an ONNX file that has no cell of its own here; it computes as it is.

    Args:
        layer: the module.
        name: of its node.
        constants: the place of an argument -> a tensor of the file that stands there.
    """

    def __init__(self, layer: nn.Module, name: str, constants: dict[int, torch.Tensor]) -> None:
        super().__init__(name=name, fixed={"layer": type(layer).__name__})
        self.layer = layer
        self._places = sorted(constants)
        for place in self._places:
            self.register_buffer(f"constant_{place}", constants[place], persistent=False)

    def forward(self, *inputs: torch.Tensor) -> Any:  # noqa: ANN401 - whatever the module gives
        """What the module does."""
        arguments = list(inputs)
        for place in self._places:
            arguments.insert(place, getattr(self, f"constant_{place}"))
        return self.layer(*arguments)


def _conv(layer: Any, name: str) -> Conv:  # noqa: ANN401 - a torch convolution
    return Conv(
        layer.in_channels,
        layer.out_channels,
        list(reversed(layer.kernel_size)),
        name=name,
        stride_dims=list(reversed(layer.stride)),
        padding_dims=list(reversed(layer.padding)),
        dilation_dims=list(reversed(layer.dilation)),
        mapping=grouped(layer.in_channels, layer.out_channels, layer.groups) if layer.groups > 1 else None,
        no_bias=layer.bias is None,
    )


NEWEST = 18
"""The newest version of ONNX's operators that onnx2torch knows throughout."""

CELLS: dict[type[nn.Module], Callable[[Any, str], Cell]] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.Linear: lambda layer, name: Fc(layer.in_features, layer.out_features, name=name, no_bias=layer.bias is None),
    nn.BatchNorm2d: lambda layer, name: BatchNorm2d(layer.num_features, name=name, epsilon=layer.eps),
    nn.Softmax: lambda layer, name: Softmax(name=name, with_loss=True),  # noqa: ARG005 - the form of the table
}


def read_onnx(path: str | Path, *, ignore: Sequence[str] = ()) -> Wiring:
    """Read the network of an ONNX file; Conv and Fc cells can be pruned, and all that it holds can learn.

    Args:
        path: the file.
        ignore: first outputs of operators to leave out; what these take comes out of the network.

    Raises:
        WrongValue: the file cannot be read, has an operation that onnx2torch does not know, or nothing to ignore.
    """
    if not Path(path).is_file():
        raise WrongValue(f"{path} is no file")
    try:
        model = _understood(onnx.load(path))
        _leave_out(model.graph, ignore)
        outputs = _number(model.graph)
        module: fx.GraphModule = _onnx2torch().convert(model)
    except WrongValue:
        raise
    except Exception as error:  # three libraries, and each has its own tree of exceptions
        raise WrongValue(f"{path} cannot be read as a network: {error}") from error
    cells, inputs = {}, {}
    names = {node: outputs[str(node.target)] for node in module.graph.nodes if node.op == "call_module" and node.args}
    for node, name in names.items():
        constants = {i: _constant(module, arg) for i, arg in enumerate(node.args) if _is_constant(arg)}
        cells[name] = _cell(module.get_submodule(str(node.target)), name, constants)
        inputs[name] = [names.get(arg, "input") for arg in node.args if not _is_constant(arg)]
    return Wiring(cells, inputs)


def _onnx2torch() -> ModuleType:
    """The library; with a torchvision beside it that was built for another torch, as far as it is not needed."""
    try:
        import onnx2torch  # noqa: PLC0415 - wanted for ONNX files only
    except ImportError as error:
        raise WrongValue(f"ONNX files need onnx2torch ({error}): pip install 'prunecell[onnx]'") from None
    except RuntimeError:
        for operator in ("nms", "qnms"):  # what torchvision's import misses; detection only
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import onnx2torch  # noqa: PLC0415
    library: ModuleType = onnx2torch
    return library


def _understood(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in a version of the operators that onnx2torch knows."""
    version = max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    return model if version <= NEWEST else onnx.version_converter.convert_version(model, NEWEST)


def _leave_out(graph: onnx.GraphProto, ignore: Sequence[str]) -> None:
    names = [node.output[0] for node in graph.node]
    for name in ignore:
        if name not in names:
            raise WrongValue(f"ignore={name!r} is illegal{nearest(name, names)}")
    dropped = [node for node in graph.node if node.output[0] in ignore]
    kept = [node for node in graph.node if node.output[0] not in ignore]
    made = {output for node in kept for output in node.output}
    wanted = [one.name for one in graph.output] + [taken for node in dropped for taken in node.input]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted if name in made]
    if dropped:
        del graph.node[:], graph.output[:]
        graph.node.extend(kept)
        graph.output.extend(ends)


def _number(graph: onnx.GraphProto) -> dict[str, str]:
    """Give the operators names that torch allows; return these with their first outputs."""
    for place, node in enumerate(graph.node):
        node.name = f"n{place}"
    return {node.name: node.output[0] for node in graph.node}


def _is_constant(argument: object) -> bool:
    return isinstance(argument, fx.Node) and (
        argument.op == "get_attr" or (argument.op == "call_module" and not argument.args)
    )


def _constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    if node.op == "call_module":
        made: torch.Tensor = module.get_submodule(str(node.target))()
        return made
    owner, _, leaf = str(node.target).rpartition(".")
    constant: torch.Tensor = getattr(module.get_submodule(owner), leaf)
    return constant


def _cell(layer: nn.Module, name: str, constants: dict[int, torch.Tensor]) -> Cell:
    make = CELLS.get(type(layer))
    if make is None:
        return Opaque(layer, name, constants)
    cell = make(layer, name)
    if list(layer.parameters()):
        cell.layer.load_state_dict(layer.state_dict())
    return cell
