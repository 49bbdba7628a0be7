"""How a report is printed: a table with a total, and notes below it."""

from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

Column = tuple[str, Sequence[str], str]
"""(title, the cells, the total)."""

_WORDS = 2
"""The first columns are names and shapes; the others are numbers, which stand to the right."""


def rendered(columns: Sequence[Column], notes: Sequence[str], *, caption: str) -> Group:
    """The table, and its notes a line each."""
    table = Table(caption=caption, caption_justify="left", show_footer=True, box=SIMPLE_HEAD, pad_edge=False)
    for number, (title, _, total) in enumerate(columns):
        table.add_column(title, total, justify="left" if number < _WORDS else "right", no_wrap=number == 0)
    for row in zip(*(cells for _, cells, _ in columns), strict=True):
        table.add_row(*row)
    return Group(table, *map(Text, notes))


def plain(group: Group) -> str:
    """The same as plain text."""
    out = StringIO()
    Console(file=out, width=120).print(group)
    return out.getvalue().rstrip()
