"""Cell: a node of a network. A torch.nn.Module with N2D2's name, options, solvers, fillers and PruneCell."""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from n2d2 import global_variables
from n2d2.activation import ACTIVATIONS, Activation
from n2d2.calling import CheckedCall
from n2d2.cells.last_call import LastCall
from n2d2.cells.naming import default_name
from n2d2.cells.trainable import Trainable
from n2d2.error_handler import (
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
    check_choice,
    n2d2_errors,
    refuse_unknown,
)
from n2d2.fields import Check, Declared
from n2d2.files import load_weights, save_weights
from n2d2.named import Named
from n2d2.quantizer import PruneCell
from n2d2.solver import Solver, SolverOptimizer, build_optimizer
from n2d2.tensor import Tensor, Trace
from n2d2.updating import update
from prunecell.errors import nearest

EXPORTS = ("C", "CPP", "CPP_TensorRT", "CPP_STM32")
"""N2D2's exports of code; a network is not made into code here."""

NO_TENSORS = (str, bytes, int, float, np.ndarray, dict, NoneType)
"""What a cell is called with by mistake."""


class Cell(LastCall, Named, nn.Module, metaclass=CheckedCall):
    """What all cells share. Never instantiated itself.

    A cell is called with torch tensors, as any module, or with n2d2.Tensors, and then returns one that remembers which
    cells took part. Several inputs are several arguments or one list; they are joined along the channels
    where a cell does not say otherwise.

    Args:
        name: the cell's name in its network; by default its class and a number.
        fixed: constructor arguments that are no options.
        options: values by the names of COMMON and OPTIONS, which have their defaults, or what makes these. `model`
            ("Frame", or "Frame_CUDA" for the GPU) and `datatype` ("float", "double", "half") say where and in which
            type the cell has its parameters; by default as `global_variables` does.

    Fixed arguments and options are attributes. Those in KINDS, which has what they must be, can be set later; CHECKS
    refuses illegal values. An alias stands for several options. IDLE are options without effect, each with the value
    that N2D2 has by default, and why; REFUSED are those that N2D2 has, and what to use instead.

    Raises:
        UndefinedParameterError: an unknown option; the nearest is offered.
        ImplementationError: a refused option.
        WrongInputType, WrongValue: an option is not of its kind, or not legal; arguments are missing or too many.
    """

    COMMON: ClassVar[Mapping[str, Any]] = {"activation": None, "back_propagate": True, "model": None, "datatype": None}
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    CHECKS: ClassVar[Mapping[str, Check]] = {}
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    IDLE: ClassVar[Mapping[str, tuple[Any, str]]] = {}
    REFUSED: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        *,
        name: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        kind, known = type(self).__name__, {**self.COMMON, **self.OPTIONS}
        if type(self) is Cell:
            raise WrongInputType("Cell is what cells share: make a Conv, an Fc, a Pool, ...")
        if not isinstance(name, str | None):
            raise WrongInputType(f"name={name!r} is illegal: it must be a string, not a {_kind(name)}")
        refuse_unknown(kind, options, ["name", *known, *self.ALIASES])
        chosen = {name: value for name, value in options.items() if value is not None}
        shared = {one: chosen[alias] for alias, ones in self.ALIASES.items() if alias in chosen for one in ones}
        given = {**shared, **chosen}
        self.name, self.fixed = name or default_name(kind), dict(fixed or {})
        self.options = {
            option: given[option] if option in given else default() if callable(default) else default
            for option, default in known.items()
        }
        for option in self.options:
            self._check(option, self.options[option])
        self._check_place()
        self._forget_call()
        self._optimizer: SolverOptimizer | None = None
        self._quantizer: PruneCell | None = None

    def _check_place(self) -> None:
        """Say what a model or a datatype cannot do here."""
        model, datatype = self.options["model"], self.options["datatype"]
        if model == "Frame_CUDA" and not global_variables.cuda_available:
            warnings.warn(
                f"model='Frame_CUDA' of {self.name!r} has no effect: torch finds no GPU, so it computes on the CPU",
                stacklevel=5,
            )
        if datatype not in (None, global_variables.default_datatype) and not isinstance(self, Trainable):
            raise WrongValue(
                f"datatype={datatype!r} is illegal: a {type(self).__name__} has no parameters,"
                " it computes in the type of its input"
            )
        for option, (default, why) in self.IDLE.items():
            if self.options[option] != default:
                warnings.warn(f"{option}={self.options[option]!r} of {self.name!r} has no effect: {why}", stacklevel=5)

    def placed(self, layer: nn.Module) -> nn.Module:
        """Put a layer where the model says, in the datatype."""
        model, datatype = self.options["model"], self.options["datatype"]
        on_gpu = model == "Frame_CUDA" and global_variables.cuda_available
        device = torch.device("cuda", global_variables.cuda_device) if on_gpu else torch.device("cpu")
        return layer.to(
            device if model else global_variables.device(),
            global_variables.DATATYPES[datatype] if datatype else global_variables.dtype(),
        )

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Propagate; see the class."""
        given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else inputs
        if not any(isinstance(x, Tensor) for x in given):
            if not given or isinstance(given[0], NO_TENSORS):
                raise self._refusal(given)
            return super().__call__(*given)
        if strangers := [x for x in given if not isinstance(x, Tensor)]:
            raise self._refusal(strangers)
        came = [(x.values if x.trace.cells else _batched(x.values), x.trace) for x in given]  # a cell gives batches
        values = [x for x, _ in came]
        if global_variables.cuda_available and isinstance(self, Trainable):
            device = next(self.parameters()).device
            values = [x.to(device) for x in values]
        trace = Trace.after(self, [x.trace for x in given], len(values[0]))
        with torch.set_grad_enabled(self.training):
            try:
                made = self.wrap(super().__call__(*values), trace)
            except RuntimeError as error:
                if type(error) is not RuntimeError:  # a full memory, say
                    raise
                shapes = " and ".join(str(list(x.shape)) for x in values)
                raise WrongValue(f"{self._told()} cannot take an input of {shapes}: {error}") from None
        self._remember(came, made)
        return made

    def _refusal(self, given: Any) -> WrongInputType:  # noqa: ANN401
        what = f"all alike, not a {_kind(given[0])}" if given else "one at least"
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

    def get_parameter(self, key: str) -> Any:  # noqa: ANN401 - options of any type
        """The value of a parameter of N2D2's; or torch's, the parameter that a path leads to.

        Raises:
            UndefinedParameterError: there is neither.
        """
        known = self._parameters_by_name()
        for option in (key, *self.ALIASES.get(key, ())):
            if option in known:
                return known[option]
        try:
            return nn.Module.get_parameter(self, key)
        except AttributeError:
            raise self._unknown(key) from None

    def set_parameter(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Set a parameter, as by its attribute.

        Raises:
            UndefinedParameterError: it has no such parameter, or this one cannot change.
            WrongValue, WrongInputType: the value is illegal.
        """
        if key not in self._parameters_by_name() and key not in self.ALIASES:
            raise self._unknown(key)
        setattr(self, key, value)

    def _parameters_by_name(self) -> dict[str, Any]:
        return {"name": self.name, "quantizer": self._quantizer, **self.fixed, **self.options}

    def _unknown(self, key: str) -> UndefinedParameterError:
        legal = [*self._parameters_by_name(), *self.ALIASES]
        return UndefinedParameterError(f"{type(self).__name__} has no parameter {key!r}{nearest(key, legal)}")

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
        check_choice("export_name", export_name, EXPORTS)
        return False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - options of any type
        try:
            return super().__getattr__(name)
        except AttributeError:
            options = {**self.__dict__.get("fixed", {}), **self.__dict__.get("options", {})}
            for option in (name, *self.ALIASES.get(name, ())):
                if option in options:
                    return options[option]
            near = get_close_matches(name, [*options, *dir(type(self))], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}") from None

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        options = self.__dict__.get("options", {})
        if name in options or name in self.ALIASES:
            for option in self.ALIASES.get(name, (name,)):
                if option not in self._kinds():
                    raise UndefinedParameterError(
                        f"{name} of {self.name!r} cannot change: give it when the cell is made"
                    )
                self._check(option, value)
                options[option] = value
                self.changed(option)
            return
        if name in self.__dict__.get("fixed", {}):
            raise UndefinedParameterError(f"{name} of {self.name!r} cannot change: give it when the cell is made")
        if options and not name.startswith("_") and not isinstance(value, nn.Module) and not hasattr(self, name):
            near = get_close_matches(name, [*options, *dir(type(self))], n=1, cutoff=0.8)
            if near:  # a slip of the pen; other new attributes are the user's own affair
                raise UndefinedParameterError(
                    f"{type(self).__name__} has no attribute {name!r}; did you mean {near[0]!r}?"
                )
        super().__setattr__(name, value)

    @classmethod
    def _kinds(cls) -> dict[str, tuple[type, ...]]:
        return {"activation": (*ACTIVATIONS.values(), NoneType), "back_propagate": (bool, int), **cls.KINDS}

    def _check(self, option: str, value: object) -> None:
        check = {**PLACES, **self.CHECKS}.get(option)
        if check is not None:
            with n2d2_errors():
                check(option, value)
        kinds = self._kinds().get(option)
        if kinds and not isinstance(value, kinds):
            legal = ", ".join(kind.__name__ for kind in kinds if kind is not NoneType)
            raise WrongInputType(f"{option}={value!r} is illegal: it must be one of {legal}, not a {_kind(value)}")

    def changed(self, option: str) -> None:
        """An option was set."""

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


def _is_none_or(legal: Mapping[str, Any] | tuple[str, ...]) -> Check:
    return lambda name, value: None if value is None else check_choice(name, value, legal)


PLACES: Mapping[str, Check] = {
    "model": _is_none_or(global_variables.MODELS),
    "datatype": _is_none_or(global_variables.DATATYPES),
}
"""The checks of the options that say where and in which type a cell computes."""


def _kind(value: object) -> str:
    return type(value).__name__


def _batched(values: torch.Tensor) -> torch.Tensor:
    """One image (channels, height, width) is a batch of one."""
    return values.unsqueeze(0) if values.dim() == 3 else values  # noqa: PLR2004
