"""Cells that show the layers of a torch module: their parameters are the layers' own, and the module computes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from n2d2.cells import BatchNorm2d, Block, Conv, Deconv, Fc, Trainable
from n2d2.cells.cell import Cell
from n2d2.cells.naming import key_of
from n2d2.error_handler import WrongValue
from n2d2.solver import SGD, SOLVERS, Solver


class Shown(Cell, shared=True):
    """A cell of a layer that is there. Never instantiated itself.

    Args:
        layer: of the torch module.
        name: of the cell.
        fixed, options: as for Cell.
    """

    layer: Any

    def __init__(self, layer: nn.Module, name: str, fixed: Mapping[str, Any], **options: Any) -> None:  # noqa: ANN401
        Cell.__init__(self, name=name, fixed=fixed, **options)
        self.options.pop("quantizer", None)
        self.layer = layer

    def get_type(self) -> str:
        """N2D2's name of this kind of cell."""
        return type(self).__name__.removeprefix("Shown")

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the layer gives
        """What the layer gives."""
        return self.layer(*inputs)


class ShownConv(Shown, Conv):
    """A torch convolution."""


class ShownDeconv(Shown, Deconv):
    """A transposed torch convolution."""


class ShownBatchNorm2d(Shown, BatchNorm2d):
    """A batch normalization of torch, of any number of dimensions."""


class ShownFc(Shown, Fc):
    """A torch Linear, over the last dimension."""

    def n_positions(self, came: Sequence[int], made: Sequence[int]) -> int:  # noqa: ARG002 - as for all weight cells
        """How many rows there are."""
        return torch.Size(made[:-1]).numel()


class Parameters(Trainable, Cell):
    """The parameters of another module of torch. They learn; a PruneCell takes the weights of Conv, Deconv and Fc only.

    Args:
        module: whose they are.
        name: of the cell.
        parameters: by their names in the module.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"weights_solver": SGD}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"weights_solver": tuple(SOLVERS.values())}
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"solver": ("weights_solver",)}

    def __init__(self, module: nn.Module, name: str, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(name=name)
        self._kind = type(module).__name__
        for key, parameter in parameters.items():
            self._parameters[key] = parameter  # not register_parameter: it may be called like an option

    def get_type(self) -> str:
        """The torch class of the module."""
        return self._kind

    def changed(self, option: str) -> None:  # noqa: ARG002 - whatever it was
        """A new solver begins without momentum."""
        self._optimizer = None

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Each parameter that learns, and its solver."""
        return {p: self.weights_solver for p in self.parameters() if p.requires_grad}


def _conv(layer: Any, name: str) -> Cell:  # noqa: ANN401 - a torch convolution
    fixed = {
        "nb_inputs": layer.in_channels,
        "nb_outputs": layer.out_channels,
        "kernel_dims": list(layer.kernel_size[::-1]),
    }
    padding = layer.padding if isinstance(layer.padding, str) else list(layer.padding[::-1])
    options = {
        "stride_dims": list(layer.stride[::-1]),
        "padding_dims": padding,
        "dilation_dims": list(layer.dilation[::-1]),
        "no_bias": layer.bias is None,
    }
    kind = ShownDeconv if isinstance(layer, _ConvTransposeNd) else ShownConv
    return kind(layer, name, fixed, **options)


def _fc(layer: Any, name: str) -> Cell:  # noqa: ANN401 - a torch Linear
    fixed = {"nb_inputs": layer.in_features, "nb_outputs": layer.out_features}
    return ShownFc(layer, name, fixed, no_bias=layer.bias is None)


def _batch_norm(layer: Any, name: str) -> Cell:  # noqa: ANN401 - a batch normalization
    fixed = {"nb_inputs": layer.num_features, "nb_outputs": layer.num_features}
    return ShownBatchNorm2d(layer, name, fixed, epsilon=layer.eps, moving_average_momentum=layer.momentum)


CELLS: tuple[tuple[type[nn.Module], tuple[str, ...], Callable[[nn.Module, str], Cell]], ...] = (
    (_ConvNd, ("weight",), _conv),
    (nn.Linear, ("weight",), _fc),
    (_BatchNorm, ("weight", "bias"), _batch_norm),
)
"""Classes of layers, the parameters that they must have of their own (others compute them), and their cells."""


def cells_of(module: nn.Module, reserved: str) -> Iterator[tuple[nn.Module, Cell]]:
    """Each module within that has parameters, in order, and the cell that shows it under its path.

    A parameter that several modules share is in the first one's cell only. No cell has the key `reserved`.

    Raises:
        WrongValue: a module is lazy and was not called yet, or there are cells of N2D2's within.
    """
    seen: set[nn.Parameter] = set()
    keys = {reserved}
    for path, part in module.named_modules():
        if isinstance(part, Cell | Block):
            raise WrongValue(f"{path or 'the module'} is a {type(part).__name__} of N2D2's: Block() takes those")
        own = {key: p for key, p in part._parameters.items() if p is not None}  # noqa: SLF001 - its own, not those within
        if any(is_lazy(p) for p in own.values()):
            raise WrongValue(f"{path or 'the module'} has no weights yet: call the module once before it is wrapped")
        fresh = {key: p for key, p in own.items() if p not in seen}
        if not fresh:
            continue
        seen.update(fresh.values())
        name = path or type(part).__name__
        while key_of(name) in keys:
            name += "_"
        keys.add(key_of(name))
        makers = (
            make for kind, needed, make in CELLS if isinstance(part, kind) and {*needed} <= fresh.keys() == own.keys()
        )
        make = next(makers, None)
        yield part, Parameters(part, name, fresh) if make is None else make(part, name)
