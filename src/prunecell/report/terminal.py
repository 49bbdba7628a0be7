"""What the commands print: a terminal obeys no character of a name, and no encoding lacks one.

Names come from files, which strangers may have written: a name may hold the codes that move a terminal's cursor, rich's
markup, or half a surrogate pair.
"""

import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from prunecell.errors import PrunecellError

DOTS = "…"
_SHORTEST_PART = 5
"""Columns that a part of a name keeps, where it is its parts that are cut."""

_SHORTEST = 12
"""Columns of a terminal that a name keeps."""


def visible(text: object) -> str:
    r"""Return a text in which every character prints: the others are written as Python writes them.

    >>> print(visible("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def visible_lines(text: object) -> str:
    """Return the same for a text of several lines, whose ends stay."""
    return "\n".join(map(visible, str(text).split("\n")))


def shortened(text: str, width: int, dots: str = DOTS) -> str:
    """Cut a name in the middle of its longest parts, or in its own, so that it takes at most `width` columns (>= 3).

    >>> shortened("encoder.layers.11.self_attention.output_projection.weight", 44)
    'encoder.layers.11.self…tion.outp…tion.weight'
    """
    if cell_len(text) <= width:
        return text
    parts = text.split(".")
    for longest in range(max(map(cell_len, parts)), _SHORTEST_PART - 1, -1):
        short = ".".join(_cut(part, longest, dots) for part in parts)
        if cell_len(short) <= width:
            return short
    return _cut(text, width, dots)


def shortened_apart(names: Sequence[str], width: int, dots: str = DOTS) -> list[str] | None:
    """Shorten names so that all stay different: each for itself, or all at one place; None where neither does it.

    >>> shortened_apart(["encoder.layers.0.self_attn.weight", "encoder.layers.1.self_attn.weight"], 22)
    ['encoder.layers.0…eight', 'encoder.layers.1…eight']
    """
    room = max(width - cell_len(dots), 0)
    ways = [None, *sorted(range(room + 1), key=lambda head: abs(head - room // 2))]
    for head in ways:
        if head is None:
            short = [shortened(name, width, dots) for name in names]
        else:
            short = [_cut(name, width, dots, head) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return None


def _cut(text: str, width: int, dots: str, head: int | None = None) -> str:
    """Cut the middle out of a text, after `head` columns; None: so that as much is left before as behind."""
    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(dots), 0)
    head = room // 2 if head is None else min(head, room)
    return set_cell_size(text, head) + dots + set_cell_size(text[::-1], room - head)[::-1]


def columns_of(rows: Sequence[tuple[str, ...]], *, words: Sequence[int] = (0,)) -> list[str]:
    """Lay rows out in columns, which begin where the row above has them.

    Args:
        rows: printable cells, as many in each row.
        words: numbers of the columns that are shortened in the middle where a terminal is too narrow for the rows.

    >>> columns_of([("layer", "weights"), ("conv1", "5")])
    ['layer  weights', 'conv1  5']
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    too_much = sum(widths) + 2 * (len(widths) - 1) - (terminal_width() or sys.maxsize)
    for at in sorted(words, key=lambda at: -widths[at]):
        cut = min(max(too_much, 0), max(widths[at] - _SHORTEST, 0))
        widths[at], too_much = widths[at] - cut, too_much - cut
    return [
        "  ".join(_padded(shortened(cell, w), w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def terminal_width() -> int | None:
    """The columns of the terminal that standard output goes to; None where it goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def encodable(text: str) -> str:
    """Return a text that standard output can encode: what it cannot is written as Python writes it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(console: Console, text: object = "") -> None:
    """Print it as it is: nothing in it is markup, and no line is broken."""
    console.print(Text(visible_lines(text)), soft_wrap=True)


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
        except (PrunecellError, OSError) as error:
            errors.print(Text(visible_lines(f"error: {_told(error)}"), "red"), soft_wrap=True)
            sys.exit(1)


def _told(error: Exception) -> str:
    """Say what happened, without the system's error number."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(fact) for fact in (error.filename, error.strerror) if fact)
    return str(error)
