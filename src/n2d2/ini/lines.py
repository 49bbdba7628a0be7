"""Files to logical lines: size limits, byte order mark, continuation, comments; every line keeps its place.

file --read_text--> text --physical_lines--> Line, Line, ... --logical_lines--> Line, Line, ...
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from n2d2.ini.errors import IniError, Place

MAX_FILE_BYTES = 16 * 2**20
"""No INI file or template is longer: a 1000 x 1000 connection table, the longest line of a real one, takes 2 MiB."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_QUOTE_OR_COMMENT = re.compile('[";#]')


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and where it starts."""

    place: Place
    text: str


def read_text(path: Path) -> str:
    """Read a whole file, at most `MAX_FILE_BYTES`; a byte order mark is skipped, other encodings pass as Latin-1.

    Raises:
        IniError: there is no such regular file, it is too long, or it is not text.
    """
    try:
        if not path.is_file():
            raise IniError(f"{path}: there is no such file" if not path.exists() else f"{path}: it is no regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise IniError(f"{path}: {path.stat().st_size:,} bytes are too many for an INI file: {_limit()}")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise IniError(f"{path}: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return check_text(text, str(path))


def check_text(text: str, file: str) -> str:
    """Return `text` with line ends made newlines, or refuse it.

    Raises:
        IniError: it is too long, or has control characters (the templates' machinery relies on their absence).
    """
    if len(text) > MAX_FILE_BYTES:
        raise IniError(f"{file}: {len(text):,} characters are too many for an INI file: {_limit()}")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise IniError(f"the control character {control[0]!r} is no part of a text file", Place(file, line))
    return text


def physical_lines(text: str, file: str) -> Iterator[Line]:
    """Number the lines of a text, from 1."""
    for number, line in enumerate(text.split("\n"), start=1):
        yield Line(Place(file, number), line)


def logical_lines(lines: Iterable[Line]) -> Iterator[Line]:
    r"""Join lines that end in a backslash, take comments and outer spaces off, leave empty lines out.

    A joined line has the place of its first part. As in N2D2 lines are joined first, so a backslash at the end of
    a comment makes the next line part of the comment.

    >>> text = 'A=1 \\\n  2 ; a comment\n\nB="; # none"'
    >>> [(line.place.line, line.text) for line in logical_lines(physical_lines(text, "net.ini"))]
    [(1, 'A=1   2'), (4, 'B="; # none"')]
    """
    parts: list[str] = []
    place = None
    for line in lines:
        place = place or line.place
        text = line.text.rstrip(" \t")
        if text.endswith("\\"):
            parts.append(text[:-1])
            continue
        yield from _stripped(Line(place, "".join([*parts, line.text])))
        parts, place = [], None
    if place:
        yield from _stripped(Line(place, "".join(parts)))


def _stripped(line: Line) -> Iterator[Line]:
    text = _without_comment(line).strip()
    if text:
        yield Line(line.place, text)


def _without_comment(line: Line) -> str:
    position = 0
    while found := _QUOTE_OR_COMMENT.search(line.text, position):
        if found[0] != '"':
            return line.text[: found.start()]
        position = line.text.find('"', found.end()) + 1
        if not position:
            raise IniError('a double quote (") is opened and never closed', line.place)
    return line.text


def _limit() -> str:
    return f"at most {MAX_FILE_BYTES:,} are read"
