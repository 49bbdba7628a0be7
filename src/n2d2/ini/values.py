"""Values: `${NAME}`, then `[section]Property`, then `$(expression)` are put in; lazily, once, without recursion.

A value may hang on another, that on a third, and so on for thousands of sections: so the path of those that wait is
kept in a dict of our own rather than on Python's stack, and a value that comes up on it twice is a circle.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from n2d2.ini.effort import Effort
from n2d2.ini.errors import IniError, Place, shown
from n2d2.ini.expressions import ExpressionError, calculate, printed

MAX_VALUE = 4 * 2**20
MAX_EXPRESSIONS = 1000


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A line `key=raw` of a section, before anything is put in for its variables; equal only to itself."""

    section: str
    key: str
    raw: str
    place: Place

    def __str__(self) -> str:
        return f"[{self.section}]{self.key}" if self.section else self.key


@dataclass(frozen=True, slots=True)
class Node:
    """An entry as a section sees it: in inherited and shared lines `${SECTION_NAME}` is the section that reads."""

    reader: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Value:
    """The final text of an entry.

    Args:
        text: Nothing is left to put in.
        computed: Whether an expression took part: a whole number may then come with a fraction (7 / 2).
    """

    text: str
    computed: bool = False


class Finder(Protocol):
    """Where names lead: to an entry whose value has to be known first, or to a text."""

    def variable(self, node: Node, name: str) -> Node | str:
        """What `${name}` in this entry stands for."""

    def reference(self, node: Node, section: str, key: str) -> Node | str:
        """What `[section]key` in this entry stands for."""


class Values:
    """The values of a document, each worked out when first asked for and then kept."""

    def __init__(self, finder: Finder, effort: Effort) -> None:
        self._finder = finder
        self._effort = effort
        self._known: dict[Node, Value] = {}

    def of(self, node: Node) -> Value:
        """Return the value of an entry.

        Raises:
            IniError: a name leads nowhere or in a circle, an expression is illegal, or the text grows too long.
        """
        if node in self._known:
            return self._known[node]
        path: dict[Node, Iterator[Node]] = {node: iter(())}  # each waits for the next; with what else it waits for
        while path:
            top, waits_for = next(reversed(path.items()))
            needed = next((other for other in waits_for if other not in self._known), None)
            if needed in path:
                circle = [*path][[*path].index(needed) :]
                names = " -> ".join(str(other.entry) for other in [*circle[-10:], needed])
                raise IniError(f"the value of {top.entry} hangs on itself: {names}", top.entry.place)
            if needed:
                path[needed] = iter(())
            elif isinstance(found := self._worked_out(top), Value):
                self._effort.spend(len(found.text), "characters of values", top.entry.place)
                self._known[top] = found
                path.popitem()
            else:
                path[top] = iter(found)
        return self._known[node]

    def _worked_out(self, node: Node) -> Value | list[Node]:
        """Return the value, or what has to be known before."""
        filling = _Filling(node.entry, self._known)
        text = filling.put_in(node.entry.raw, _VARIABLE, lambda match: self._finder.variable(node, match[1]))
        if filling.missing:
            return filling.missing
        text = filling.put_in(text, _REFERENCE, lambda match: self._finder.reference(node, match[1], match[2]))
        if filling.missing:
            return filling.missing
        if "$(" in text:
            return Value(_calculated(text, node.entry), computed=True)
        return Value(text, filling.computed)


@dataclass
class _Filling:
    """Puts known values in the place of names, and notes which are not known yet."""

    entry: Entry
    known: Mapping[Node, Value]
    missing: list[Node] = field(default_factory=list)
    computed: bool = False

    def put_in(self, text: str, pattern: re.Pattern[str], find: Callable[[re.Match[str]], Node | str]) -> str:
        pieces: list[str] = []
        end = length = 0
        for match in pattern.finditer(text):
            piece = self._text(find(match))
            pieces += [text[end : match.start()], piece]
            end = match.end()
            length += len(piece)
            if length > MAX_VALUE:
                raise IniError(f"the value of {self.entry} exceeds {MAX_VALUE:,} characters", self.entry.place)
        return "".join([*pieces, text[end:]])

    def _text(self, target: Node | str) -> str:
        if isinstance(target, str):
            return target
        value = self.known.get(target)
        if value is None:
            self.missing.append(target)
            return ""
        self.computed = self.computed or value.computed
        return value.text


_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_REFERENCE = re.compile(r"\[([^\[\]]+)\]([A-Za-z_$][\w.]*(?:\([^()\s]*\))?)")


def _calculated(text: str, entry: Entry) -> str:
    """Replace each `$(expression)`; a `$(` within an expression is just a parenthesis."""
    pieces: list[str] = []
    end = 0
    for _ in range(MAX_EXPRESSIONS):
        start = text.find("$(", end)
        if start < 0:
            return "".join([*pieces, text[end:]])
        stop = _closing(text, start + 1, entry)
        expression = text[start + 2 : stop]
        try:
            number = printed(calculate(expression.replace("$(", "(")))
        except ExpressionError as error:
            raise IniError(f"{entry}: $({shown(expression)}) cannot be calculated: {error}", entry.place) from None
        pieces += [text[end:start], number]
        end = stop + 1
    raise IniError(f"{entry}: a value has at most {MAX_EXPRESSIONS:,} expressions", entry.place)


def _closing(text: str, start: int, entry: Entry) -> int:
    depth = 0
    for match in re.compile("[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    raise IniError(f"{entry}: $( is not closed by )", entry.place)
