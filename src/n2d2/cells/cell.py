"""Cell: a node of a network. A torch.nn.Module with N2D2's name, options, solvers, fillers and PruneCell."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import torch
from torch import nn

from n2d2 import global_variables
from n2d2.activation import ACTIVATIONS, Activation
from n2d2.cells.naming import default_name
from n2d2.error_handler import UndefinedParameterError, WrongInputType, n2d2_errors, refuse_unknown
from n2d2.fields import Check, Declared
from n2d2.files import load_weights, save_weights
from n2d2.quantizer import PruneCell
from n2d2.solver import Solver, SolverOptimizer, build_optimizer, with_parameter
from n2d2.tensor import Tensor, Trace
from n2d2.updating import update


class Cell(nn.Module):
    """What all cells share. Never instantiated itself.

    A cell is called with torch tensors, as any module, or with n2d2.Tensors, and then returns one that remembers which
    cells took part. Several inputs are several arguments or one list; they are joined along the channels
    where a cell does not say otherwise.

    Args:
        name: the cell's name in its network; by default its class and a number.
        fixed: constructor arguments that are no options.
        options: values by the names of COMMON and OPTIONS, which have their defaults, or what makes these. `model` and
            `datatype` are accepted without effect.

    Fixed arguments and options are attributes. Those in KINDS, which has what they must be, can be set later; CHECKS
    refuses illegal values of the others. An alias stands for several options.

    Raises:
        UndefinedParameterError: an unknown option; the nearest is offered.
        WrongInputType, WrongValue: an option is not of its kind, or not legal.
    """

    COMMON: ClassVar[Mapping[str, Any]] = {"activation": None, "back_propagate": True, "model": None, "datatype": None}
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    CHECKS: ClassVar[Mapping[str, Check]] = {}
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(
        self,
        *,
        name: str | None = None,
        fixed: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        kind, known = type(self).__name__, {**self.COMMON, **self.OPTIONS}
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
        self._outputs: torch.Tensor | None = None
        self._optimizer: SolverOptimizer | None = None
        self._quantizer: PruneCell | None = None

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Propagate; see the class."""
        given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else inputs
        if not any(isinstance(x, Tensor) for x in given):
            return super().__call__(*given)
        values = [x.values if x.trace.cells else _batched(x.values) for x in given]  # a cell gives batches
        trace = Trace.after(self, [x.trace for x in given], len(values[0]))
        with torch.set_grad_enabled(self.training):
            return self.wrap(super().__call__(*values), trace)

    def wrap(self, values: torch.Tensor, trace: Trace) -> Tensor:
        """An n2d2.Tensor of this cell's output: four dimensions at least, (batch, channels, 1, 1) of vectors."""
        made = Tensor.from_torch(values.reshape(*values.shape, 1, 1) if values.dim() == 2 else values)  # noqa: PLR2004
        made.trace = trace
        self.__dict__["_outputs"] = made.values.detach()  # torch's __setattr__ takes longer
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

    def get_outputs(self) -> Tensor:
        """The last output for an n2d2.Tensor; an empty tensor before the first."""
        return Tensor.from_torch(torch.empty(0) if self._outputs is None else self._outputs)

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
                self._check(option, value)
                if option not in self._kinds():
                    raise UndefinedParameterError(
                        f"{name} of {self.name!r} cannot change: give it when the cell is made"
                    )
                options[option] = value
                self.changed(option)
            return
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
        if option in self.CHECKS:
            with n2d2_errors():
                self.CHECKS[option](option, value)
        kinds = self._kinds().get(option)
        if kinds and not isinstance(value, kinds):
            legal = ", ".join(kind.__name__ for kind in kinds if kind is not NoneType)
            raise WrongInputType(
                f"{option}={value!r} is illegal: it must be one of {legal}, not a {type(value).__name__}"
            )

    def changed(self, option: str) -> None:
        """An option was set."""

    # ---- training

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """The cell's own parameters, and the solver of each; see `WeightCell`."""
        return {}

    def set_solver_parameter(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Set one parameter of all solvers of the cell."""
        for option in self.KINDS:
            if option.endswith("_solver"):
                setattr(self, option, with_parameter(self.options[option], key, value))

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

    def update(self, n_samples: int = 1, epoch_size: int | None = None) -> None:
        """What `Tensor.update()` does for all cells: a step of the solvers, then of the PruneCell's clock."""
        update([self], n_samples, epoch_size)

    @property
    def quantizer(self) -> PruneCell | None:
        """The PruneCell of this cell, or None."""
        return self._quantizer

    def learn(self) -> "Cell":
        """Switch to learning: dropout draws, batch statistics are taken, gradients are kept."""
        return self.train()

    def test(self) -> "Cell":
        """Switch to testing."""
        return self.eval()

    def freeze(self) -> "Cell":
        """Let no solver change the cell's parameters."""
        return self.requires_grad_(False)  # noqa: FBT003 - torch's signature

    def export_free_parameters(self, dir_name: str | Path) -> None:
        """Write the weights, biases and masks of the cell as `.syntxt` files into a folder."""
        save_weights([self], dir_name)

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
        fixed = ", ".join([repr(self.name), *(f"{key}={value}" for key, value in self.fixed.items())])
        if global_variables.verbosity is not global_variables.Verbosity.detailed:
            return f"{self.get_type()}({fixed})"
        options = {**self.options, "quantizer": self._quantizer} if self._quantizer else self.options
        told = {key: value.brief() if isinstance(value, Declared) else value for key, value in options.items()}
        pairs = ", ".join(f"{key}={value}" for key, value in told.items() if value is not None)
        return f"{self.get_type()}({fixed})({pairs})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_outputs": None, "_optimizer": None}


def _batched(values: torch.Tensor) -> torch.Tensor:
    """One image (channels, height, width) is a batch of one."""
    return values.unsqueeze(0) if values.dim() == 3 else values  # noqa: PLR2004
