"""A section as its reader asks for it: typed getters over its own, inherited and configured lines."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol, TypeVar

from n2d2.ini.errors import IllegalValueError, IniError, Place, choices, shown
from n2d2.ini.values import Entry, Node, Value

T = TypeVar("T")
INF = float("inf")


class Owner(Protocol):
    """What a section needs from its document."""

    def value(self, node: Node) -> Value:
        """Return the value of an entry."""

    def configurations(self, section: "Section") -> tuple["Section", ...]:
        """Return the sections that `ConfigSection` names, the strongest first."""


@dataclass(eq=False)
class Section:
    """A section: its own lines over those of its bases, and over both those of its configuration sections.

    A getter without a default raises IniError where no line gives the key. All raise it where the value is illegal or
    its variables lead nowhere. Each makes the key that it asks for a legal one (see `Document.check_all_read`).

    Args:
        owner: The document.
        name: As written between the brackets; "" for what stands before the first section.
        place: The line of its header.
        bases: The sections that it inherits from, the strongest first.
        entries: Key to line, inherited ones included; `$NAME` definitions are entries like all others.
        asked: The keys that the reader wanted to know of.
        parent: The name of the section whose template it comes from; "" where it comes from none.
        previous: The name of the section before it, its parent left out; "" where there is none.
    """

    owner: Owner
    name: str
    place: Place
    bases: tuple["Section", ...] = ()
    entries: dict[str, Entry] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    parent: str = ""
    previous: str = ""

    def __str__(self) -> str:
        return f"[{self.name}] " if self.name else ""

    def __contains__(self, key: str) -> bool:
        """Whether a line gives this key."""
        self.asked.add(key)
        return self.entry(key) is not None

    def names(self, prefix: str = "") -> list[str]:
        """Return the keys that start with `prefix`, without `$NAME` definitions; none counts as asked for."""
        found = [key for section in self._strongest_first() for key in section.entries]
        return [key for key in dict.fromkeys(found) if key.startswith(prefix) and not key.startswith("$")]

    def entry(self, key: str) -> Entry | None:
        """Return the line that gives the key."""
        return next((section.entries[key] for section in self._strongest_first() if key in section.entries), None)

    def get_str(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        return self._parsed(key, default, lambda value: value.text, "")

    def get_choice(self, key: str, legal: Iterable[str], default: str | None = None) -> str:
        """Return one of the legal texts; the error offers the nearest."""
        legal = list(legal)
        text = self.get_str(key, default)
        if key in self and text not in legal:
            raise self.unknown(key, text, legal)
        return text

    def get_list(self, key: str, default: list[str] | None = None) -> list[str]:
        """Return texts that are separated by commas."""
        return self._parsed(key, default, lambda value: _split(value.text, ","), "")

    def get_bool(self, key: str, default: bool | None = None) -> bool:  # noqa: FBT001 - the value itself
        """Return 0 or 1 (or false or true) as a bool."""
        return self._parsed(key, default, lambda value: _TRUTH.get(value.text.lower()), "it must be 0 or 1")

    def get_int(self, key: str, default: int | None = None, *, low: int | None = 0) -> int:
        """Return a whole number >= `low`; of what an expression gives, such as 7 / 2, the fraction is cut off."""
        legal = "it must be a whole number" + ("" if low is None else f" >= {low}")
        return self._parsed(key, default, lambda value: _integer(value.text, low, cut=value.computed), legal)

    def get_float(self, key: str, default: float | None = None, *, low: float = -INF, high: float = INF) -> float:
        """Return a finite number in [low, high]."""
        span = f" in [{low:g}, {high:g}]" if high < INF else f" >= {low:g}"
        legal = f"it must be a finite number{span if (low, high) != (-INF, INF) else ''}"
        return self._parsed(key, default, lambda value: _number(value.text, low, high), legal)

    def get_ints(self, key: str, default: list[int] | None = None, *, low: int = 0) -> list[int]:
        """Return one or more whole numbers >= `low`, separated by spaces or commas."""
        legal = f"it must be whole numbers >= {low}, separated by spaces"
        return self._parsed(
            key,
            default,
            lambda value: _all(_integer(word, low, cut=value.computed) for word in _words(value.text)),
            legal,
        )

    def get_floats(self, key: str, default: list[float] | None = None) -> list[float]:
        """Return one or more finite numbers, separated by spaces or commas."""
        legal = "it must be finite numbers, separated by spaces"
        return self._parsed(
            key,
            default,
            lambda value: _all(_number(word, -INF, INF) for word in _words(value.text)),
            legal,
        )

    def error(self, key: str, legal: str) -> IllegalValueError:
        """Return, to be raised, that the value of a key is illegal: where it stands, and what would be legal.

        `net.ini:12: [conv1] KernelDims='5 x' is illegal: it must be whole numbers >= 1, separated by spaces`
        """
        entry = self.entry(key)
        text = shown(self.owner.value(Node(self.name, entry)).text) if entry else ""
        return IllegalValueError(f"{self}{key}={text!r} is illegal: {legal}", self._place(entry))

    def unknown(self, key: str, text: str, legal: Iterable[str], meant: str = "") -> IllegalValueError:
        """Return, to be raised, that the text of a key is none of the legal ones; the nearest to `meant` is offered."""
        problem = f"{self}{key}={shown(text)!r} is illegal{choices(meant or text, legal)}"
        return IllegalValueError(problem, self._place(self.entry(key)))

    def refuse(self, key: str, why: str, *, shown: str = "") -> IniError:
        """Return, to be raised, that a key, or its value as it is `shown`, has no meaning here, and why."""
        return IniError(f"{self}{shown or key} is refused: {why}", self._place(self.entry(key)))

    def skip(self) -> None:
        """Make all keys legal, because the section is left out."""
        self.asked.update(self.names())

    def _parsed(self, key: str, default: T | None, parse: Callable[[Value], T | None], legal: str) -> T:
        self.asked.add(key)
        entry = self.entry(key)
        if entry is None:
            if default is None:
                near = get_close_matches(key, (name for name in self.names() if name not in self.asked), n=1)
                raise IniError(f"{self}{key} is missing{f'; is {near[0]!r} misspelt?' if near else ''}", self.place)
            return default
        parsed = parse(self.owner.value(Node(self.name, entry)))
        if parsed is None:
            raise self.error(key, legal)
        return parsed

    def _strongest_first(self) -> tuple["Section", ...]:
        return (*self.owner.configurations(self), self)

    def _place(self, entry: Entry | None) -> Place:
        return entry.place if entry else self.place


# What Python's int() and float() take beyond these (1_000, nan, other scripts' digits) is no number in an INI file.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTH = {"0": False, "1": True, "false": False, "true": True}


def _integer(text: str, low: int | None, *, cut: bool) -> int | None:
    number = _number(text, -(2.0**53), 2.0**53)
    if number is not None and (cut or number.is_integer()):
        text = str(int(number))
    return int(text) if _INTEGER.fullmatch(text) and (low is None or int(text) >= low) else None


def _number(text: str, low: float, high: float) -> float | None:
    number = float(text) if _NUMBER.fullmatch(text) else INF
    return number if low <= number <= high and abs(number) < INF else None


def _split(text: str, separator: str) -> list[str]:
    return [part for part in map(str.strip, text.split(separator)) if part]


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _all(parsed: Iterable[T | None]) -> list[T] | None:
    items = list(parsed)
    found = [item for item in items if item is not None]
    return found if found and len(found) == len(items) else None
