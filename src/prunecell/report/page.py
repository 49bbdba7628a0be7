"""A report as it is printed."""

from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from prunecell.report.facts import Report


def page(report: Report) -> Group:
    """The table, and one line for each reason to leave parameters alone."""
    reasons: dict[str, list[str]] = {}
    for name, reason in report.skipped:
        reasons.setdefault(reason, []).append(name)
    lines = (Text(f"not pruned ({reason}): {_some(names)}") for reason, names in reasons.items())
    return Group(_table(report), *lines)


def text(report: Report) -> str:
    """The same as plain text."""
    out = StringIO()
    Console(file=out, width=120).print(page(report))
    return out.getvalue().rstrip()


def _table(report: Report) -> Table:
    """One row a weight, then the total."""
    stored = any(w.bytes_stored is not None for w in report.weights)
    table = Table(
        "weight",
        "shape",
        caption="dense, stored: bytes",
        caption_justify="left",
        show_footer=True,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.columns[0].footer = "total"
    table.columns[0].no_wrap = True
    columns = [
        ("weights", [f"{w.n_weights:,}" for w in report.weights], f"{report.n_weights:,}"),
        ("kept", [f"{w.n_kept:,}" for w in report.weights], f"{report.n_kept:,}"),
        ("sparsity", [f"{w.sparsity:.2%}" for w in report.weights], f"{report.sparsity:.2%}"),
        (
            "dense",
            [f"{w.bytes_dense:,}" for w in report.weights],
            f"{sum(w.bytes_dense for w in report.weights):,}",
        ),
    ]
    if stored:
        total = sum(w.bytes_stored or 0 for w in report.weights)
        columns.append(("stored", [f"{w.bytes_stored or 0:,}" for w in report.weights], f"{total:,}"))
    for title, _, footer in columns:
        table.add_column(title, footer, justify="right")
    for row, weight in enumerate(report.weights):
        shape = "x".join(map(str, weight.shape))
        table.add_row(weight.name, shape, *(cells[row] for _, cells, _ in columns))
    return table


def _some(names: list[str]) -> str:
    """At most a line's worth of names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")  # noqa: PLR2004
