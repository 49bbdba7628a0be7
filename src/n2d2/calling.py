"""Calls with the wrong arguments: a class says what it is made of, instead of Python's words about its inside."""

import sys
import warnings
from collections.abc import Callable
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from types import FrameType
from typing import Any, TypeVar

from n2d2.error_handler import WrongInputType, refuse_unknown
from prunecell.errors import nearest

F = TypeVar("F", bound=Callable[..., Any])


def warn_caller(message: str) -> None:
    """Warn at the line outside of this package that led here, however deep."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the one way to it
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "n2d2":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class CheckedCall(type):
    """The type of classes that refuse, by name, arguments that are missing, too many, or given twice.

    >>> class Fc(metaclass=CheckedCall):
    ...     def __init__(self, nb_inputs, nb_outputs, nb_input_cells=1, **config): ...
    >>> Fc(1)
    Traceback (most recent call last):
    n2d2.error_handler.WrongInputType: nb_outputs is missing; it is Fc(nb_inputs, nb_outputs, nb_input_cells=1, ...)
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any class
        """Make one, if the arguments are those of its `__init__`, and none is in its REFUSED."""
        refuse_unknown(cls.__name__, kwargs, kwargs, getattr(cls, "REFUSED", {}))
        expected = _signature(cls)
        try:
            expected.bind(None, *args, **kwargs)
        except TypeError:
            raise WrongInputType(_told(cls.__name__, expected, args, kwargs)) from None
        return super().__call__(*args, **kwargs)


def checked(function: F) -> F:
    """A function that refuses, by name, arguments that are missing, too many, given twice or unknown, as a class does.

    >>> @checked
    ... def fit(learn_epoch, log_epoch=1): ...
    >>> fit()
    Traceback (most recent call last):
    n2d2.error_handler.WrongInputType: learn_epoch is missing; it is fit(learn_epoch, log_epoch=1)
    """
    expected = signature(function)
    own = [one for one in expected.parameters.values() if one.name not in ("self", "cls")]
    shown = Signature([Parameter("self", Parameter.POSITIONAL_ONLY), *own])
    n_bound = len(expected.parameters) - len(own)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            expected.bind(*args, **kwargs)
        except TypeError:
            raise WrongInputType(_told(function.__name__, shown, args[n_bound:], kwargs)) from None
        return function(*args, **kwargs)

    return call  # type: ignore[return-value] # of the same parameters


@cache
def _signature(cls: type) -> Signature:
    return signature(cls.__init__)  # type: ignore[misc] # it is that of the class that is called


def _told(name: str, expected: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What is wrong with the arguments, and how the class is called."""
    taken = [one for one in list(expected.parameters.values())[1:] if one.kind in POSITIONAL]
    names = [one.name for one in taken]
    missing = [one.name for one in taken[len(args) :] if one.default is Parameter.empty and one.name not in kwargs]
    twice = [one for one in names[: len(args)] if one in kwargs]
    unknown = [one for one in kwargs if one not in expected.parameters]
    if twice:
        fault = f"{twice[0]} is given twice, by its place and by its name"
    elif len(args) > len(names):
        fault = f"{len(args)} by their place are too many: {len(names)} at most, the others go by their names"
    elif missing:
        fault = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    else:
        fault = f"there is no parameter {unknown[0]!r}{nearest(unknown[0], names)}"
    shown = [one.name if one.default is Parameter.empty else f"{one.name}={one.default!r}" for one in taken]
    more = ["..."] if any(one.kind is Parameter.VAR_KEYWORD for one in expected.parameters.values()) else []
    return f"{fault}; it is {name}({', '.join(shown + more)})"
