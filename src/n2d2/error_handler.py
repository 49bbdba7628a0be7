"""N2D2's names for errors: each is one of prunecell's, and so also the builtin that scripts catch.

They are raised with one message, or with N2D2's own arguments: `WrongValue("mode", "x", ["a", "b"])`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from prunecell.errors import OptionError, OptionTypeError, PrunecellError, UnknownNameError, nearest, quoted

P = ParamSpec("P")
R = TypeVar("R")

UNSAID: Any = object()
"""In place of an argument of an error that comes with a message alone."""


def _listed(legal: Iterable[object]) -> str:
    return legal if isinstance(legal, str) else ", ".join(map(str, legal))


class WrongValue(OptionError):  # noqa: N818 - N2D2's name
    """A parameter has an illegal value (a ValueError).

    Args:
        input_name: the parameter; or the whole message, alone.
        input_value: its value. accepted_values: what is legal.

    >>> print(WrongValue("mode", "fast", ["slow", "slower"]))
    mode='fast' is illegal: it must be one of slow, slower
    """

    def __init__(
        self, input_name: str = "", input_value: object = UNSAID, accepted_values: Iterable[object] = ()
    ) -> None:
        told = f"{input_name}={quoted(input_value)} is illegal: it must be one of {_listed(accepted_values)}"
        super().__init__(input_name if input_value is UNSAID else told)


class WrongInputType(OptionTypeError):  # noqa: N818 - N2D2's name
    """A parameter has the wrong type (a TypeError).

    Args:
        input_name: the parameter; or the whole message, alone.
        input_type: its type. array_of_possible_type: the legal ones.
    """

    def __init__(
        self, input_name: str, input_type: object = UNSAID, array_of_possible_type: Iterable[object] = ()
    ) -> None:
        told = f"{input_name} is illegal: it must be a {_listed(array_of_possible_type)}, not a {input_type}"
        super().__init__(input_name if input_type is UNSAID else told)


class WrongChoice(WrongValue, WrongInputType):
    """Something that is no text, where one of several is wanted; N2D2 raises now the one and now the other."""


class IsEmptyError(OptionError):
    """A list is empty (a ValueError).

    Args:
        list_name: its name; or a whole message.
    """

    def __init__(self, list_name: str) -> None:
        super().__init__(list_name if " " in list_name else f"{list_name} is empty: it must hold one element at least")


class NotInitialized(PrunecellError, RuntimeError):  # noqa: N818 - N2D2's name
    """Something is used before it is there.

    Args:
        obj: its name; or a whole message.
    """

    def __init__(self, obj: str) -> None:
        super().__init__(obj if " " in obj else f"{obj} is not initialized")


class UndefinedParameterError(UnknownNameError, AttributeError, RuntimeError):
    """A name that the object does not have; the message offers the nearest. N2D2's is a RuntimeError.

    Args:
        value: the name; or the whole message, alone.
        obj: what does not have it.
    """

    def __init__(self, value: object, obj: object = UNSAID) -> None:
        super().__init__(str(value) if obj is UNSAID else f"{type(obj).__name__} has no parameter {value!r}")


class UndefinedModelError(PrunecellError, RuntimeError):
    """N2D2 raises it where there is no C++ object behind one of Python's; nothing here does."""


class ImplementationError(PrunecellError, RuntimeError):
    """Something that N2D2 has and that is refused here, by its name; the message says what to use instead."""


class RefusedParameter(ImplementationError, WrongInputType):  # noqa: N818 - it is an ImplementationError
    """A parameter that N2D2 has and that is refused here."""


class IpOnly(PrunecellError, NotImplementedError):  # noqa: N818 - N2D2's name
    """N2D2 raises it for what only its other edition has; nothing here does."""

    def __init__(self, message: str = "only N2D2-IP has this, which is not public") -> None:
        super().__init__(message)


def deprecated(version: str = "", reason: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function or method of one's own: who calls it is warned.

    Args:
        version: since when.
        reason: what to use instead.
    """

    def marked(function: Callable[P, R]) -> Callable[P, R]:
        since, why = f" since version {version}" if version else "", f": {reason}" if reason else ""

        @wraps(function)
        def warned(*args: P.args, **options: P.kwargs) -> R:
            warnings.warn(f"{function.__name__} is deprecated{since}{why}", DeprecationWarning, stacklevel=2)
            return function(*args, **options)

        return warned

    return marked


@contextmanager
def n2d2_errors() -> Iterator[None]:
    """Turn the engine's errors about an argument into N2D2's, message unchanged.

    >>> from prunecell.checks import check_count
    >>> with n2d2_errors():
    ...     check_count("stepsize", -1)
    Traceback (most recent call last):
    n2d2.error_handler.WrongValue: stepsize=-1 is illegal: it must be a whole number >= 0
    """
    try:
        yield
    except (WrongValue, WrongInputType):
        raise
    except OptionTypeError as error:
        raise WrongInputType(str(error)) from None
    except OptionError as error:
        raise WrongValue(str(error)) from None


def refuse_unknown(
    owner: str, names: Iterable[str], known: Iterable[str], refused: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse the first of `names` that is not in `known`, by name, with the nearest one.

    Args:
        owner: whose names they are.
        names: that were given.
        known: the legal ones.
        refused: names that N2D2 has, each with what to use instead.

    Raises:
        RefusedParameter: a name is refused.
        UndefinedParameterError: a name is unknown.
    """
    legal = list(known)
    for name in names:
        if name in refused:
            raise RefusedParameter(f"{name} of {owner} is refused: {refused[name]}")
        if name not in legal:
            raise UndefinedParameterError(f"{owner} has no parameter {name!r}{nearest(name, legal)}")


def no_such_name(module: str, name: str, known: Mapping[str, object]) -> UndefinedParameterError:
    """The error of a module that lacks a name; the nearest of its classes is offered.

    Args:
        module: its name.
        name: that was asked for.
        known: its globals.
    """
    public = [one for one, thing in known.items() if isinstance(thing, type) and one[0] != "_"]
    classes = [one for one in public if known[one].__module__.startswith(module) and not hasattr(known[one], "refusal")]
    return UndefinedParameterError(f"{module} has no {name!r}{nearest(name, classes)}")


def check_choice(name: str, value: object, legal: Iterable[str]) -> None:
    """Refuse, by name, a value that is not one of the legal strings."""
    choices = list(legal)
    if not isinstance(value, str):
        raise WrongChoice(
            f"{name}={value!r} is illegal: it must be a string, not a {type(value).__name__}"
            f"; legal: {', '.join(choices)}"
        )
    if value not in choices:
        raise WrongValue(f"{name}={value!r} is illegal{nearest(value, choices)}")


class UndefinedItemError(UndefinedParameterError, IndexError, KeyError):
    """No such item: a number or a name that a container, or a tensor, does not have."""

    __str__ = Exception.__str__  # a KeyError quotes its message
