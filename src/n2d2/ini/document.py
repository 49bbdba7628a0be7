"""A whole INI file: where names lead, and the check that nothing in it was left over.

A key is legal where somebody asked for it, whether or not it was there: so the calls of whoever reads the file are the
list of legal keys, there is no second one to keep in step, and every key that nobody asked for can be told its nearest.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from itertools import chain, islice

from n2d2.ini.effort import Effort
from n2d2.ini.errors import IniError, IniWarning, NotYetKnownError, Place, hint, shown
from n2d2.ini.expressions import printed
from n2d2.ini.folders import MODELS, Folders
from n2d2.ini.section import Section
from n2d2.ini.values import Entry, Node, Value, Values
from prunecell.errors import some

Resolver = Callable[[str, str], str | int | float | None]
"""`(section, key) -> value` of a property that no line gives, such as `_EpochSize`; None where there is none."""

DATA = "N2D2_DATA"
CONFIG = "ConfigSection"
PROVIDERS = ("sp", "env", "cenv")
"""The section of the stimuli; N2D2 takes one name for the other."""
MAX_REPORTED = 20
MAX_NAMED = 10
_AUTOMATIC = {"SECTION_NAME": "name", "PARENT_SECTION_NAME": "parent", "PREV_SECTION_NAME": "previous"}
_FREE = ("$", f"{CONFIG}(")
"""How keys begin that nobody needs to read: definitions, and configurations for other models."""


def todays(section: str, key: str) -> str:
    """Give a key the name that N2D2 has for it since 2018."""
    if key == "NbChannels" and section not in PROVIDERS:
        return "NbOutputs"
    return f"Mapping{key.removeprefix('Map')}" if key.startswith("Map(") else key


class Document:
    """An INI file with its templates put in.

    Args:
        file: Its name, for messages.
        folders: Where templates may come from.
        lenient: Keys that nobody asked for are warnings, not errors.

    Attributes:
        globals: What stands before the first section.
        sections: Name to section, in their order.
        resolver: Asked for properties that no line gives; to be set by whoever builds the network.
    """

    def __init__(self, file: str, folders: Folders, *, lenient: bool = False) -> None:
        self.file = file
        self.folders = folders
        self.lenient = lenient
        self.globals = Section(self, "", Place(file, 1))
        self.sections: dict[str, Section] = {}
        self.resolver: Resolver | None = None
        self.effort = Effort()
        self._values = Values(self, self.effort)
        self._configurations: dict[str, tuple[Section, ...]] = {}
        self._wanted: dict[str, None] = {}  # a set that keeps its order

    def get(self, name: str) -> Section | None:
        """Return a section, or None; asking makes the name a legal one."""
        self._wanted[name] = None
        return self.sections.get(name)

    @property
    def description(self) -> str:
        """Every line that gives something, as it stands there, without comments."""
        sections = (self.globals, *self.sections.values())
        return "\n".join(f"{entry}={entry.raw}" for section in sections for entry in section.entries.values())

    def section(self, name: str) -> Section:
        """Return a section.

        Raises:
            IniError: there is none of this name; the nearest is offered.
        """
        section = self.get(name)
        if section is None:
            raise IniError(f"{self.file}: section [{name}] is missing{hint(name, self.sections)}")
        return section

    def starting_with(self, prefix: str) -> list[Section]:
        """Return the sections whose names start with `prefix`, in their order; asking makes such names legal."""
        found = [section for name, section in self.sections.items() if name.startswith(prefix)]
        self._wanted.update(dict.fromkeys((prefix, *(section.name for section in found))))
        return found

    def having(self, key: str) -> list[Section]:
        """Return the sections in which a line gives `key`, and make it a legal one there."""
        return [section for section in self.sections.values() if section.entry(key) and key in section]

    def value(self, node: Node) -> Value:
        """Return the value of an entry as a section sees it."""
        return self._values.of(node)

    def configurations(self, section: Section) -> tuple[Section, ...]:
        """Return the sections that `ConfigSection` names, the strongest, which is the last, first."""
        if section.name not in self._configurations:
            entry = self._configuration(section)
            names = self.value(Node(section.name, entry)).text.split(",") if entry else []
            found = [self.sections.get(name.strip(), name.strip()) for name in names if name.strip()]
            for missing in found:
                if isinstance(missing, str):
                    problem = f"{section}{CONFIG}: there is no section [{shown(missing)}]{hint(missing, self.sections)}"
                    raise IniError(problem, entry.place if entry else None)
            self._configurations[section.name] = tuple(s for s in reversed(found) if isinstance(s, Section))
        return self._configurations[section.name]

    def _configuration(self, section: Section) -> Entry | None:
        """The line of a section that names its configuration: that for its model goes before that for all."""
        model = section.entries.get("Model") or self.globals.entries.get("DefaultModel")
        own = f"{CONFIG}({model.raw})" if model else CONFIG
        return section.entries.get(own) or section.entries.get(CONFIG)

    def variable(self, node: Node, name: str) -> Node | str:
        """Find `${name}`: in the section that reads, in the one that the line stands in, global, in the environment."""
        reader, writer = (self.sections.get(section, self.globals) for section in (node.reader, node.entry.section))
        if name in _AUTOMATIC:
            return str(getattr(reader, _AUTOMATIC[name]))
        for scope in (reader, writer, self.globals):
            if entry := scope.entries.get(f"${name}"):
                return Node(scope.name, entry)
        if name == DATA and DATA in os.environ:
            return os.environ[DATA]
        if name == MODELS and self.folders.models:
            return str(self.folders.models)
        known = [key[1:] for key in {**self.globals.entries, **reader.entries} if key.startswith("$")]
        self.effort.spend(len(known), "properties, inherited ones included", node.entry.place)
        problem = f"{node.entry}: ${{{shown(name)}}} is defined nowhere"
        alike = [one for one in known if one.replace("_", "") == name.replace("_", "")]
        if len(alike) != 1:
            raise IniError(f"{problem}{hint(name, known)}", node.entry.place)
        warnings.warn(f"{node.entry.place}: {problem}; ${{{alike[0]}}} is taken", IniWarning, stacklevel=2)
        return self.variable(node, alike[0])

    def reference(self, node: Node, section: str, key: str) -> Node | str:
        """Find `[section]key`: on a line of that section, else by asking the resolver."""
        target = self.get(section)
        if target is None:
            problem = f"{node.entry}: there is no section [{shown(section)}]{hint(section, self.sections)}"
            raise IniError(problem, node.entry.place)
        key = todays(section, key)
        target.asked.add(key)
        if entry := target.entries.get(key):
            return Node(section, entry)
        if self.resolver is None:
            raise NotYetKnownError(f"{node.entry}: [{section}]{shown(key)} is given by no line", node.entry.place)
        value = self.resolver(section, key)
        if value is None:
            raise IniError(
                f"{node.entry}: [{section}]{shown(key)} is not there{hint(key, target.entries)}", node.entry.place
            )
        return value if isinstance(value, str) else printed(value)

    def check_all_read(self, owners: Mapping[str, str] | None = None) -> None:
        """Refuse keys that nobody asked for, and sections that look like a misspelt one; warn of other idle sections.

        Args:
            owners: key -> a value of it; where no line gives the key, nothing reads those that begin with it and a dot.

        Raises:
            IniError: one line per key, with its place and the nearest legal key. When lenient, these are warnings.
        """
        legal = self._legal_keys()
        idle = [s for s in self.sections.values() if not legal[s.name] and s.name not in self._wanted]
        problems = list(islice(chain(self._misspelt(idle), self._unread(legal, owners or {})), MAX_REPORTED + 1))
        if len(problems) > MAX_REPORTED:
            problems[MAX_REPORTED:] = ["and more"]
        if problems and not self.lenient:
            raise IniError("\n".join(problems))
        if idle:
            names = some((f"[{section.name}]" for section in idle), MAX_NAMED)
            problems.append(f"{idle[0].place}: nothing uses {names}")
        for problem in problems:
            warnings.warn(problem, IniWarning, stacklevel=2)

    def _misspelt(self, idle: list[Section]) -> Iterator[str]:
        """Idle sections named almost like one that was asked for and is not there."""
        missing = [name for name in self._wanted if name not in self.sections][:1000]
        for section in idle[:MAX_REPORTED]:
            for meant in get_close_matches(section.name, missing, n=1, cutoff=0.8):
                yield f"{section.place}: nothing uses [{section.name}]; did you mean [{meant}]?"

    def _unread(self, legal: dict[str, set[str]], owners: Mapping[str, str]) -> Iterator[str]:
        for section in (self.globals, *self.sections.values()):
            known = legal[section.name]
            if section.name and not known and section.name not in self._wanted:
                continue
            for entry in section.entries.values():
                if entry.section == section.name and entry.key not in known and not entry.key.startswith(_FREE):
                    advice = _missing_owner(entry.key, known, owners) or hint(entry.key, known)
                    yield f"{entry.place}: {section}{entry.key}: nothing reads this key{advice}"

    def _legal_keys(self) -> dict[str, set[str]]:
        """What was asked of a section, of those that inherit from it, and of those that it configures."""
        legal = {name: {*section.asked, CONFIG} if section.asked else set() for name, section in self.sections.items()}
        legal[""] = self.globals.asked
        for section in self.sections.values():
            for shared in self.configurations(section):
                legal[shared.name] |= section.asked
        for section in reversed(self.sections.values()):  # bases stand before those that inherit
            for base in section.bases:
                legal[base.name] |= legal[section.name]
        return legal


def _missing_owner(key: str, known: set[str], owners: Mapping[str, str]) -> str:
    """Say which line is missing where a key is legal beside it only; else nothing."""
    owner, dot, _ = key.partition(".")
    if not dot or owner not in owners or owner not in known or any(one.startswith(f"{owner}.") for one in known):
        return ""
    return f" because {owner} is missing: add the line {owner}={owners[owner]}"
