"""Lines to sections: headers, inheritance, properties, and templates put in where they are named."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from n2d2.ini.document import Document, todays
from n2d2.ini.errors import IniError, IniWarning, NotYetKnownError, Place, hint, shown
from n2d2.ini.lines import Line, logical_lines
from n2d2.ini.section import Section
from n2d2.ini.templates import Template, compile_template
from n2d2.ini.values import Entry, Node

MAX_NAME = 200
MAX_TEMPLATES = 16
"""Templates within templates."""

_PROPERTIES = "properties, inherited ones included"
_HEADER = re.compile(r"\[([^\[\]]+)\]([^\[\]]*)")


@dataclass
class Parser:
    """Fills a document with the sections of its file and of the templates that it names.

    Args:
        document: To be filled.
        folder: Where the templates of the main file lie; those of a template lie beside it.
    """

    document: Document
    folder: Path | None
    templates: dict[Path, Template] = field(default_factory=dict)

    def parse(self, lines: Iterable[Line], chain: tuple[Path, ...] = (), parent: str = "") -> None:
        """Add the sections of these lines: of the main file, or of the last of a chain of templates, for `parent`.

        Raises:
            IniError: a line is neither `[section]` nor `NAME=value`, or breaks a rule of the dialect.
        """
        section, template = self.document.globals, ""
        for line in logical_lines(lines):
            if line.text.startswith("["):
                self._put_in(section, template, chain)
                section, template = self._header(line, parent)
            else:
                self._property(section, line)
        self._put_in(section, template, chain)

    def _header(self, line: Line, parent: str) -> tuple[Section, str]:
        match = _HEADER.fullmatch(line.text)
        if not match:
            legal = "[name], [name] base1 base2 or [name@template]"
            raise IniError(f"{shown(line.text)!r} is no header: it must be {legal}", line.place)
        name, _, template = (part.strip() for part in match[1].partition("@"))
        _check_name(name, line.place)
        if template:
            _check_name(template, line.place)
        if name in self.document.sections:
            first = self.document.sections[name].place
            raise IniError(f"section [{name}] is there already, at {first}", line.place)
        bases = tuple(self._base(name, base, line.place) for base in match[2].split())
        previous = next(reversed(self.document.sections), "")
        if previous and previous == parent:
            previous = self.document.sections[parent].previous
        section = Section(self.document, name, line.place, bases, parent=parent, previous=previous)
        for base in reversed(bases):
            self.document.effort.spend(len(base.entries), _PROPERTIES, line.place)
            section.entries.update(base.entries)
        self.document.sections[name] = section
        return section, template

    def _base(self, name: str, base: str, place: Place) -> Section:
        sections = self.document.sections
        if base not in sections:
            problem = f"[{name}] inherits from [{shown(base)}], which is no section above it{hint(base, sections)}"
            raise IniError(problem, place)
        return sections[base]

    def _property(self, section: Section, line: Line) -> None:
        key, equals, value = (part.strip() for part in line.text.partition("="))
        if not equals:
            raise IniError(f"{shown(line.text)!r} is neither [section] nor NAME=value", line.place)
        _check_name(key, line.place)
        key = todays(section.name, key)
        before = section.entries.get(key)
        if before and before.section == section.name:
            problem = f"{line.place}: {section}{key} is given again and overrides {before.place}"
            warnings.warn(problem, IniWarning, stacklevel=2)
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        self.document.effort.spend(1, _PROPERTIES, line.place)
        section.entries[key] = Entry(section.name, key, value, line.place)

    def _put_in(self, section: Section, name: str, chain: tuple[Path, ...]) -> None:
        """Parse the lines that a section's template makes of the section's properties."""
        if not name:
            return
        beside = chain[-1].parent if chain else self.folder
        path = self.document.folders.find(name, beside, section.place)
        if path in chain or len(chain) >= MAX_TEMPLATES:
            names = " -> ".join(p.name for p in (*chain, path))
            raise IniError(f"{section}templates within templates go in a circle, or too deep: {names}", section.place)
        if path not in self.templates:
            self.templates[path] = compile_template(path, self.document.folders)
        template = self.templates[path]
        section.asked.update(key for key in section.entries if template.mentions(key))
        parameters = {key: self._parameter(section, entry) for key, entry in section.entries.items()}
        lines = template.render({**parameters, "SECTION_NAME": section.name}, self.document.effort)
        self.parse(lines, (*chain, path), section.name)

    def _parameter(self, section: Section, entry: Entry) -> str:
        try:
            return self.document.value(Node(section.name, entry)).text
        except NotYetKnownError:
            return entry.raw  # it hangs on the built network: whoever gets it as part of a line will work it out


def _check_name(name: str, place: Place) -> None:
    if not name:
        raise IniError("a name is missing", place)
    if len(name) > MAX_NAME:
        raise IniError(f"the name {shown(name)!r} is too long: at most {MAX_NAME} characters are legal", place)
