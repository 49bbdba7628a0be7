r"""N2D2's template statements, rendered by jinja2's sandbox.

A template is cut into text, `{{VAR}}` and `{% statement %}`. What jinja2 gets is a program whose only words are its own
keywords, the functions of `_Run` and numbers that point into a table of ours, such as
`{{ text(0) }}{% if test(1) %}{{ value(2) }}{% endif %}`. So neither a template nor a parameter can say anything to
jinja2, and every name, operand, file and length is checked here. Each line of text carries a mark with the number of
its piece and its line in that, `\x01number offset\x01` (no INI text has control characters: `lines.check_text`).

    {{V}}                             the value of parameter V
    {% if V exists %}                 also not_exists, == value, != value; {% else %}, {% endif %}
    {% for V in range(a, b) %}        V = a, ..., b-1; a is 0 when left out; a and b may be parameters; {% endfor %}
    {% block V %}                     for i in range(V): {{#}} is i, {{X}} is parameter V[i]X; {% endblock %}
    {% set V %}                       what follows, up to {% endset %}, becomes the value of V
    {% include F %}                   the text of file F, relative to the template
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from n2d2.ini.effort import Effort
from n2d2.ini.errors import IniError, Place, hint, shown
from n2d2.ini.folders import Folders
from n2d2.ini.lines import MAX_FILE_BYTES, Line, read_text

MAX_STATEMENTS = 10_000
MAX_NESTING = 16


@dataclass(frozen=True)
class Statement:
    """One `{% ... %}` or `{{ ... }}` as words, the keyword first, or a piece of text as `("text", the text)`."""

    words: tuple[str, ...]
    place: Place

    @property
    def keyword(self) -> str:
        """What kind of statement it is."""
        return self.words[0]

    @property
    def name(self) -> str:
        """The parameter or file that it is about."""
        return self.words[1]


@dataclass(frozen=True)
class Template:
    """A template, checked and compiled.

    Args:
        program: What jinja2 runs.
        statements: What the numbers in the program point to.
        names: All that its statements, taken or not, are about.
    """

    program: jinja2.Template
    statements: tuple[Statement, ...]
    names: frozenset[str]

    def mentions(self, parameter: str) -> bool:
        """Whether a statement is about this parameter, or about the array that it is a field of."""
        return parameter in self.names or parameter.partition("[")[0] in self.names

    def render(self, parameters: Mapping[str, str], effort: Effort) -> Iterator[Line]:
        """Yield the lines that the template makes of these parameters, each with the place that it came from.

        Raises:
            IniError: a parameter is missing or has an illegal value, or the effort is too much.
        """
        run = _Run(parameters, self.statements, effort)
        output = self.program.render(
            text=run.text, value=run.value, test=run.test, each=run.each, block=run.block, store=run.store
        )
        place = self.statements[0].place
        for line in output.split("\n"):
            if mark := _MARK_OF_TEXT.search(line):
                number, offset = int(mark[1]), int(mark[2])
                start = self.statements[number].place
                place = Place(start.file, start.line + offset)
            yield Line(place, _MARK.sub("", line))


def compile_template(path: Path, folders: Folders) -> Template:
    """Read, check and compile a template and what it includes.

    Raises:
        IniError: it cannot be read, a statement is unknown or malformed, or it includes itself.
    """
    reader = _Reader(folders)
    reader.read(path, ())
    program = "".join(_JINJA[s.keyword].format(number) for number, s in enumerate(reader.found))
    names = frozenset(word for s in reader.found if s.keyword != "text" for word in s.words[1:])
    return Template(_ENVIRONMENT.from_string(program), tuple(reader.found), names)


_ENVIRONMENT = SandboxedEnvironment(autoescape=False, keep_trailing_newline=True)  # INI text, not HTML
_ENVIRONMENT.globals.clear()
_MARK = re.compile("\x01(\\d+) (\\d+)\x01")
_MARK_OF_TEXT = re.compile(_MARK.pattern + "(?!\x01|$)")
_JINJA = {
    "text": "{{{{ text({}) }}}}",
    "value": "{{{{ value({}) }}}}",
    "if": "{{% if test({}) %}}",
    "else": "{{% else %}}",
    "endif": "{{% endif %}}",
    "for": "{{% for _ in each({}) %}}",
    "endfor": "{{% endfor %}}",
    "block": "{{% for _ in block({}) %}}",
    "endblock": "{{% endfor %}}",
    "set": "{{% call store({}) %}}",
    "endset": "{{% endcall %}}",
}
_OPENER = {"else": "if", "endif": "if", "endfor": "for", "endblock": "block", "endset": "set"}
_FORM = {
    "if": re.compile(r"if \S+ (?:exists|not_exists|[!=]= \S+)"),
    "for": re.compile(r"for \S+ in range \S+(?: \S+)?"),
    "block": re.compile(r"block \S+"),
    "set": re.compile(r"set \S+"),
    "include": re.compile(r"include \S+"),
    **{keyword: re.compile(keyword) for keyword in _OPENER},
}
_BRACKETS_AND_COMMAS = str.maketrans("(),", "   ")


@dataclass
class _Reader:
    """Reads a template and its includes into one list of statements, and checks that they are well-formed."""

    folders: Folders
    found: list[Statement] = field(default_factory=list)
    open: list[Statement] = field(default_factory=list)
    n_characters: int = 0

    def read(self, path: Path, chain: tuple[Path, ...]) -> None:
        if path in chain:
            names = " -> ".join(p.name for p in (*chain, path))
            raise IniError(f"the template includes itself: {names}", Place(str(chain[-1]), 1))
        text = read_text(path)
        self.n_characters += len(text)
        if self.n_characters > MAX_FILE_BYTES:
            raise IniError(f"{path}: with all includes a template has at most {MAX_FILE_BYTES:,} characters")
        depth = len(self.open)
        for statement in _cut(text, str(path)):
            if statement.keyword == "include":
                inner = self.folders.find(statement.name, path.parent, statement.place)
                self.read(inner, (*chain, path))
            else:
                self.add(statement)
        if len(self.open) > depth:
            raise IniError(f"{{% {self.open[-1].keyword} %}} is never ended", self.open[-1].place)

    def add(self, statement: Statement) -> None:
        keyword = statement.keyword
        if keyword in _OPENER.values():
            self.open.append(statement)
        elif keyword in _OPENER:
            if not self.open or self.open[-1].keyword != _OPENER[keyword]:
                raise IniError(f"{{% {keyword} %}} without its {{% {_OPENER[keyword]} %}}", statement.place)
            if keyword != "else":
                self.open.pop()
        self.found.append(statement)
        if len(self.open) > MAX_NESTING or len(self.found) > MAX_STATEMENTS:
            legal = f"at most {MAX_STATEMENTS:,} statements, nested at most {MAX_NESTING} deep"
            raise IniError(f"this is too much for one template: {legal}", statement.place)


def _cut(text: str, file: str) -> Iterator[Statement]:
    position, line = 0, 1
    while True:
        start = min((i for i in (text.find("{%", position), text.find("{{", position)) if i >= 0), default=len(text))
        yield Statement(("text", text[position:start]), Place(file, line))
        if start == len(text):
            return
        line += text.count("\n", position, start)
        place = Place(file, line)
        closing = "%}" if text[start + 1] == "%" else "}}"
        end = text.find(closing, start)
        inner = text[start + 2 : end]
        if end < 0 or "\n" in inner:
            raise IniError(f"{text[start : start + 2]} is not closed by {closing} on its line", place)
        yield Statement(("value", inner.strip()) if closing == "}}" else _words(inner, place), place)
        position = end + 2


def _words(inner: str, place: Place) -> tuple[str, ...]:
    words = inner.translate(_BRACKETS_AND_COMMAS).split()
    keyword = words[0] if words else ""
    if keyword not in _FORM:
        raise IniError(f"unknown statement {{%{shown(inner)}%}}{hint(keyword, _FORM)}", place)
    if not _FORM[keyword].fullmatch(" ".join(words)):
        raise IniError(f"malformed statement {{%{shown(inner)}%}}", place)
    return tuple(word.strip('"') for word in words)


class _Run:
    """One rendering: the parameters of the moment, and the functions that the program calls."""

    def __init__(self, parameters: Mapping[str, str], statements: tuple[Statement, ...], effort: Effort) -> None:
        self.parameters: ChainMap[str, str] = ChainMap(dict(parameters))
        self.statements = statements
        self.effort = effort

    def text(self, number: int) -> str:
        lines = self.statements[number].name.split("\n")
        marked = "\n".join(f"\x01{number} {offset}\x01{line}" for offset, line in enumerate(lines))
        self._step(number, len(marked))
        return marked

    def value(self, number: int) -> str:
        text = self._parameter(number)
        self._step(number, len(text))
        return text

    def test(self, number: int) -> bool:
        self._step(number)
        _, name, sign, *operand = self.statements[number].words
        if not operand:
            return (name in self.parameters) == (sign == "exists")
        return ([self._parameter(number)] == operand) == (sign == "==")

    def each(self, number: int) -> Iterator[None]:
        _, name, _, _, *bounds = self.statements[number].words
        for index in range(*(self._count(bound, number) for bound in bounds)):
            yield from self._pass({name: str(index)}, number)

    def block(self, number: int) -> Iterator[None]:
        array = self.statements[number].name
        for index in range(self._count(array, number)):
            item = f"{array}[{index}]"
            fields = {key.removeprefix(item): text for key, text in self.parameters.items() if key.startswith(item)}
            yield from self._pass({**fields, "#": str(index)}, number)

    def store(self, number: int, *, caller: Callable[[], str]) -> str:
        name = self.statements[number].name
        scope = next((scope for scope in self.parameters.maps if name in scope), self.parameters.maps[-1])
        scope[name] = _MARK.sub("", caller())
        return ""

    def _pass(self, names: dict[str, str], number: int) -> Iterator[None]:
        self._step(number)
        self.parameters = self.parameters.new_child(names)
        yield
        self.parameters = self.parameters.parents

    def _parameter(self, number: int) -> str:
        statement = self.statements[number]
        if statement.name not in self.parameters:
            problem = f"the template's parameter {shown(statement.name)!r} is not given"
            raise IniError(f"{problem}{hint(statement.name, self.parameters)}", statement.place)
        return self.parameters[statement.name]

    def _count(self, word: str, number: int) -> int:
        text = self.parameters.get(word, word)
        try:
            return int(text)
        except ValueError:
            legal = "a whole number, or a parameter that is one"
            raise IniError(
                f"{shown(word)}={shown(text)!r} is illegal: {legal}", self.statements[number].place
            ) from None

    def _step(self, number: int, n_characters: int = 0) -> None:
        self.effort.spend(1, "template steps", self.statements[number].place)
        self.effort.spend(n_characters, "characters of lines", self.statements[number].place)
