"""Calls with wrong arguments: classes and functions refuse them by name, and say how they are called."""

import abc
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from n2d2.error_handler import WrongInputType, refuse_unknown
from prunecell.errors import quoted, some

P = ParamSpec("P")
R = TypeVar("R")

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class CheckedCall(type):
    """The type of classes that refuse, by name, arguments that are unknown, missing, too many, or given twice.

    A class may have REFUSED: parameters of N2D2's, each with what to use instead. `class Solver(Declared, shared=True)`
    is what others share: it is there for `isinstance`, and cannot be made. Who inherits it must define what it marks by
    `abc.abstractmethod`. It is no ABC, because `isinstance` of those asks subclasses too, and `cells.Cell` says yes to
    containers.

    Raises:
        UndefinedParameterError: there is no such parameter; the nearest is offered.
        RefusedParameter: a parameter is in REFUSED.
        WrongInputType: arguments are missing, too many or given twice; or the class is what others share, or lacks one
            of their abstract methods.

    >>> class Fc(metaclass=CheckedCall):
    ...     def __init__(self, nb_inputs, nb_outputs, nb_input_cells=1, **config): ...
    >>> Fc(1)
    Traceback (most recent call last):
    n2d2.error_handler.WrongInputType: nb_outputs is missing; it is Fc(nb_inputs, nb_outputs, nb_input_cells=1, ...)
    """

    _shared: bool
    __abstractmethods__: frozenset[str]

    def __new__(  # noqa: D102 - of a class statement
        mcs, name: str, bases: tuple[type, ...], members: dict[str, Any], *, shared: bool = False, **keywords: object
    ) -> "CheckedCall":
        made = super().__new__(mcs, name, bases, members, **keywords)
        made._shared = shared
        made.__abstractmethods__ = frozenset()
        abc.update_abstractmethods(made)  # type: ignore[arg-type] # any class
        return made

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any class
        """Make one, if the arguments are those of its `__init__`."""
        if cls._shared:
            kinds = sorted(kind.__name__ for kind in _made_of(cls))
            which = f"one of {some(kinds)}" if kinds[1:] else f"a {kinds[0]}"
            raise WrongInputType(f"{cls.__name__} is what others share, and cannot be made: make {which}")
        if cls.__abstractmethods__:
            lacks = ", ".join(sorted(cls.__abstractmethods__))
            raise WrongInputType(f"{cls.__name__} cannot be made: it must define {lacks}")
        _check(cls.__name__, signature_of(cls), args, kwargs, getattr(cls, "REFUSED", {}))
        return super().__call__(*args, **kwargs)


@cache
def signature_of(cls: type) -> Signature:
    """How a class is called."""
    _, *parameters = signature(cls.__init__).parameters.values()  # type: ignore[misc] # that of the class itself
    return Signature(parameters)


def _made_of(cls: CheckedCall) -> list[CheckedCall]:
    """The nearest classes below one that others share."""
    below: list[Any] = cls.__subclasses__()
    return [one for kind in below for one in (_made_of(kind) if kind._shared else [kind])]  # noqa: SLF001


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function or method that refuses arguments as a `CheckedCall` does.

    >>> @checked
    ... def fit(learn_epoch, log_epoch=1): ...
    >>> fit()
    Traceback (most recent call last):
    n2d2.error_handler.WrongInputType: learn_epoch is missing; it is fit(learn_epoch, log_epoch=1)
    """
    every = signature(function).parameters.values()
    own = Signature([one for one in every if one.name not in ("self", "cls")])
    n_bound = len(every) - len(own.parameters)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _check(function.__name__, own, args[n_bound:], kwargs)
        return function(*args, **kwargs)

    return call


def _check(
    name: str,
    expected: Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    refused: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse arguments that do not fit."""
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in expected.parameters.values())
    refuse_unknown(name, kwargs, kwargs if takes_any else expected.parameters, refused)
    try:
        expected.bind(*args, **kwargs)
    except TypeError:
        raise WrongInputType(f"{_fault(expected, args, kwargs)}; it is {name}{_shown(expected)}") from None


def _fault(expected: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """What is wrong with arguments that do not fit."""
    places = [one.name for one in expected.parameters.values() if one.kind in POSITIONAL]
    twice = [one for one in places[: len(args)] if one in kwargs]
    if twice:
        return f"{twice[0]} is given twice, by its place and by its name"
    if args and not places:
        return f"{quoted(args[0])} has no name: parameters are given by theirs"
    if len(args) > len(places):
        return f"{len(args)} by their place are too many: {len(places)} at most, the others go by their names"
    wanted = [
        one.name for one in expected.parameters.values() if one.default is one.empty and one.kind <= one.KEYWORD_ONLY
    ]
    missing = [one for one in wanted if one not in (*places[: len(args)], *kwargs)]
    near = get_close_matches(missing[0], kwargs.keys() - set(places), n=1)
    misspelt = f" (is {near[0]!r} misspelt?)" if near else ""
    return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{misspelt}"


def _shown(expected: Signature) -> str:
    """The parameters without their types; `...` stands for more, which go by their names."""
    parameters = [one.replace(annotation=Parameter.empty) for one in expected.parameters.values()]
    if not any(one.kind is Parameter.VAR_KEYWORD for one in parameters):
        return str(Signature(parameters))
    plain = str(Signature([one for one in parameters if one.kind in POSITIONAL]))
    return f"({', '.join(part for part in (plain[1:-1], '...') if part)})"
