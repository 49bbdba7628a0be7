"""Cells with weights. Each holds one torch layer, `cell.layer`; `cell.weight` and `cell.bias` are its parameters."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from n2d2 import global_variables
from n2d2.cells.cell import Cell
from n2d2.cells.mapping import n_groups, to_mapping
from n2d2.cells.naming import weight_name
from n2d2.error_handler import WrongInputType, WrongValue, n2d2_errors
from n2d2.fields import Check
from n2d2.filler import FILLERS, Filler, Normal
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, SOLVERS, Solver
from n2d2.tensor import Tensor
from prunecell.errors import check_count, check_number

CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DECONVS: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class WeightCell(Cell):
    """What cells with weights share. Never instantiated itself.

    Options: `filler` or `weights_filler` and `bias_filler`, `solver` or `weights_solver` and `bias_solver`, `no_bias`,
    `quantizer` (a PruneCell of its own). The export options are accepted without effect.
    """

    layer: Any
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "weights_filler": lambda: Normal(std_dev=0.05),
        "bias_filler": lambda: Normal(std_dev=0.05),
        "weights_solver": SGD,
        "bias_solver": SGD,
        "no_bias": False,
        "quantizer": None,
        "weights_export_flip": None,
        "weights_export_format": None,
        "outputs_remap": None,
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {
        **dict.fromkeys(("weights_filler", "bias_filler"), tuple(FILLERS.values())),
        **dict.fromkeys(("weights_solver", "bias_solver"), tuple(SOLVERS.values())),
    }
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "filler": ("weights_filler", "bias_filler"),
        "solver": ("weights_solver", "bias_solver"),
    }

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - as for Cell
        super().__init__(**arguments)
        quantizer = self.options.pop("quantizer")
        self.layer = self.make_layer().to(global_variables.device(), global_variables.dtype())
        self._guard()
        self.changed("weights_filler")
        self.changed("bias_filler")
        self.quantizer = quantizer

    def make_layer(self) -> nn.Module:
        """The torch layer that `fixed` and `options` ask for."""
        raise WrongInputType(f"{type(self).__name__} is what weight cells share: make one of those")

    @property
    def weight(self) -> nn.Parameter:
        """The weights, (out, in / groups, *kernel)."""
        weight: nn.Parameter = self.layer.weight
        return weight

    @property
    def weight_name(self) -> str:
        """The name of the weights in a network."""
        return weight_name(self.name)

    @property
    def bias(self) -> nn.Parameter | None:
        """The biases, (out,), or None."""
        bias: nn.Parameter | None = self.layer.bias
        return bias

    def changed(self, option: str) -> None:
        """A new filler fills at once; a new solver begins without momentum."""
        parameter = {"weights_filler": self.weight, "bias_filler": self.bias}.get(option)
        if parameter is not None:
            self.options[option](parameter)
            self.refill()
        self._optimizer = None

    @property
    def connections(self) -> torch.Tensor | None:
        """Bool, of the weight's shape: which weights there are; None where all are."""
        connections: torch.Tensor | None = getattr(self.layer, "connections", None)
        return connections

    def _guard(self) -> None:
        """Let no gradient reach weights that are not connected."""
        if self.connections is not None:
            self.weight.register_hook(lambda gradient: gradient * self.connections)  # type: ignore[no-untyped-call] # torch's

    @torch.no_grad()
    def refill(self) -> None:
        """Call it after other weights came in: unconnected ones become zero, and the masks are filled again."""
        if self.connections is not None:
            self.weight.masked_fill_(~self.connections, 0)
        if self._quantizer is not None:
            self._quantizer.refill()

    def set_solver(self, solver: Solver) -> None:
        """Train weights and biases by this solver."""
        self.solver = solver

    def set_filler(self, filler: Filler) -> None:
        """Fill weights and biases by this filler, at once."""
        self.filler = filler

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Each parameter that learns, and its solver."""
        pairs = ((self.layer.weight, self.weights_solver), (self.layer.bias, self.bias_solver))
        return {p: solver for p, solver in pairs if p is not None and p.requires_grad}

    @property
    def quantizer(self) -> PruneCell | None:
        """The PruneCell of this cell. Setting one fills its masks at once; None takes it off."""
        return self._quantizer

    @quantizer.setter
    def quantizer(self, quantizer: PruneCell | None) -> None:
        if quantizer is self._quantizer:
            return
        if not isinstance(quantizer, PruneCell | None):
            raise WrongInputType(f"quantizer={quantizer!r} is illegal: it must be a PruneCell or None")
        if quantizer is not None:
            quantizer.attach(self)
        if self._quantizer is not None:
            self._quantizer.detach()
        self._quantizer = quantizer
        self._optimizer = None

    def get_weights(self) -> Tensor:
        """All weights, (out, in / groups, *kernel); the memory is the cell's own."""
        return Tensor.from_torch(self.weight.detach())

    def get_biases(self) -> Tensor:
        """All biases, (out,); the memory is the cell's own."""
        if self.bias is None:
            raise WrongValue(f"{self.name!r} has no biases: it was made with no_bias=True")
        return Tensor.from_torch(self.bias.detach())

    def get_weight(self, output_index: int, channel_index: int) -> Tensor:
        """The kernel between one output and one channel."""
        return Tensor.from_torch(self.weight.detach()[output_index, channel_index])

    def set_weight(self, output_index: int, channel_index: int, value: Tensor) -> None:
        """Replace the kernel between one output and one channel."""
        self.get_weight(output_index, channel_index).set_values(value)
        self.refill()

    def get_bias(self, output_index: int) -> Tensor:
        """One bias."""
        return Tensor.from_torch(self.get_biases().values[output_index])

    def set_bias(self, output_index: int, value: Tensor) -> None:
        """Replace one bias."""
        self.get_bias(output_index).set_values(value)

    def n_positions(self, came: Sequence[int], made: Sequence[int]) -> int:  # noqa: ARG002 - a Deconv's hang on it
        """How often each weight is used for one stimulus; of input and output, the sizes without the batch."""
        return torch.Size(made[1:]).numel()

    def get_nb_outputs(self) -> int:
        """How many outputs (channels) the cell has."""
        return int(self.fixed["nb_outputs"])

    def get_nb_channels(self) -> int:
        """How many input channels the cell has."""
        return int(self.fixed["nb_inputs"])

    def __getstate__(self) -> dict[str, Any]:
        pruning = None if self._quantizer is None else self._quantizer.state_dict()
        return {**super().__getstate__(), "_pruning": pruning}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pruning, quantizer = state.pop("_pruning"), state["_quantizer"]
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch's
        self._guard()
        if quantizer is not None:
            quantizer.attach(self)
            quantizer.load_state_dict(pruning)


