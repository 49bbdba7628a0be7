"""Cell: a node of a network. A torch.nn.Module with N2D2's name, options, solvers, fillers and PruneCell."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import nn

from n2d2 import global_variables
from n2d2.activation import Activation
from n2d2.cells.last_call import LastCall
from n2d2.cells.options import Options
from n2d2.cells.trainable import Trainable
from n2d2.checked import Declared
from n2d2.error_handler import (
    WrongInputType,
    WrongValue,
    check_choice,
)
from n2d2.files import load_weights, save_weights
from n2d2.quantizer import PruneCell
from n2d2.solver import Solver, SolverOptimizer, build_optimizer
from n2d2.tensor import Tensor
from n2d2.trace import Trace
from n2d2.updating import update

CODE_EXPORTS = ("C", "CPP", "CPP_TensorRT", "CPP_STM32")
"""N2D2's exports of code; a network is not made into code here."""

NO_TENSORS = (str, bytes, int, float, np.ndarray, dict, NoneType)
"""What a cell is called with by mistake."""


class Cell(LastCall, Options, shared=True):
    """What all cells share. Never instantiated itself; arguments as for `Options`.

    A cell is called with torch tensors, as any module, or with n2d2.Tensors, and then returns one that remembers which
    cells took part. Several inputs are several arguments or one list; they are joined along the channels
    where a cell does not say otherwise.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(name=name, fixed=fixed, **options)
        self._optimizer: SolverOptimizer | None = None
        self._quantizer: PruneCell | None = None

    def _parameters_by_name(self) -> dict[str, Any]:
        return {**super()._parameters_by_name(), "quantizer": self._quantizer}

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Propagate; see the class."""
        given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else inputs
        if not any(isinstance(x, Tensor) for x in given):
            if not given or isinstance(given[0], NO_TENSORS):
                raise self._refusal(given)
            with self._naming(given):
                return super().__call__(*given)
        if strangers := [x for x in given if not isinstance(x, Tensor)]:
            raise self._refusal(strangers)
        came = [(x.values if x.trace.cells else _batched(x.values), x.trace) for x in given]  # a cell gives batches
        values = [x for x, _ in came]
        if global_variables.cuda_available and isinstance(self, Trainable):
            device = next(self.parameters()).device
            values = [x.to(device) for x in values]
        trace = Trace.after(self, [x.trace for x in given], len(values[0]))
        with torch.set_grad_enabled(self.training), self._naming(values):
            made = self.wrap(super().__call__(*values), trace)
        self._remember(came, made)
        return made

    @contextmanager
    def _naming(self, inputs: Sequence[torch.Tensor]) -> Iterator[None]:
        """Say which cell it is that torch refuses the inputs of."""
        try:
            yield
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # a full memory, say
                raise
            shapes = " and ".join(str(list(x.shape)) for x in inputs)
            raise WrongValue(f"{self._told()} cannot take an input of {shapes}: {error}") from None

    def _refusal(self, given: Any) -> WrongInputType:  # noqa: ANN401
        what = f"all alike, not a {type(given[0]).__name__}" if given else "one at least"
        return WrongInputType(f"{self.name!r} takes n2d2.Tensors, or torch tensors, {what}")

    def wrap(self, values: torch.Tensor, trace: Trace) -> Tensor:
        """An n2d2.Tensor of this cell's output: four dimensions at least, (batch, channels, 1, 1) of vectors."""
        made = Tensor.from_torch(values.reshape(*values.shape, 1, 1) if values.dim() == 2 else values)  # noqa: PLR2004
        made.trace = trace
        return made

    def activated(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the activation, if there is one."""
        activation: Activation | None = self.options["activation"]
        return x if activation is None else activation(x)

    def joined(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """One input out of several, joined along the channels; cut off from the graph without back_propagate."""
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        return x if self.options["back_propagate"] else x.detach()

    # ---- names and options

    def get_name(self) -> str:
        """The name of the cell."""
        return self.name

    def get_type(self) -> str:
        """N2D2's name of this kind of cell."""
        return type(self).__name__

    def set_activation(self, activation: Activation) -> None:
        """Apply this activation from now on."""
        self.activation = activation

    def get_activation(self) -> Activation | None:
        """The activation, or None."""
        activation: Activation | None = self.options["activation"]
        return activation

    @staticmethod
    def is_exportable_to(export_name: str) -> bool:
        """Whether the cell can be made into code by an export of N2D2's: False, because nothing is made into code here.

        Raises:
            WrongValue: there is no such export.
        """
        check_choice("export_name", export_name, CODE_EXPORTS)
        return False

    # ---- training

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """The cell's own parameters, and the solver of each; see `WeightCell`."""
        return {}

    def step(self, n_samples: int = 1) -> None:
        """One step of the cell's solvers over a mini-batch, with the gradients that are there."""
        if self._optimizer is None and self.solvers():
            self._optimizer = build_optimizer([self])
            if self._quantizer is not None:
                self._quantizer.watch(self._optimizer)
        if self._optimizer is not None:
            self._optimizer.batch_size = n_samples
            self._optimizer.step()
            self._optimizer.zero_grad()

    def update(self, n_samples: int | None = None, epoch_size: int | None = None) -> None:
        """What `Tensor.update()` does for all cells: a step of the solvers, then of the PruneCell's clock.

        Args:
            n_samples: in the mini-batch; by default as many as in the last n2d2.Tensor.
            epoch_size: samples in an epoch; by default what the provider of that tensor says.
        """
        last = self.get_outputs().trace
        update([self], n_samples or last.n_samples, epoch_size or getattr(last.provider, "epoch_size", None))

    @property
    def quantizer(self) -> PruneCell | None:
        """The PruneCell of this cell. Setting one fills its masks at once; None takes it off."""
        return self._quantizer

    @quantizer.setter
    def quantizer(self, quantizer: PruneCell | None) -> None:
        if not isinstance(quantizer, PruneCell | None):
            raise WrongInputType(f"quantizer={quantizer!r} is illegal: it must be a PruneCell or None")
        self._prune_by(quantizer)

    def _prune_by(self, quantizer: PruneCell | None) -> None:
        if quantizer is not None:
            raise WrongValue(f"quantizer of {self.name!r} is illegal: a {self.get_type()} has no weights to prune")

    def learn(self) -> "Cell":
        """Switch to learning: dropout draws, batch statistics are taken, gradients are kept."""
        return self.train()

    def test(self) -> "Cell":
        """Switch to testing."""
        return self.eval()

    def freeze(self) -> "Cell":
        """Let no solver change the cell's parameters."""
        return self.requires_grad_(False)  # noqa: FBT003 - torch's signature

    def export_free_parameters(self, dir_name: str | Path, verbose: bool = True) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Write the weights, biases and masks of the cell as `.syntxt` files into a folder.

        Args:
            dir_name: the folder.
            verbose: print where to.
        """
        save_weights([self], dir_name)
        if verbose:
            print(f"{self.name}: parameters are in {dir_name}")  # noqa: T201 - as N2D2 does

    def import_free_parameters(self, dir_name: str | Path, ignore_not_exists: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Read what `export_free_parameters` wrote."""
        load_weights([self], dir_name, ignore_missing=ignore_not_exists)

    def has_quantizer(self) -> bool:
        """Whether a PruneCell is on this cell."""
        return self._quantizer is not None

    # ---- printing, copying

    def extra_repr(self) -> str:
        """Torch prints it within a container's tree."""
        return str(self).partition("(")[2][:-1]

    def __repr__(self) -> str:
        return self.__str__()

    def __str__(self) -> str:
        """The cell, its options as `global_variables.verbosity` says, and what its last input came from."""
        options = {**self.options, "quantizer": self._quantizer} if self._quantizer else self.options
        told = {
            key: value.brief() if isinstance(value, Declared) else value
            for key, value in options.items()
            if key != "mapping" and key not in self.IDLE  # a table; what does nothing
        }
        pairs = ", ".join(f"{key}={value}" for key, value in told.items() if value is not None)
        detailed = global_variables.verbosity is global_variables.Verbosity.detailed
        inputs = self.get_input_cells()
        return self._told() + (f"({pairs})" if detailed else "") + (f"({inputs})" if inputs else "")

    def _told(self) -> str:
        """The cell and what it is made of; by its name alone where the graph only is to be seen."""
        alone = global_variables.verbosity is global_variables.Verbosity.graph_only
        fixed = {} if alone else self.fixed
        return f"{self.get_type()}({', '.join([repr(self.name), *(f'{key}={value}' for key, value in fixed.items())])})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_came": (), "_made": None, "_optimizer": None}


def _batched(values: torch.Tensor) -> torch.Tensor:
    """One image (channels, height, width) is a batch of one."""
    return values.unsqueeze(0) if values.dim() == 3 else values  # noqa: PLR2004
