"""Checked: classes that are made and changed by N2D2's names for their parameters, and refuse others by name."""

from collections.abc import Mapping
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from n2d2.error_handler import WrongInputType, n2d2_errors, refuse_unknown
from n2d2.named import Named


class _CheckedCall(type):
    """The type of classes whose call tells by N2D2's errors which argument is unknown, missing or too many."""

    REFUSED: Mapping[str, str]

    def __call__(cls, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 - an object of the class
        taken = signature(cls.__init__)  # type: ignore[misc] # the class that is called itself
        legal = list(taken.parameters)[1:]  # but self
        refuse_unknown(cls.__name__, keywords, legal, cls.REFUSED)
        try:
            taken.bind(cls, *arguments, **keywords)
        except TypeError as error:
            raise WrongInputType(f"{cls.__name__}: {error}; it takes {', '.join(legal) or 'nothing'}") from None
        return super().__call__(*arguments, **keywords)


class Checked(Named, metaclass=_CheckedCall):
    """An object whose parameters are what its class is called with. A field's check runs whenever it is set.

    Raises:
        UndefinedParameterError: a parameter or member that it does not have; the nearest is offered.
        ImplementationError: one that N2D2 has and that is refused here.
        WrongValue, WrongInputType: an illegal value, or a wrong number of arguments.
    """

    REFUSED: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Parameters that N2D2 has, each with what to use instead."""

    def _parameters(self) -> list[str]:
        return list(signature(type(self).__init__).parameters)[1:]

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