class _Kernels(WeightCell):
    """What Conv and Deconv share: dims in N2D2's order (x, y, z), and connections by a mapping."""

    LAYERS: ClassVar[Mapping[int, type[nn.Module]]] = {}
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        **WeightCell.OPTIONS,
        "sub_sample_dims": 1,
        "stride_dims": 1,
        "padding_dims": 0,
        "dilation_dims": 1,
        "mapping": None,
    }

    def __init__(
        self,
        nb_inputs: int,
        nb_outputs: int,
        kernel_dims: Sequence[int],
        nb_input_cells: int = 1,
        **config: Any,  # noqa: ANN401
    ) -> None:
        _check_counts(nb_inputs=nb_inputs, nb_outputs=nb_outputs, nb_input_cells=nb_input_cells)
        n_dims = len(kernel_dims) if isinstance(kernel_dims, list | tuple) else 0
        if n_dims not in self.LAYERS:
            raise WrongInputType(f"kernel_dims={kernel_dims!r} is illegal: it must be a list of 1 to 3 sizes")
        fixed = {
            "nb_inputs": nb_inputs,
            "nb_outputs": nb_outputs,
            "kernel_dims": dims("kernel_dims", kernel_dims, n_dims, low=1),
        }
        super().__init__(fixed=fixed, **config)

    def make_layer(self) -> nn.Module:
        """A torch convolution; its groups where the mapping is regular, `connections` where it is not."""
        kernel, options = self.fixed["kernel_dims"], self.options
        for name, low in (("sub_sample_dims", 1), ("stride_dims", 1), ("padding_dims", 0), ("dilation_dims", 1)):
            options[name] = dims(name, options[name], len(kernel), low=low)
        mapping = to_mapping(options["mapping"], self.fixed["nb_inputs"], self.fixed["nb_outputs"])
        groups = n_groups(mapping)
        strides = [a * b for a, b in zip(options["stride_dims"], options["sub_sample_dims"], strict=True)]
        layer = self.LAYERS[len(kernel)](
            self.fixed["nb_inputs"],
            self.fixed["nb_outputs"],
            kernel[::-1],
            stride=strides[::-1],
            padding=options["padding_dims"][::-1],
            dilation=options["dilation_dims"][::-1],
            groups=groups or 1,
            bias=not options["no_bias"],
        )
        if not groups:
            connected = mapping if self.LAYERS is DECONVS else mapping.T
            connected = connected.reshape(*connected.shape, *(1 for _ in kernel))
            layer.register_buffer("connections", connected.repeat(1, 1, *kernel[::-1]), persistent=False)
        return layer

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, nb_inputs, *sizes) -> (batch, nb_outputs, *sizes); vectors are maps of one point."""
        x = self.joined(inputs)
        n_missing = self.weight.dim() - x.dim() if x.dim() == 2 else 0  # noqa: PLR2004 - (batch, channels)
        return self.activated(self.layer(x[(..., *(None,) * n_missing)]))


class Conv(_Kernels):
    """A convolution of 1 to 3 dimensions, and an activation.

    Args:
        nb_inputs, nb_outputs: channels.
        kernel_dims: sizes of the kernel, x first.
        nb_input_cells: how many inputs make up the channels.
        config: name, activation, stride_dims, padding_dims, dilation_dims (x first; one number stands for all),
            sub_sample_dims (multiplies the stride), mapping (nb_inputs x nb_outputs, what is connected), and
            what `WeightCell` says.

    >>> conv = Conv(1, 6, kernel_dims=[5, 5], no_bias=True)
    >>> conv(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 6, 28, 28])
    """

    LAYERS = CONVS


class ConvDepthWise(Conv):
    """A convolution where each output sees one channel: its own.

    >>> ConvDepthWise(8, [3, 3]).weight.shape
    torch.Size([8, 1, 3, 3])
    """

    def __init__(self, nb_channel: int, kernel_dims: Sequence[int], **config: Any) -> None:  # noqa: ANN401
        _check_counts(nb_channel=nb_channel)
        mapping = torch.eye(nb_channel, dtype=torch.bool)
        super().__init__(nb_channel, nb_channel, kernel_dims, mapping=mapping, **config)


class ConvPointWise(Conv):
    """A convolution by a kernel of one point."""

    def __init__(self, nb_inputs: int, nb_outputs: int, **config: Any) -> None:  # noqa: ANN401
        super().__init__(nb_inputs, nb_outputs, [1, 1], **config)


class Deconv(_Kernels):
    """A transposed convolution of 1 to 3 dimensions, and an activation; arguments as for Conv."""

    LAYERS = DECONVS

    def n_positions(self, came: Sequence[int], made: Sequence[int]) -> int:  # noqa: ARG002 - as for all weight cells
        """As often as there are places in the input."""
        return torch.Size(came[1:]).numel()


class Fc(WeightCell):
    """Every output sees every input value; feature maps are flattened.

    >>> Fc(16 * 5 * 5, 120)(torch.zeros(2, 16, 5, 5)).shape
    torch.Size([2, 120])
    """

    def __init__(self, nb_inputs: int, nb_outputs: int, nb_input_cells: int = 1, **config: Any) -> None:  # noqa: ANN401
        _check_counts(nb_inputs=nb_inputs, nb_outputs=nb_outputs, nb_input_cells=nb_input_cells)
        super().__init__(fixed={"nb_inputs": nb_inputs, "nb_outputs": nb_outputs}, **config)

    def make_layer(self) -> nn.Module:
        """A torch linear layer."""
        return nn.Linear(self.fixed["nb_inputs"], self.fixed["nb_outputs"], bias=not self.options["no_bias"])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, ...) -> (batch, nb_outputs)."""
        flat = tuple(x.flatten(1) for x in inputs)
        return self.activated(self.layer(self.joined(flat)))


