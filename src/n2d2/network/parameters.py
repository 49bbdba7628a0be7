"""An object of N2D2's kind out of a section: every parameter of its class is a key, read and checked in its place."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from n2d2.ini import IniError, IniWarning, Place, Section
from n2d2.ini.errors import IllegalValueError
from n2d2.network.keys import ini_keys
from n2d2.network.refused import ELSEWHERE, NEUTRAL
from prunecell.errors import OptionError, OptionTypeError

T = TypeVar("T")
Getter = Callable[[Section, str], Any]

GLOBAL_VALUE = "_GlobalValue"
"""What a reference to a number that only the data knows contains."""


@contextmanager
def located(place: Place, prefix: object = "") -> Iterator[None]:
    """Say where in the file the arguments stand that a constructor refuses, or that torch has no memory for."""
    try:
        yield
    except (OptionError, OptionTypeError, RuntimeError) as error:
        raise IniError(f"{prefix}{error}", place) from None


@contextmanager
def in_keys(section: Section, kind: type, *prefixes: str) -> Iterator[None]:
    """Say an error about the parameters of a `kind` in the keys that a section gives them by, at the line of the first.

    Args:
        section: what the parameters were read from.
        kind: what they are of.
        prefixes: of the keys, as in `configured`.
    """
    try:
        yield
    except (OptionError, OptionTypeError, RuntimeError) as error:
        keys = {name: _given(section, key, prefixes) for key, name in ini_keys(kind).items()}
        names = "|".join(sorted(keys, key=len, reverse=True))
        found = re.findall(rf"\b({names})(?==)", str(error)) if keys else []
        told = re.sub(rf"\b({names})(?==)", lambda match: keys[match[1]], str(error)) if keys else str(error)
        entry = section.entry(keys[found[0]]) if found else None
        raise IniError(f"{section}{told}", entry.place if entry else section.place) from None


def _given(section: Section, key: str, prefixes: Sequence[str]) -> str:
    """The key under the first prefix that has it, by default under the first; all of them become legal."""
    keys = [f"{prefix}{key}" for prefix in prefixes or ("",)]
    return [*(one for one in keys if one in section), keys[0]][0]


def _clamping(section: Section, key: str) -> str | bool:
    text = section.get_str(key)
    return text == "1" if text in ("0", "1") else text


def _one_or_more(section: Section, key: str) -> float | Sequence[float]:
    numbers = section.get_floats(key)
    return numbers[0] if len(numbers) == 1 else numbers


def _perhaps_later(section: Section, key: str) -> float | Sequence[float] | Callable[[], Any]:
    """Numbers; as a callable where the data has to be opened for them."""
    entry = section.entry(key)
    if entry is not None and GLOBAL_VALUE in entry.raw:
        return lambda: _one_or_more(section, key)
    return _one_or_more(section, key)


GETTERS: Mapping[Any, Getter] = {
    bool: Section.get_bool,
    int: lambda section, key: section.get_int(key, low=None),
    float: Section.get_float,
    float | None: Section.get_float,
    str: Section.get_str,
    str | bool: _clamping,
    str | Path | None: Section.get_str,
    Sequence[str]: lambda section, key: section.get_str(key).replace(",", " ").split(),
    Sequence[float]: Section.get_floats,
    float | Sequence[float]: _one_or_more,
    float | Sequence[float] | Callable[[], float]: _perhaps_later,
}
"""By the type of a field. The range is the business of the field's own check."""

_ONE_NUMBER = (int, float, float | None)


def configured(section: Section, kind: type[T], *prefixes: str, **given: object) -> T:
    r"""Make a `kind` of the keys that a section gives; the others have their defaults.

    Args:
        section: asked for `prefix + key` of every parameter, so all of them are legal there.
        kind: a dataclass whose fields may carry a check (`n2d2.fields`).
        prefixes: the first one under which a key is given decides; by default one, empty.
        given: parameters whose keys, legal though they are, are not read.

    Raises:
        IniError: a value is illegal or missing; with the line that has it.

    >>> from n2d2 import ini
    >>> from n2d2.solver import SGD
    >>> section = ini.parse("[fc]\nSolvers.Momentum=0.9\nWeightsSolver.LearningRate=0.1").section("fc")
    >>> solver = configured(section, SGD, "WeightsSolver.", "Solvers.")
    >>> solver.learning_rate, solver.momentum, solver.decay
    (0.1, 0.9, 0.0)
    """
    values = dict(given)
    of_name = {one.name: one for one in fields(kind)}  # type: ignore[arg-type] # a dataclass
    for key, name in ini_keys(kind).items():
        full = _given(section, key, prefixes)
        if name not in given and (full in section or of_name[name].default is MISSING):
            values[name] = _value(section, full, of_name[name])
    with in_keys(section, kind, *prefixes):
        return kind(**values)


def _value(section: Section, key: str, one: Field[Any]) -> Any:  # noqa: ANN401 - of the field's type
    check, entry = one.metadata.get("check"), section.entry(key)
    try:
        value = GETTERS[one.type](section, key)
    except IllegalValueError:
        if check is None or one.type not in _ONE_NUMBER:
            raise
        raise section.error(key, _legal(check)) from None
    if check is not None and entry is not None:
        with located(entry.place, section):
            check(key, value)
    return value


def _legal(check: Callable[[str, object], None]) -> str:
    """What the check of a number takes, in its own words: "it must be a number in [0, 1]"."""
    try:
        check("", None)
    except (OptionError, OptionTypeError) as error:
        return re.sub(r"^.*?(?=it must be)|, not a NoneType$", "", str(error))
    return "it must be a finite number"


def refuse(section: Section, keys: Mapping[str, str]) -> None:
    """Refuse these keys, each for its reason, unless what is given is 0 or empty, N2D2's ways to say no."""
    for key, why in keys.items():
        if key in section and section.get_str(key) not in ("0", "", *NEUTRAL.get(key, ())):
            raise section.refuse(key, why)


def warn_of_idle(section: Section, keys: Iterable[str]) -> None:
    """Make these keys legal, and warn where one is given: N2D2 has them, here they have no effect."""
    for key in keys:
        if key in section and (entry := section.entry(key)):
            warnings.warn(f"{entry.place}: {entry} has no effect here", IniWarning, stacklevel=2)


def chosen(section: Section, key: str, legal: Mapping[str, T], refused: Mapping[str, str]) -> T:
    """Look the value of a key up in a table; what N2D2 knows and we do not is refused with the reason.

    Raises:
        IniError: the value is in neither table (the nearest is offered), or it is refused.
    """
    name = section.get_str(key)
    if name in refused:
        raise section.refuse(key, refused[name], shown=f"{key}={name}")
    if name not in legal:
        meant = ELSEWHERE.get(name.strip("'").lower(), "")
        raise section.unknown(key, name, legal, meant if meant in legal else "")
    return legal[name]
