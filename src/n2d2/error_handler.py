"""N2D2's names for errors: each is one of prunecell's, and so also the builtin that scripts catch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from prunecell.errors import OptionError, OptionTypeError, PrunecellError, UnknownNameError, nearest


class WrongValue(OptionError):  # noqa: N818 - N2D2's name
    """A parameter has an illegal value (a ValueError)."""


class WrongInputType(OptionTypeError):  # noqa: N818 - N2D2's name
    """A parameter has the wrong type (a TypeError)."""


class UndefinedParameterError(UnknownNameError, AttributeError, RuntimeError):
    """A name that the object does not have; the message offers the nearest. N2D2's is a RuntimeError."""


class ImplementationError(PrunecellError, RuntimeError):
    """Something that N2D2 has and that is refused here, by its name; the message says what to use instead."""


@contextmanager
def n2d2_errors() -> Iterator[None]:
    """Turn the engine's errors about an argument into N2D2's, message unchanged.

    >>> from prunecell.errors import check_count
    >>> with n2d2_errors():
    ...     check_count("stepsize", -1)
    Traceback (most recent call last):
    n2d2.error_handler.WrongValue: stepsize=-1 is illegal: it must be a whole number >= 0
    """
    try:
        yield
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
        ImplementationError: a name is refused.
        UndefinedParameterError: a name is unknown.
    """
    legal = list(known)
    for name in names:
        if name in refused:
            raise ImplementationError(f"{name} of {owner} is refused: {refused[name]}")
        if name not in legal:
            raise UndefinedParameterError(f"{owner} has no parameter {name!r}{nearest(name, legal)}")


def check_choice(name: str, value: object, legal: Iterable[str]) -> None:
    """Refuse, by name, a value that is not one of the legal strings."""
    choices = list(legal)
    if not isinstance(value, str):
        raise WrongInputType(
            f"{name}={value!r} is illegal: it must be a string, not a {type(value).__name__}"
            f"; legal: {', '.join(choices)}"
        )
    if value not in choices:
        raise WrongValue(f"{name}={value!r} is illegal{nearest(value, choices)}")


class UndefinedItemError(UndefinedParameterError, IndexError, KeyError):
    """No such item: a number or a name that a container, or a tensor, does not have."""

    __str__ = Exception.__str__  # a KeyError quotes its message
