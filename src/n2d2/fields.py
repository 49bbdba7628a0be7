"""Parameters of N2D2's kind: the fields of a dataclass, checked and printed as `Name(key=value, ...)`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, dataclass_transform

import numpy as np

from n2d2.error_handler import UndefinedParameterError, WrongInputType, check_choice, n2d2_errors, refuse_unknown
from n2d2.global_variables import DATATYPES, check_model
from n2d2.named import Named
from prunecell.errors import check_count, check_number, check_texts

Check = Callable[[str, object], object]


def checked(default: Any, check: Check) -> Any:  # noqa: ANN401 - a field of any type
    """A field that a check refuses or lets pass."""
    return field(default=default, metadata={"check": check})


def number(default: float, *, low: float = float("-inf"), high: float = float("inf"), open_low: bool = False) -> Any:  # noqa: ANN401
    """A field that holds a finite number in [low, high], or (low, high]."""
    return checked(default, lambda name, value: check_number(name, value, low=low, high=high, open_low=open_low))


def count(default: int, *, low: int = 0) -> Any:  # noqa: ANN401
    """A field that holds a whole number >= low."""
    return checked(default, lambda name, value: check_count(name, value, low=low))


def choice(*legal: str, default: str = "") -> Any:  # noqa: ANN401
    """A field that holds one of the legal strings; without a default, the first."""
    return checked(default or legal[0], lambda name, value: check_choice(name, value, dict.fromkeys(legal)))


def flag(*, default: bool) -> Any:  # noqa: ANN401
    """A field that holds a bool (or 0 or 1)."""
    return checked(default, check_flag)


def check_flag(name: str, value: object) -> None:
    """Refuse, by name, a value that is not a bool (or 0 or 1)."""
    if not isinstance(value, int | np.integer | np.bool_) or value not in (0, 1):
        raise WrongInputType(f"{name}={value!r} is illegal: it must be True or False")


def texts() -> Any:  # noqa: ANN401
    """A field that holds a list of texts, or None for none; by default an empty one."""
    return checked((), lambda name, value: None if value is None else check_texts(name, value))


def accepted(*, default: Any = None) -> Any:  # noqa: ANN401
    """A field that holds anything: N2D2 has it, here it has no effect."""
    return field(default=default)


def _check_model(name: str, value: object) -> None:
    if value is not None:
        check_model(name, value, stacklevel=5)


def _check_datatype(name: str, value: object) -> None:
    if value is not None:
        check_choice(name, value, DATATYPES)


@dataclass_transform(kw_only_default=True, field_specifiers=(number, count, choice, flag, texts, accepted, checked))
class Declared(Named):
    """What PruneCell, solvers, fillers and activations share. Never instantiated itself.

    A subclass lists its fields; the class statement makes it a dataclass. `class Solver(Declared, shared=True)` is what
    some share, and is never instantiated either. `model` and `datatype` are checked, and have no effect: where a cell
    lives, and the type of its weights, decide. REFUSED: parameters of N2D2's, each with what to use instead.

    Raises:
        UndefinedParameterError: (ValueError) an unknown keyword or attribute.
        RefusedParameter: a parameter that is refused.
        WrongValue, WrongInputType: what the field's check refuses.
    """

    REFUSED: ClassVar[Mapping[str, str]] = {}
    _shared: ClassVar[bool] = True
    model: str | None = checked(default=None, check=_check_model)
    datatype: str | None = checked(default=None, check=_check_datatype)

    def __init_subclass__(cls, *, shared: bool = False) -> None:
        dataclass(kw_only=True, repr=False)(cls)
        cls._shared = shared

    def __new__(cls, *positional: object, **keywords: object) -> Self:
        """Refuse arguments as N2D2 does, in the order in which one would mend them."""
        if cls._shared:
            made = ", ".join(sorted(one.__name__ for one in cls.__subclasses__()))
            raise WrongInputType(f"{cls.__name__} is what others share, and cannot be made: make one of {made}")
        if positional:
            raise WrongInputType(
                f"{cls.__name__} got {positional[0]!r} without a name: its parameters are given by keywords"
                f"; there are {', '.join(sorted(_names(cls)))}"
            )
        refuse_unknown(cls.__name__, keywords, _names(cls), cls.REFUSED)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            refuse_unknown(type(self).__name__, [name], _names(type(self)), self.REFUSED)
            check = type(self).__dataclass_fields__[name].metadata.get("check")  # type: ignore[attr-defined]
            if check is not None:
                with n2d2_errors():
                    check(name, value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - only to say what is wrong
        if name.startswith("_"):
            raise AttributeError(name)
        refuse_unknown(type(self).__name__, [name], _names(type(self)), self.REFUSED)
        raise UndefinedParameterError(f"{name} of this {type(self).__name__} was never set")

    def get_parameter(self, key: str) -> Any:  # noqa: ANN401 - as for Named
        """The value of a parameter."""
        refuse_unknown(type(self).__name__, [key], _names(type(self)), self.REFUSED)
        return getattr(self, key)

    def settings(self) -> dict[str, Any]:
        """The parameters by name, those without effect left out."""
        return {name: getattr(self, name) for name in _names(type(self)) if name not in ("model", "datatype")}

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


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)]


def printed(one: Any) -> str:  # noqa: ANN401 (any dataclass)
    """Print a dataclass with the parameters that are not at their defaults, those by keyword last.

    >>> from n2d2.transform import PadCrop
    >>> PadCrop(24, 24, apply_to="LearnOnly")
    PadCrop(width=24, height=24, apply_to='LearnOnly')
    """
    told = [part for part in fields(one) if part.repr and getattr(one, part.name) != part.default]
    pairs = (f"{part.name}={getattr(one, part.name)!r}" for part in sorted(told, key=lambda part: part.kw_only is True))
    return f"{type(one).__name__}({', '.join(pairs)})"
