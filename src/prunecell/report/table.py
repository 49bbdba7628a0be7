"""How facts are printed: a table with a total, and notes below it. Figures are never cut, and names in the middle."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group
from rich.text import Text

from prunecell.console.terminal import DOTS, encodable, padded, shortened, terminal_width, visible

Column = tuple[str, Sequence[str], str]
"""(title, the cells, the total); what is empty is printed as a dash."""

_UNLIMITED = 100_000


def rendered(columns: Sequence[Column], notes: Sequence[str], *, caption: str, n_words: int = 2) -> Group:
    """The table, and its notes a line each.

    Args:
        columns: the first has the names.
        notes: in plain words.
        caption: a line below the table.
        n_words: the first so many columns hold words, which stand to the left; the others figures, to the right.
    """
    cleaned = tuple(
        (visible(title), tuple(visible(cell) or "-" for cell in cells), visible(total) or "-")
        for title, cells, total in columns
    )
    return Group(_Table(cleaned, visible(caption), n_words), *(Text(visible(note)) for note in notes))


def plain(group: Group) -> str:
    """The same as plain text: as wide as the terminal, or as it needs where it goes to a file or a pipe."""
    out = StringIO()
    Console(file=out, width=terminal_width() or _UNLIMITED, color_system=None).print(group, crop=False)
    return encodable(out.getvalue().rstrip())


@dataclass(frozen=True)
class _Table:
    columns: tuple[tuple[str, tuple[str, ...], str], ...]
    caption: str
    n_words: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Lay it out for the width of a console."""
        head, *lines = self._lines(options.max_width, "~" if options.ascii_only else DOTS)
        for line, style in ((head, "bold"), *((line, "") for line in lines)):
            yield Text(line, style, no_wrap=True, overflow="ignore")
        yield Text(self.caption)

    def _lines(self, width: int, dots: str) -> list[str]:
        """The title, the rows and the totals, with rules between them."""
        rows = [
            tuple(title for title, _, _ in self.columns),
            *zip(*(cells for _, cells, _ in self.columns), strict=True),
            tuple(total for _, _, total in self.columns),
        ]
        head, *lines, total = self._laid_out(rows, width, dots)
        rule = "-" * min(max(cell_len(line) for row in (head, *lines, total) for line in row.split("\n")), width)
        return [head, rule, *lines, rule, total]

    def _laid_out(self, rows: list[tuple[str, ...]], width: int, dots: str) -> list[str]:
        """One line a row, if need be with shorter names; where those would be too short, the name above its figures."""
        names = [row[0] for row in rows]
        longest = max(map(cell_len, names))
        for gap, shortest in ("  ", longest), (" ", longest), (" ", 0):
            figures = self._figures(rows, gap)
            room = width - max(map(cell_len, figures)) - len(gap)
            if room >= shortest and (short := shortened(names, room, dots)):
                taken = max(map(cell_len, short))
                return [f"{padded(name, taken)}{gap}{row}" for name, row in zip(short, figures, strict=True)]
        above = shortened(names, width, dots) or names
        return [f"{name}\n  {row}" for name, row in zip(above, figures, strict=True)]

    def _figures(self, rows: list[tuple[str, ...]], gap: str) -> list[str]:
        """All columns but the first, of one width each."""
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        return [
            gap.join(
                padded(cell, widths[at]) if at < self.n_words else " " * (widths[at] - cell_len(cell)) + cell
                for at, cell in enumerate(row)
                if at
            )
            for row in rows
        ]
