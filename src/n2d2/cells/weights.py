"""Cells that learn: convolutions, fully connected ones, batch normalization."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from n2d2.cells.cell import Cell
from n2d2.cells.mapping import n_groups
from n2d2.cells.trainable import Trainable
from n2d2.cells.weight_cell import WeightCell
from n2d2.checks import check_counts, check_flag
from n2d2.error_handler import WrongInputType, WrongValue, n2d2_errors
from n2d2.fields import Check
from n2d2.solver import SGD, SOLVERS, Solver
from n2d2.tensor import Tensor
from prunecell.checks import check_count, check_number

CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DECONVS: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class _Kernels(WeightCell, shared=True):
    """What Conv and Deconv share: dims in N2D2's order (x, y, z), and connections by a mapping."""

    LAYERS: ClassVar[Mapping[int, type[nn.Module]]] = {}
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        **WeightCell.OPTIONS,
        "sub_sample_dims": 1,
        "stride_dims": 1,
        "padding_dims": 0,
        "dilation_dims": 1,
        "weights_export_flip": False,
    }
    IDLE: ClassVar[Mapping[str, tuple[Any, str]]] = {
        **WeightCell.IDLE,
        "weights_export_flip": (False, "files have the kernels as they compute"),
    }
    REFUSED: ClassVar[Mapping[str, str]] = {"ext_padding_dims": "put a Padding cell before it"}

    def __init__(
        self,
        nb_inputs: int,
        nb_outputs: int,
        kernel_dims: Sequence[int],
        nb_input_cells: int = 1,
        **config: Any,  # noqa: ANN401
    ) -> None:
        check_counts(nb_inputs=nb_inputs, nb_outputs=nb_outputs, nb_input_cells=nb_input_cells)
        n_dims = len(kernel_dims) if isinstance(kernel_dims, list | tuple) else 0
        if n_dims not in self.LAYERS:
            raise WrongInputType(f"kernel_dims={kernel_dims!r} is illegal: it must be a list of 1 to 3 sizes, x first")
        fixed = {
            "nb_inputs": nb_inputs,
            "nb_outputs": nb_outputs,
            "kernel_dims": dims("kernel_dims", kernel_dims, n_dims, low=1),
        }
        super().__init__(fixed=fixed, **config)

    def make_layer(self) -> nn.Module:
        """A torch convolution; its groups where the mapping is regular."""
        kernel, options = self.fixed["kernel_dims"], self.options
        for name, low in (("sub_sample_dims", 1), ("stride_dims", 1), ("padding_dims", 0), ("dilation_dims", 1)):
            options[name] = dims(name, options[name], len(kernel), low=low)
        strides = [a * b for a, b in zip(options["stride_dims"], options["sub_sample_dims"], strict=True)]
        return self.LAYERS[len(kernel)](
            self.fixed["nb_inputs"],
            self.fixed["nb_outputs"],
            kernel[::-1],
            stride=strides[::-1],
            padding=options["padding_dims"][::-1],
            dilation=options["dilation_dims"][::-1],
            groups=n_groups(self._table()) or 1,
            bias=not options["no_bias"],
        )

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, nb_inputs, *sizes) -> (batch, nb_outputs, *sizes); vectors are maps of one point."""
        x = self.joined(inputs)
        if x.dim() == 2:  # noqa: PLR2004 - (batch, channels)
            x = x[(..., *(None,) * len(self.fixed["kernel_dims"]))]
        return self.activated(self.layer(x))


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

    REFUSED: ClassVar[Mapping[str, str]] = {
        **Conv.REFUSED,
        "mapping": "each output sees its own channel; a Conv takes any mapping",
        **dict.fromkeys(("nb_inputs", "nb_outputs"), "nb_channel is the number of both"),
    }

    def __init__(self, nb_channel: int, kernel_dims: Sequence[int], **config: Any) -> None:  # noqa: ANN401
        check_counts(nb_channel=nb_channel)
        mapping = torch.eye(nb_channel, dtype=torch.bool)
        super().__init__(nb_channel, nb_channel, kernel_dims, mapping=mapping, **config)


class ConvPointWise(Conv):
    """A convolution by a kernel of one point."""

    REFUSED: ClassVar[Mapping[str, str]] = {**Conv.REFUSED, "kernel_dims": "it is [1, 1]; a Conv takes any"}

    def __init__(self, nb_inputs: int, nb_outputs: int, **config: Any) -> None:  # noqa: ANN401
        super().__init__(nb_inputs, nb_outputs, [1, 1], **config)


class Deconv(_Kernels):
    """A transposed convolution of 1 to 3 dimensions, and an activation; arguments as for Conv."""

    LAYERS = DECONVS

    def _kernels(self, weight: torch.Tensor) -> torch.Tensor:
        return super()._kernels(weight).transpose(1, 2)  # torch's has the channels first

    def n_positions(self, came: Sequence[int], made: Sequence[int]) -> int:  # noqa: ARG002 - as for all weight cells
        """As often as there are places in the input."""
        return torch.Size(came[1:]).numel()


class Fc(WeightCell):
    """Every output sees every input value; feature maps are flattened.

    Args:
        nb_inputs, nb_outputs: values.
        nb_input_cells: how many inputs make up the values.
        config: name, activation, mapping (nb_inputs x nb_outputs, what is connected), normalize (the weights of each
            output are scaled to length 1 before they are used), drop_connect (the probability that a weight takes part
            in a mini-batch while learning; Wan et al. 2013), and what `WeightCell` says.

    >>> Fc(16 * 5 * 5, 120)(torch.zeros(2, 16, 5, 5)).shape
    torch.Size([2, 120])
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        **WeightCell.OPTIONS,
        "normalize": False,
        "drop_connect": 1.0,
        "weights_export_format": "OC",
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {
        **WeightCell.KINDS,
        "normalize": (bool, int),
        "drop_connect": (float, int),
    }
    CHECKS: ClassVar[Mapping[str, Check]] = {
        **WeightCell.CHECKS,
        "normalize": check_flag,
        "drop_connect": partial(check_number, low=0, high=1),
    }
    IDLE: ClassVar[Mapping[str, tuple[Any, str]]] = {
        **WeightCell.IDLE,
        "weights_export_format": ("OC", "nothing is exported as code"),
    }

    def __init__(self, nb_inputs: int, nb_outputs: int, nb_input_cells: int = 1, **config: Any) -> None:  # noqa: ANN401
        check_counts(nb_inputs=nb_inputs, nb_outputs=nb_outputs, nb_input_cells=nb_input_cells)
        super().__init__(fixed={"nb_inputs": nb_inputs, "nb_outputs": nb_outputs}, **config)

    def make_layer(self) -> nn.Module:
        """A torch linear layer."""
        return nn.Linear(self.fixed["nb_inputs"], self.fixed["nb_outputs"], bias=not self.options["no_bias"])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, ...) -> (batch, nb_outputs)."""
        x = self.joined(tuple(x.flatten(1) for x in inputs))
        if self.options["normalize"]:
            with torch.no_grad():
                self.weight.div_((self.weight.square().sum(1, keepdim=True) + 1e-6).sqrt())
        keep = self.options["drop_connect"]
        if keep < 1 and self.training:
            taking_part = torch.empty_like(self.weight).bernoulli_(keep)
            return self.activated(F.linear(x, self.weight * taking_part, self.bias))
        return self.activated(self.layer(x))


class BatchNorm2d(Trainable, Cell):
    """Batch normalization of channels; `scale_solver` and `bias_solver`, or `solver`, train scale and bias.

    `epsilon` is what is added to the variance, the least that is stable where it is 0; `moving_average_momentum`, in
    [0, 1], is what the last batch counts in the running mean and variance; with 0 these normalize while learning too,
    and so they do with a batch of one value per channel, which has no variance. Both are floats.

    Running variances are counted from ones on; N2D2 counts from 0 on, so that the outputs of a test after few batches
    are far too large. After some dozens of batches the two agree.
    """

    layer: Any
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "scale_solver": SGD,
        "bias_solver": SGD,
        "epsilon": 0.0,
        "moving_average_momentum": 0.1,
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {
        **dict.fromkeys(("scale_solver", "bias_solver"), tuple(SOLVERS.values())),
        **dict.fromkeys(("epsilon", "moving_average_momentum"), (float,)),
    }
    CHECKS: ClassVar[Mapping[str, Check]] = dict.fromkeys(
        ("epsilon", "moving_average_momentum"), partial(check_number, low=0, high=1)
    )
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"solver": ("scale_solver", "bias_solver")}

    def __init__(self, nb_inputs: int, nb_input_cells: int = 1, **config: Any) -> None:  # noqa: ANN401
        check_counts(nb_inputs=nb_inputs, nb_input_cells=nb_input_cells)
        super().__init__(fixed={"nb_inputs": nb_inputs, "nb_outputs": nb_inputs}, **config)
        self.layer = self.placed(nn.BatchNorm2d(nb_inputs))
        self.changed("epsilon")
        self.changed("moving_average_momentum")

    def changed(self, option: str) -> None:
        """A new solver begins without momentum; the layer takes over the numbers."""
        if option == "epsilon":
            self.layer.eps = self.options["epsilon"] or 1e-5  # N2D2's 0 means the least that is stable
        elif option == "moving_average_momentum":
            self.layer.momentum = self.options["moving_average_momentum"]
        else:
            self._optimizer = None

    def set_scale_solver(self, solver: Solver) -> None:
        """Train the scales by this solver."""
        self.scale_solver = solver

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Scale and bias, and the solver of each."""
        pairs = ((self.layer.weight, self.scale_solver), (self.layer.bias, self.bias_solver))
        return {p: solver for p, solver in pairs if p.requires_grad}

    def has_bias(self) -> bool:
        """Whether there are biases: True."""
        return True

    def get_scales(self) -> Tensor:
        """The scales, (1, channels, 1, 1), in the cell's own memory; so are those that follow."""
        return self._of_channels(self.layer.weight)

    def get_biases(self) -> Tensor:
        """The biases."""
        return self._of_channels(self.layer.bias)

    def get_means(self) -> Tensor:
        """The running means."""
        return self._of_channels(self.layer.running_mean)

    def get_variances(self) -> Tensor:
        """The running variances."""
        return self._of_channels(self.layer.running_var)

    @staticmethod
    def _of_channels(values: torch.Tensor) -> Tensor:
        return Tensor.from_torch(values.detach().view(1, -1, 1, 1))

    def get_nb_outputs(self) -> int:
        """How many channels the cell has."""
        return int(self.fixed["nb_outputs"])

    get_nb_channels = get_nb_outputs

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(batch, channels) or (batch, channels, y, x), unchanged in shape."""
        x = self.joined(inputs)
        maps, layer = x if x.dim() == 4 else x.reshape(*x.shape, *(1,) * (4 - x.dim())), self.layer  # noqa: PLR2004
        if layer.momentum == 0 or (self.training and maps.numel() == maps.shape[1]):
            made = F.batch_norm(maps, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)
        else:
            made = layer(maps)
        return self.activated(made if maps is x else made.reshape(x.shape))


def dims(name: str, value: object, n_dims: int, *, low: int) -> list[int]:
    """Sizes as a list of n_dims whole numbers >= low; one number stands for all."""
    sizes = [value] * n_dims if isinstance(value, int | np.integer) else value
    if not isinstance(sizes, list | tuple) or len(sizes) != n_dims:
        raise WrongValue(f"{name}={value!r} is illegal: it must be {n_dims} whole numbers, x first")
    with n2d2_errors():
        for size in sizes:
            check_count(name, size, low=low)
    return [int(size) for size in sizes]
