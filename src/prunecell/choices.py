"""How a choice is made: by a name that is looked up in a literal table, or by a value whose fields go by name."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import ParamSpec, TypeVar

from prunecell.errors import OptionTypeError, PrunecellError, UnknownNameError, nearest, quoted, typed

_T = TypeVar("_T")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def chosen(option: str, name: object, table: Mapping[str, _T]) -> _T:
    """Return what a name stands for.

    Args:
        option: what the user calls the choice; the message begins with it.
        name: what the user gave.
        table: name -> value.

    Raises:
        UnknownNameError: the table has no such name; the nearest one is offered.
        OptionTypeError: it is no text.

    >>> chosen("backend", "zlip", {"zlib": 1, "pcodec": 2})
    Traceback (most recent call last):
    prunecell.errors.UnknownNameError: backend='zlip' is illegal; did you mean 'zlib'? Legal: pcodec, zlib
    """
    if not isinstance(name, str):
        raise OptionTypeError(
            f"{option}={quoted(name)} is illegal: it must be a name; legal: {', '.join(sorted(table))}"
        )
    if name not in table:
        raise UnknownNameError(f"{option}={quoted(name)} is illegal{nearest(name, table)}")
    return table[name]


def by_name(*order: str, example: str) -> Callable[[type[_T]], type[_T]]:
    """Make a keyword-only dataclass refuse values without names, or under wrong ones, with the call that is right.

    Args:
        order: the fields that values without names are taken for in the message.
        example: a right call.

    Raises:
        OptionTypeError: (when the class is called) a value has no name, or one that is no field, or one is missing.

    >>> from prunecell import Cubic
    >>> Cubic(0.9, 1)
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: Cubic takes its values by name: Cubic(sparsity=0.9, epochs=1)
    """

    def checked(cls: type[_T]) -> type[_T]:
        init: Callable[..., None] = cls.__init__

        @wraps(init)
        def __init__(self: object, *values: object, **named: object) -> None:  # noqa: N807 - it becomes the class's
            if type(self) is cls:  # a subclass has fields of its own
                _check_call(cls, order, example, values, named)
            init(self, *values, **named)

        cls.__init__ = __init__  # type: ignore[method-assign] # the same signature
        cls.__example__ = example  # type: ignore[attr-defined]
        return cls

    return checked


def names_needed(*order: str, example: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a function refuse values without names, where it takes them by name only, with the call that is right.

    Args:
        order: the parameters that values without names are taken for in the message, those with places first.
        example: a right call.

    Raises:
        OptionTypeError: (when it is called) there are more values without names than it takes.

    >>> @names_needed("model", "sparsity", example="plan(model, sparsity=0.9)")
    ... def plan(model, *, sparsity=0.5): ...
    >>> plan("net", 0.9)
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: plan takes its values by name: plan(model, sparsity=0.9)
    """

    def checked(function: Callable[_P, _R]) -> Callable[_P, _R]:
        kinds = [parameter.kind for parameter in signature(function).parameters.values()]
        n_places = sum(kind is not Parameter.KEYWORD_ONLY for kind in kinds)

        @wraps(function)
        def call(*values: _P.args, **given: _P.kwargs) -> _R:
            if len(values) > n_places:
                called = function.__name__
                free = [name for name in order[n_places : len(values)] if name not in given]
                if len(values) > len(order) or len(free) < len(values) - n_places:
                    raise OptionTypeError(f"{called} takes its values by name: for example {example}")
                places = [*order[:n_places]]
                pairs = [
                    f"{one}={_word_or_name(one, value)}"
                    for one, value in [*zip(free, values[n_places:], strict=True), *given.items()]
                ]
                raise OptionTypeError(f"{called} takes its values by name: {called}({', '.join([*places, *pairs])})")
            return function(*values, **given)

        return call

    return checked


def _word_or_name(name: str, value: object) -> str:
    """A number or text as it is; of what is larger, the name."""
    return _word(value) if isinstance(value, int | float | str | type(None)) else name


def _check_call(
    cls: type, order: tuple[str, ...], example: str, values: tuple[object, ...], named: Mapping[str, object]
) -> None:
    known = {field.name: field for field in fields(cls) if field.init}
    if values:
        raise OptionTypeError(f"{cls.__name__} takes its values by name: {_right_call(cls, order, values, named)}")
    for name in named.keys() - known.keys():
        raise OptionTypeError(f"{cls.__name__} has no field {name!r}{nearest(name, known)}; for example {example}")
    for name, field in known.items():
        if name not in named and field.default is MISSING and field.default_factory is MISSING:
            raise OptionTypeError(f"{cls.__name__} needs {name}: for example {example}")


def _right_call(cls: type, order: tuple[str, ...], values: tuple[object, ...], named: Mapping[str, object]) -> str:
    """The call that was meant, if it is right; else the example."""
    if len(values) <= len(order) and not named.keys() & set(order[: len(values)]):
        given = {**dict(zip(order, values, strict=False)), **named}
        with suppress(PrunecellError):
            cls(**given)
            return f"{cls.__name__}({', '.join(f'{name}={_word(value)}' for name, value in given.items())})"
    return f"for example {cls.__example__}"  # type: ignore[attr-defined]


def _word(value: object) -> str:
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else quoted(value)


def check_callable(option: str, value: object, calls: Mapping[str, str]) -> None:
    """Refuse what cannot be called, by name, and say what was meant.

    Args:
        option: the name of the field.
        value: what the user gave.
        calls: name -> what makes the value that a user may mean by it.

    Raises:
        OptionTypeError: it is text, a class instead of an object of it, or another thing that cannot be called.

    >>> check_callable("schedule", "cubic", {"Cubic": "Cubic(sparsity=0.9, epochs=1)"})
    Traceback (most recent call last):
    prunecell.errors.OptionTypeError: schedule='cubic' is illegal: it must be callable, not a name; did you mean ...
    """
    if isinstance(value, type):
        call = getattr(value, "__example__", f"{value.__name__}()")
        raise OptionTypeError(f"{option}={value.__name__} is illegal: it is a class; give an object of it: {call}")
    if not callable(value):
        raise OptionTypeError(f"{option}={quoted(value)} is illegal: it must be callable{meant(value, calls)}")


def meant(value: object, calls: Mapping[str, str]) -> str:
    """Say what to write instead of a name, which is no value; of another thing, what is legal."""
    legal = ", ".join(dict.fromkeys(calls.values()))
    if not isinstance(value, str):
        return f", not {typed(value)}; legal: {legal}"
    lowered = {name.lower(): call for name, call in calls.items()}
    close = get_close_matches(value.lower(), lowered, n=1)
    hint = f"did you mean {lowered[close[0]]}? Legal" if close else "legal"
    return f", not a name; {hint}: {legal}"


def example_of(value: object, module: str) -> str:
    """How the value of a table is written: a class as a call, a function by its name in its module."""
    if isinstance(value, type):
        return str(getattr(value, "__example__", f"{value.__name__}()"))
    return f"{module}.{_word(value)}"