class BatchNorm2d(Cell):
    """Batch normalization of channels; `scale_solver` and `bias_solver`, or `solver`, train scale and bias."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "scale_solver": SGD,
        "bias_solver": SGD,
        "epsilon": 0.0,
        "moving_average_momentum": 0.1,
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = dict.fromkeys(
        ("scale_solver", "bias_solver"), tuple(SOLVERS.values())
    )
    CHECKS: ClassVar[Mapping[str, Check]] = dict.fromkeys(
        ("epsilon", "moving_average_momentum"), partial(check_number, low=0, high=1)
    )
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"solver": ("scale_solver", "bias_solver")}

    def __init__(self, nb_inputs: int, nb_input_cells: int = 1, **config: Any) -> None:  # noqa: ANN401
        _check_counts(nb_inputs=nb_inputs, nb_input_cells=nb_input_cells)
        super().__init__(fixed={"nb_inputs": nb_inputs, "nb_outputs": nb_inputs}, **config)
        epsilon = self.options["epsilon"] or 1e-5  # N2D2's 0 means the least that is stable
        layer = nn.BatchNorm2d(nb_inputs, eps=epsilon, momentum=self.options["moving_average_momentum"])
        self.layer = layer.to(global_variables.device(), global_variables.dtype())

    def set_solver(self, solver: Solver) -> None:
        """Train scale and bias by this solver."""
        self.solver = solver

    def changed(self, option: str) -> None:  # noqa: ARG002 - whatever it was
        """A new solver begins without momentum."""
        self._optimizer = None

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Scale and bias, and the solver of each."""
        pairs = ((self.layer.weight, self.scale_solver), (self.layer.bias, self.bias_solver))
        return {p: solver for p, solver in pairs if p.requires_grad}

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, channels) or (batch, channels, y, x), unchanged in shape."""
        x = self.joined(inputs)
        return self.activated(self.layer(x.reshape(*x.shape, *(1,) * (4 - x.dim()))).reshape(x.shape))


def _check_counts(**counts: int) -> None:
    with n2d2_errors():
        for name, value in counts.items():
            check_count(name, value, low=1)


def dims(name: str, value: object, n_dims: int, *, low: int) -> list[int]:
    """Sizes as a list of n_dims whole numbers >= low; one number stands for all."""
    sizes = [value] * n_dims if isinstance(value, int | np.integer) else value
    if not isinstance(sizes, list | tuple) or len(sizes) != n_dims:
        raise WrongValue(f"{name}={value!r} is illegal: it must be {n_dims} whole numbers, x first")
    with n2d2_errors():
        for size in sizes:
            check_count(name, size, low=low)
    return [int(size) for size in sizes]
