"""Options: what a cell is made of, by N2D2's names: checked when it is made, and when they are set."""

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from types import NoneType
from typing import Any, ClassVar

import torch
from torch import nn

from n2d2 import global_variables
from n2d2.activation import ACTIVATIONS
from n2d2.calling import CheckedCall
from n2d2.cells.naming import default_name
from n2d2.cells.trainable import Trainable
from n2d2.checks import check_flag, check_text
from n2d2.error_handler import (
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
    check_choice,
    n2d2_errors,
    refuse_unknown,
)
from n2d2.fields import Check
from n2d2.ini.errors import hint
from n2d2.named import Named
from n2d2.solver import Solver
from n2d2.warning import warn_caller
from prunecell.errors import nearest


class Options(Named, nn.Module, metaclass=CheckedCall, shared=True):
    """What cells are made of. Never instantiated itself.

    Args:
        name: by default its class and a number.
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
        refuse_unknown(kind, options, ["name", *known, *self.ALIASES])
        chosen = {name: value for name, value in options.items() if value is not None}
        shared = {one: _own(chosen[alias]) for alias, ones in self.ALIASES.items() if alias in chosen for one in ones}
        given = {**shared, **chosen}
        self.name, self.fixed = name or default_name(kind), dict(fixed or {})
        self.options = {
            option: given[option] if option in given else default() if callable(default) else default
            for option, default in known.items()
        }
        for option in self.options:
            self._check(option, self.options[option])
        self._check_place()

    def _check_place(self) -> None:
        """Say what a model or a datatype cannot do here."""
        model, datatype = self.options["model"], self.options["datatype"]
        if model == "Frame_CUDA" and not global_variables.cuda_available:
            warn_caller(f"model='Frame_CUDA' of {self.name!r} has no effect: torch finds no GPU, it is on the CPU")
        if datatype not in (None, global_variables.default_datatype) and not isinstance(self, Trainable):
            raise WrongValue(
                f"datatype={datatype!r} is illegal: a {type(self).__name__} has no parameters,"
                " it computes in the type of its input"
            )
        for option, (default, why) in self.IDLE.items():
            if self.options[option] != default:
                warn_caller(f"{option}={self.options[option]!r} of {self.name!r} has no effect: {why}")

    def placed(self, layer: nn.Module) -> nn.Module:
        """Put a layer where the model says, in the datatype."""
        model, datatype = self.options["model"], self.options["datatype"]
        on_gpu = model == "Frame_CUDA" and global_variables.cuda_available
        device = torch.device("cuda", global_variables.cuda_device) if on_gpu else torch.device("cpu")
        return layer.to(
            device if model else global_variables.device(),
            global_variables.DATATYPES[datatype] if datatype else global_variables.dtype(),
        )

    # ---- as parameters and as attributes

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
        return {"name": self.name, **self.fixed, **self.options}

    def _unknown(self, key: str) -> UndefinedParameterError:
        legal = [*self._parameters_by_name(), *self.ALIASES]
        return UndefinedParameterError(f"{type(self).__name__} has no parameter {key!r}{nearest(key, legal)}")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - options of any type
        try:
            return super().__getattr__(name)
        except AttributeError:
            options = {**self.__dict__.get("fixed", {}), **self.__dict__.get("options", {})}
            for option in (name, *self.ALIASES.get(name, ())):
                if option in options:
                    return options[option]
            meant = hint(name, [*options, *dir(type(self))])
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{meant}") from None

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        options = self.__dict__.get("options", {})
        if name == "name":
            check_text(name, value)
        if name in options or name in self.ALIASES:
            for option in self.ALIASES.get(name, (name,)):
                if option not in self._kinds():
                    raise UndefinedParameterError(
                        f"{name} of {self.name!r} cannot change: give it when the cell is made"
                    )
                self._check(option, value)
                options[option] = value if option == name else _own(value)
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
        check = {**SHARED, **self.CHECKS}.get(option)
        if check is not None:
            with n2d2_errors():
                check(option, value)
        kinds = self._kinds().get(option)
        if kinds and not isinstance(value, kinds):
            legal = ", ".join(kind.__name__ for kind in kinds if kind is not NoneType)
            raise WrongInputType(f"{option}={value!r} is illegal: it must be one of {legal}, not a {_kind(value)}")

    def changed(self, option: str) -> None:
        """An option was set."""


def _is_none_or(legal: Mapping[str, Any] | tuple[str, ...]) -> Check:
    return lambda name, value: None if value is None else check_choice(name, value, legal)


SHARED: Mapping[str, Check] = {
    "model": _is_none_or(global_variables.MODELS),
    "datatype": _is_none_or(global_variables.DATATYPES),
    "back_propagate": check_flag,
}
"""The checks of options that all cells have."""


def _kind(value: object) -> str:
    return type(value).__name__


def _own(value: Any) -> Any:  # noqa: ANN401 - of an option
    """What one of several options that share a value gets: a solver of its own, so that it can change alone."""
    return copy.copy(value) if isinstance(value, Solver) else value
