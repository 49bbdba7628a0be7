"""Parameters of N2D2's kind: the fields of a dataclass, checked and printed as `Name(key=value, ...)`."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Self, dataclass_transform

from n2d2.error_handler import WrongInputType, WrongValue, check_choice, n2d2_errors, refuse_unknown
from prunecell.errors import check_count, check_number, check_texts

Check = Callable[[str, object], object]


def _checked(default: Any, check: Check) -> Any:  # noqa: ANN401 - a field of any type
    return field(default=default, metadata={"check": check})


def number(default: float, *, low: float, high: float = float("inf"), open_low: bool = False) -> Any:  # noqa: ANN401
    """A field that holds a finite number in [low, high], or (low, high]."""
    return _checked(default, lambda name, value: check_number(name, value, low=low, high=high, open_low=open_low))


def count(default: int, *, low: int = 0) -> Any:  # noqa: ANN401
    """A field that holds a whole number >= low."""
    return _checked(default, lambda name, value: check_count(name, value, low=low))


def choice(*legal: str, default: str = "") -> Any:  # noqa: ANN401
    """A field that holds one of the legal strings; without a default, the first."""
    return _checked(default or legal[0], lambda name, value: check_choice(name, value, dict.fromkeys(legal)))


def flag(*, default: bool) -> Any:  # noqa: ANN401
    """A field that holds a bool (or 0 or 1)."""
    return _checked(default, check_flag)


def check_flag(name: str, value: object) -> None:
    """Refuse, by name, what is neither a bool nor 0 or 1."""
    if not isinstance(value, bool) and value not in (0, 1):
        raise WrongInputType(f"{name}={value!r} is illegal: it must be True or False")


def texts() -> Any:  # noqa: ANN401
    """A field that holds a list of texts, by default an empty one."""
    return _checked((), check_texts)


def accepted(*, default: Any = None) -> Any:  # noqa: ANN401
    """A field that holds anything: N2D2 has it, here it has no effect."""
    return field(default=default)


@dataclass_transform(kw_only_default=True, field_specifiers=(number, count, choice, flag, texts, accepted))
class Declared:
    """What PruneCell, solvers, fillers and activations share. Never instantiated itself.

    A subclass lists its fields; the class statement makes it a dataclass. `model` and `datatype` are accepted
    everywhere, as in N2D2, and have no effect.

    Raises:
        UndefinedParameterError: (ValueError) an unknown keyword or attribute.
        WrongValue, WrongInputType: what the field's check refuses.
    """

    model: Any = accepted()
    datatype: Any = accepted()

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True, repr=False)(cls)

    def __new__(cls, **keywords: object) -> Self:
        """Refuse unknown keywords as N2D2 does, with a ValueError."""
        refuse_unknown(cls.__name__, keywords, _names(cls))
        return super().__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            refuse_unknown(type(self).__name__, [name], _names(type(self)))
            if self.__dict__.get("_frozen"):
                raise WrongValue(f"{name} of this {type(self).__name__} cannot change any more: make another one")
            check = type(self).__dataclass_fields__[name].metadata.get("check")  # type: ignore[attr-defined]
            if check is not None:
                with n2d2_errors():
                    check(name, value)
        object.__setattr__(self, name, value)

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


def check_fields(one: Any) -> None:  # noqa: ANN401 (any dataclass)
    """Run the checks that the fields of a dataclass carry (`n2d2.fields`); errors are N2D2's."""
    for part in fields(one):
        if "check" in part.metadata:
            with n2d2_errors():
                part.metadata["check"](part.name, getattr(one, part.name))


def printed(one: Any) -> str:  # noqa: ANN401 (any dataclass)
    """Print a dataclass with the parameters that are not at their defaults, those by keyword last.

    >>> from n2d2.transform import PadCrop
    >>> PadCrop(24, 24, apply_to="LearnOnly")
    PadCrop(width=24, height=24, apply_to='LearnOnly')
    """
    told = [part for part in fields(one) if part.repr and getattr(one, part.name) != part.default]
    pairs = (f"{part.name}={getattr(one, part.name)!r}" for part in sorted(told, key=lambda part: part.kw_only is True))
    return f"{type(one).__name__}({', '.join(pairs)})"
