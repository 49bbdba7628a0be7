"""WeightCell: what cells with weights share. Each holds one torch layer, `cell.layer`, whose parameters are its own."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from n2d2.activation import Linear
from n2d2.cells.cell import Cell
from n2d2.cells.listed import Biases, Weights
from n2d2.cells.mapping import to_mapping
from n2d2.cells.naming import weight_name
from n2d2.cells.trainable import Trainable
from n2d2.checks import check_flag
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.fields import Check
from n2d2.filler import FILLERS, Filler, Normal
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, SOLVERS, Solver
from n2d2.tensor import Tensor


class WeightCell(Trainable, Cell, shared=True):
    """What cells with weights share. Never instantiated itself.

    Options: `filler` or `weights_filler` and `bias_filler`, `solver` or `weights_solver` and `bias_solver`, `no_bias`,
    `quantizer` (a PruneCell of its own). A filler fills when the cell is made, and when it is told to refill.
    """

    layer: Any
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "activation": Linear,
        "weights_filler": lambda: Normal(std_dev=0.05),
        "bias_filler": lambda: Normal(std_dev=0.05),
        "weights_solver": SGD,
        "bias_solver": SGD,
        "no_bias": False,
        "mapping": None,
        "quantizer": None,
        "weights_export_format": "OCHW",
        "outputs_remap": "",
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {
        **dict.fromkeys(("weights_filler", "bias_filler"), tuple(FILLERS.values())),
        **dict.fromkeys(("weights_solver", "bias_solver"), tuple(SOLVERS.values())),
        "mapping": (object,),
    }
    CHECKS: ClassVar[Mapping[str, Check]] = {"no_bias": check_flag}
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "filler": ("weights_filler", "bias_filler"),
        "solver": ("weights_solver", "bias_solver"),
    }
    IDLE: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "weights_export_format": ("OCHW", "nothing is exported as code"),
        "outputs_remap": ("", "nothing is exported as code"),
    }

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - as for Cell
        super().__init__(**arguments)
        quantizer = self.options.pop("quantizer")
        self.layer = self.make_layer()
        table = self._table()
        if not table.all() and self._n_groups() == 1:
            self._connect(table)
        self.layer = self.placed(self.layer)
        self._guard()
        self.refill_weights()
        self.refill_bias()
        self.quantizer = quantizer

    @abstractmethod
    def make_layer(self) -> nn.Module:
        """The torch layer that `fixed` and `options` ask for."""

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

    def _check(self, option: str, value: object) -> None:
        super()._check(option, value)
        if option == "mapping":
            to_mapping(value, self.fixed["nb_inputs"], self.fixed["nb_outputs"])
            if "layer" in self._modules and self._n_groups() > 1:
                raise WrongValue(
                    f"mapping of {self.name!r} cannot change: its weights are those of the first one alone"
                )

    def changed(self, option: str) -> None:
        """A new solver begins without momentum. A new mapping takes weights away, and fills the masks again."""
        self._optimizer = None
        if option == "mapping":
            quantizer, self.quantizer = self._quantizer, None
            guarded = self.connections is not None
            self._connect(self._table())
            if not guarded:
                self._guard()
            self.refill()
            self.quantizer = quantizer

    def _table(self) -> torch.Tensor:
        return to_mapping(self.options["mapping"], self.fixed["nb_inputs"], self.fixed["nb_outputs"])

    def _n_groups(self) -> int:
        return getattr(self.layer, "groups", 1)

    def _connect(self, table: torch.Tensor) -> None:
        """Keep, of the weight's shape, what a table (nb_inputs, nb_outputs) connects."""
        by_output = table.T.reshape(*table.T.shape, *(1,) * (self.weight.dim() - 2)).to(self.weight.device)
        there = torch.zeros_like(self.weight, dtype=torch.bool)
        self._kernels(there).copy_(by_output)
        self.layer.register_buffer("connections", there, persistent=False)

    def _kernels(self, weight: torch.Tensor) -> torch.Tensor:
        """A view of a tensor of the weight's shape: (groups, outputs of one, channels of one, *kernel)."""
        return weight.view(self._n_groups(), -1, *weight.shape[1:])

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

    # ---- fillers and solvers

    def refill_weights(self) -> None:
        """Draw the weights anew by `weights_filler`. A PruneCell fills its masks again, as after an import."""
        self.weights_filler(self.weight)
        self.refill()

    def refill_bias(self) -> None:
        """Draw the biases anew by `bias_filler`, if there are any."""
        if self.bias is not None:
            self.bias_filler(self.bias)

    def set_filler(self, filler: Filler, refill: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Fill weights and biases by this filler from now on; with `refill`, at once."""
        self.set_weights_filler(filler, refill)
        self.set_bias_filler(filler, refill)

    def set_weights_filler(self, filler: Filler, refill: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Fill the weights by this filler from now on; with `refill`, at once."""
        self.weights_filler = filler
        if refill:
            self.refill_weights()

    def set_bias_filler(self, filler: Filler, refill: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Fill the biases by this filler from now on; with `refill`, at once."""
        self.bias_filler = filler
        if refill:
            self.refill_bias()

    def get_weights_filler(self) -> Filler:
        """The filler of the weights."""
        filler: Filler = self.weights_filler
        return filler

    def get_bias_filler(self) -> Filler:
        """The filler of the biases."""
        filler: Filler = self.bias_filler
        return filler

    def set_weights_solver(self, solver: Solver) -> None:
        """Train the weights by this solver."""
        self.weights_solver = solver

    def set_bias_solver(self, solver: Solver) -> None:
        """Train the biases by this solver."""
        self.bias_solver = solver

    def get_weights_solver(self) -> Solver:
        """The solver of the weights."""
        solver: Solver = self.weights_solver
        return solver

    def get_bias_solver(self) -> Solver:
        """The solver of the biases."""
        solver: Solver = self.bias_solver
        return solver

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Each parameter that learns, and its solver."""
        pairs = ((self.layer.weight, self.weights_solver), (self.layer.bias, self.bias_solver))
        return {p: solver for p, solver in pairs if p is not None and p.requires_grad}

    def _prune_by(self, quantizer: PruneCell | None) -> None:
        before = self._quantizer
        if quantizer is before:
            return
        state = None if before is None else before.state_dict()
        if before is not None:
            before.detach()
        try:
            if quantizer is not None:
                quantizer.attach(self)
        except WrongValue:
            if before is not None:
                before.attach(self)
                before.load_state_dict(state)
            raise
        self._quantizer = quantizer
        self._optimizer = None

    # ---- values

    def get_weights(self) -> Weights:
        """A copy of all weights, (out, in / groups, *kernel): lists, for each output, of a tensor for each channel."""
        return Weights.of(self._kernels(self.weight.detach()).flatten(0, 1).clone(), self._n_groups())

    def get_biases(self) -> Biases:
        """A copy of all biases, (out,): a list of tensors of one value.

        Raises:
            WrongValue: there are none.
        """
        return Biases.of(self._biases().clone())

    def _biases(self) -> torch.Tensor:
        if self.bias is None:
            raise WrongValue(f"{self.name!r} has no biases: it was made with no_bias=True")
        return self.bias.detach()

    def get_weight(self, output_index: int, channel_index: int) -> Tensor:
        """A copy of the kernel between one output and one channel; zeros where the output does not see the channel."""
        place = self._place(output_index, channel_index)
        kernels = self._kernels(self.weight.detach())
        kernel = kernels.new_zeros(kernels.shape[3:]) if place is None else kernels[place].clone()
        return Tensor.from_torch(kernel.reshape(kernel.shape or (1,)))

    def set_weight(self, output_index: int, channel_index: int, value: Tensor) -> None:
        """Replace the kernel between one output and one channel.

        Raises:
            WrongValue: there is no such output or channel, the value has another size, or it is not zero where the
                output does not see the channel.
        """
        place = self._place(output_index, channel_index)
        if place is not None:
            Tensor.from_torch(self._kernels(self.weight.detach())[place]).set_values(value)
            if self._quantizer is not None:
                self._quantizer.refill()
        elif np.any(np.asarray(value)):
            raise WrongValue(f"output {output_index} of {self.name!r} does not see channel {channel_index}")

    def _place(self, output_index: int, channel_index: int) -> tuple[int, int, int] | None:
        """Where in `_kernels` a kernel is; None where the output does not see the channel."""
        _check_index("output_index", output_index, self.get_nb_outputs())
        _check_index("channel_index", channel_index, self.get_nb_channels())
        _, n_outputs, n_channels = self._kernels(self.weight).shape[:3]
        (group, output), (of_channel, channel) = divmod(output_index, n_outputs), divmod(channel_index, n_channels)
        there = self.connections
        unseen = group != of_channel or (there is not None and not self._kernels(there)[group, output, channel].any())
        return None if unseen else (group, output, channel)

    def get_bias(self, output_index: int) -> Tensor:
        """A copy of one bias, a tensor of one value."""
        _check_index("output_index", output_index, self.get_nb_outputs())
        return Tensor.from_torch(self._biases()[output_index : output_index + 1].clone())

    def set_bias(self, output_index: int, value: Tensor) -> None:
        """Replace one bias."""
        _check_index("output_index", output_index, self.get_nb_outputs())
        Tensor.from_torch(self._biases()[output_index : output_index + 1]).set_values(value)

    def has_bias(self) -> bool:
        """Whether there are biases."""
        return self.bias is not None

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


def _check_index(name: str, index: object, n: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise WrongInputType(f"{name}={index!r} is illegal: it must be a whole number, not a {type(index).__name__}")
    if not 0 <= index < n:
        raise WrongValue(f"{name}={index} is illegal: it must be in [0, {n - 1}]")
