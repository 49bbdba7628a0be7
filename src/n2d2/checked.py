"""Objects with N2D2's parameters: they are checked when they are set, and unknown ones are refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, dataclass_transform

from n2d2.calling import CheckedCall, signature_of
from n2d2.error_handler import WrongInputType, check_choice, n2d2_errors, refuse_unknown
from n2d2.fields import accepted, checked_by, choice, count, flag, location, number, texts
from n2d2.global_variables import DATATYPES, check_model
from n2d2.named import Named


class Checked(Named, metaclass=CheckedCall):
    """An object whose parameters are what its class is called with. A field's check runs whenever it is set.

    Raises:
        UndefinedParameterError: a parameter or member that it does not have; the nearest is offered.
        ImplementationError: one that N2D2 has and that is refused here.
        WrongValue, WrongInputType: an illegal value, or a wrong number of arguments.
    """

    REFUSED: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Parameters that N2D2 has, each with what to use instead."""

    @classmethod
    def _parameters(cls) -> list[str]:
        return list(signature_of(cls).parameters)

    def _check_parameter(self, key: object) -> None:
        if not isinstance(key, str):
            raise WrongInputType(f"key={key!r} is illegal: it must be the name of a parameter")
        refuse_unknown(type(self).__name__, [key], self._parameters(), self.REFUSED)

    def get_parameter(self, key: str) -> Any:  # noqa: ANN401
        """The value of a parameter."""
        self._check_parameter(key)
        return super().get_parameter(key)

    def set_parameter(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Set a parameter, as by its attribute."""
        self._check_parameter(key)
        super().set_parameter(key, value)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            refuse_unknown(type(self).__name__, [name], self._parameters(), self.REFUSED)
            field = getattr(self, "__dataclass_fields__", {}).get(name)
            if field is not None and "check" in field.metadata:
                with n2d2_errors():
                    field.metadata["check"](name, value)
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # a type checker would take every name for a member

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_"):
                members = [member for member in dir(type(self)) if not member.startswith("_")]
                refuse_unknown(type(self).__name__, [name], [*self._parameters(), *members], self.REFUSED)
            raise AttributeError(name)


def printed(one: Any) -> str:  # noqa: ANN401 - any dataclass
    """Print a dataclass with the parameters that are not at their defaults, those by keyword last.

    >>> from n2d2.transform import PadCrop
    >>> PadCrop(24, 24, apply_to="LearnOnly")
    PadCrop(width=24, height=24, apply_to='LearnOnly')
    """
    told = [part for part in fields(one) if part.repr and getattr(one, part.name) != part.default]
    pairs = (f"{part.name}={getattr(one, part.name)!r}" for part in sorted(told, key=lambda part: part.kw_only is True))
    return f"{type(one).__name__}({', '.join(pairs)})"


def _check_model(name: str, value: object) -> None:
    if value is not None:
        check_model(name, value)


def _check_datatype(name: str, value: object) -> None:
    if value is not None:
        check_choice(name, value, DATATYPES)


@dataclass_transform(
    kw_only_default=True, field_specifiers=(number, count, choice, flag, location, texts, accepted, checked_by)
)
class Declared(Checked, shared=True):
    """What PruneCell, solvers, fillers and activations share: their fields are all that they are.

    A subclass lists its fields; the class statement makes it a dataclass, called by keywords, and printed as
    `Name(key=value, ...)`. `model` and `datatype` are checked, and have no effect: where a cell lives, and the type of
    its weights, decide.
    """

    model: str | None = checked_by(_check_model, default=None)
    datatype: str | None = checked_by(_check_datatype, default=None)

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True, repr=False)(cls)

    def settings(self) -> dict[str, Any]:
        """The parameters by name, those without effect left out."""
        return {name: getattr(self, name) for name in self._parameters() if name not in ("model", "datatype")}

    def get_type(self) -> str:
        """N2D2's name of this kind of object."""
        return type(self).__name__

    def brief(self) -> str:
        """Printed with those parameters only that are not at their defaults."""
        defaults = {one.name: one.default for one in fields(self)}  # type: ignore[arg-type] # a dataclass
        return self._printed({name: value for name, value in self.settings().items() if value != defaults[name]})

    def __repr__(self) -> str:
        return self._printed(self.settings())

    def _printed(self, settings: dict[str, Any]) -> str:
        pairs = ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
        return f"{self.get_type()}({pairs})"


dataclass(kw_only=True, repr=False)(Declared)
