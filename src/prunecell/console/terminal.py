"""What the commands print: a terminal obeys no character of a name, and no encoding lacks one.

Names come from files, which strangers may have written: a name may hold the codes that move a terminal's cursor, rich's
markup, or half a surrogate pair.
"""

import errno
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from prunecell.errors import PrunecellError

DOTS = "…"
_INDENT = "  "
_SHOWN = 4
"""Names in a list on a terminal; one more is shown too, because "and 1 more" would take its place."""

_SHORTEST = 24
"""Columns that a name keeps at least, where it is cut; with fewer nobody knows it again."""


def visible(text: object) -> str:
    r"""Return a text in which every character prints: the others are written as Python writes them.

    >>> print(visible("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def visible_lines(text: object) -> str:
    """Return the same for a text of several lines, whose ends stay."""
    return "\n".join(map(visible, str(text).split("\n")))


def shortened(names: Sequence[str], width: int, dots: str = DOTS) -> list[str] | None:
    """Cut names that are too long once, in their middle: all at the same place, and so that they stay different.

    Args:
        names: printable.
        width: columns that a name may take.
        dots: what stands where something was cut out.

    Returns:
        The names; None where they must be shown whole: too little would be left of them, or two would look the same.

    >>> shortened(["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"], 36)
    ['model.layers.0.se…attn.q_proj.weight', 'model.layers.1.se…attn.q_proj.weight']
    """
    if max(map(cell_len, names), default=0) <= width:
        return list(names)
    if width < _SHORTEST:
        return None
    room = width - cell_len(dots)
    for head in sorted(range(room // 4, room - room // 4 + 1), key=lambda head: abs(head - room // 2)):
        short = [_cut(name, width, dots, head) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return None


def _cut(text: str, width: int, dots: str, head: int) -> str:
    """Cut so much out of a text that is too wide, after `head` columns, that it takes `width` columns."""
    if cell_len(text) <= width:
        return text
    tail = width - cell_len(dots) - head
    return set_cell_size(text, head) + dots + set_cell_size(text[::-1], tail)[::-1]


def columns_of(rows: Sequence[tuple[str, ...]], *, words: Sequence[int] = (0,)) -> list[str]:
    """Lay rows out in columns, which begin where the row above has them.

    Args:
        rows: printable cells, as many in each row.
        words: numbers of the columns that are shortened in the middle where a terminal is too narrow for the rows; the
            first cell stands on a line of its own, above the others, where that does not do.

    >>> columns_of([("layer", "weights"), ("conv1", "5")])
    ['layer  weights', 'conv1  5']
    """
    width = terminal_width() or sys.maxsize
    lines = _in_width(rows, width, words)
    if lines is not None:
        return lines
    names, rest = [row[0] for row in rows], [row[1:] for row in rows]
    below = _in_width(rest, width - len(_INDENT), [at - 1 for at in words if at]) or _joined(rest, " ")
    return [f"{name}\n{_INDENT}{line}" for name, line in zip(shortened(names, width) or names, below, strict=True)]


def _in_width(rows: Sequence[tuple[str, ...]], width: int, words: Sequence[int]) -> list[str] | None:
    """One line a row: whole, if need be closer together, if need be with shorter words; None where nothing does it."""
    for gap in "  ", " ":
        lines = _joined(rows, gap)
        too_much = max(map(cell_len, lines)) - width
        if too_much <= 0:
            return lines
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    for at in sorted(words, key=lambda at: -widths[at]):
        cut = min(max(too_much, 0), max(widths[at] - _SHORTEST, 0))
        short = shortened(columns[at], widths[at] - cut)
        if short is not None:
            columns[at], too_much = short, too_much - cut
    return _joined(list(zip(*columns, strict=True)), " ") if too_much <= 0 else None


def _joined(rows: Sequence[tuple[str, ...]], gap: str) -> list[str]:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return [gap.join(padded(cell, w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def padded(cell: str, width: int) -> str:
    """The cell, and blanks behind it up to the width."""
    return cell + " " * (width - cell_len(cell))


def listed(names: Sequence[str]) -> str:
    """Names, of which a terminal shows the first if they are many; a file or a pipe gets all."""
    shown = names if terminal_width() is None or len(names) <= _SHOWN + 1 else names[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def terminal_width() -> int | None:
    """The columns of the terminal that standard output goes to; None where it goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def encodable(text: str) -> str:
    """Return a text that standard output can encode: what it cannot is written as Python writes it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(console: Console, text: object = "") -> None:
    """Print it as it is: nothing in it is markup, and no line is broken."""
    try:
        console.print(Text(visible_lines(text)), soft_wrap=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


@contextmanager
def as_a_command() -> Iterator[None]:
    """Run the body of a command: a warning is one line; what goes wrong on purpose is one message and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    errors = Console(stderr=True)

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        errors.print(Text(visible_lines(f"warning: {message}"), "yellow"), soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        try:
            yield
        except (PrunecellError, OSError, MemoryError, RuntimeError) as error:
            if not isinstance(error, PrunecellError | OSError) and not lacks_memory(error):
                raise
            errors.print(Text(visible_lines(f"error: {_told(error)}"), "red"), soft_wrap=True)
            sys.exit(1)


def lacks_memory(error: Exception) -> bool:
    """Whether Python, numpy or torch, which has no class of its own for it on the CPU, found no memory."""
    return isinstance(error, MemoryError) or re.search("allocate memory|out of memory", str(error)) is not None


def _told(error: Exception) -> str:
    """Say what happened, without the system's error number, and what to do."""
    notes = "".join(getattr(error, "__notes__", ()))
    if isinstance(error, OSError) and error.strerror:
        missing = error.strerror == os.strerror(errno.ENOENT)
        what = "there is no such file or folder" if missing else error.strerror  # as our own checks say it
        facts = (error.filename, what, _advice(error))
        return ": ".join(str(fact) for fact in facts if fact) + notes
    if not isinstance(error, PrunecellError | OSError):
        wanted = re.search(r"allocate ([0-9.]+ (?:bytes|[KMGTPE]i?B))", str(error))
        asked = f", for {wanted[1]} were wanted at once" if wanted else ""
        return f"there is too little memory{asked}: smaller images, layers or batches take less{notes}"
    return f"{error}{notes}"


def _advice(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not Path(error.filename or "").is_absolute():
        try:
            os.getcwd()  # noqa: PTH109 - not for its value
        except FileNotFoundError:
            return "the working folder is gone; begin anew in another one"
    return _ADVICE.get(error.errno or 0, "")


_RIGHT = "get the right to it, or use another folder"
_ADVICE = {
    errno.ENOSPC: "make room on the disk, or use another folder",
    errno.EDQUOT: "make room, for your share of the disk is full, or use another folder",
    errno.EFBIG: "a limit (ulimit -f) or the file system allows no larger file",
    errno.EROFS: "use another folder",
    **dict.fromkeys((errno.EACCES, errno.EPERM), _RIGHT),
    errno.EIO: "the disk fails, or is gone",
    errno.ESTALE: "the folder on the network is gone",
}
"""What a user can do about an error of the system."""
