"""The table of a report: one row a weight, the total, and why other parameters are left alone."""

from collections.abc import Sequence
from io import StringIO
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text


class Row(Protocol):
    """What a row tells of one weight; `prunecell.report.facts.WeightFacts` says what it means."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def n_weights(self) -> int: ...  # noqa: D102
    @property
    def n_kept(self) -> int: ...  # noqa: D102
    @property
    def sparsity(self) -> float: ...  # noqa: D102
    @property
    def bytes_dense(self) -> int: ...  # noqa: D102
    @property
    def bytes_stored(self) -> int | None: ...  # noqa: D102


class Facts(Protocol):
    """What the table tells; `prunecell.report.facts.Report` says what it means."""

    @property
    def weights(self) -> Sequence[Row]: ...  # noqa: D102
    @property
    def skipped(self) -> Sequence[tuple[str, str]]: ...  # noqa: D102
    @property
    def n_weights(self) -> int: ...  # noqa: D102
    @property
    def n_kept(self) -> int: ...  # noqa: D102
    @property
    def sparsity(self) -> float: ...  # noqa: D102


def rendered(facts: Facts) -> Group:
    """The table, and one line for each reason to leave parameters alone."""
    reasons: dict[str, list[str]] = {}
    for name, reason in facts.skipped:
        reasons.setdefault(reason, []).append(name)
    lines = (Text(f"not pruned ({reason}): {_some(names)}") for reason, names in reasons.items())
    return Group(_table(facts), *lines)


def plain(facts: Facts) -> str:
    """The same as plain text."""
    out = StringIO()
    Console(file=out, width=120).print(rendered(facts))
    return out.getvalue().rstrip()


def _table(facts: Facts) -> Table:
    weights = facts.weights
    stored = any(w.bytes_stored is not None for w in weights)
    table = Table(
        "weight",
        "shape",
        caption="dense, stored: bytes" if stored else "dense: bytes",
        caption_justify="left",
        show_footer=True,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.columns[0].footer = "total"
    table.columns[0].no_wrap = True
    weights = facts.weights
    columns = [
        ("weights", [f"{w.n_weights:,}" for w in weights], f"{facts.n_weights:,}"),
        ("kept", [f"{w.n_kept:,}" for w in weights], f"{facts.n_kept:,}"),
        ("sparsity", [f"{w.sparsity:.2%}" for w in weights], f"{facts.sparsity:.2%}"),
        ("dense", [f"{w.bytes_dense:,}" for w in weights], f"{sum(w.bytes_dense for w in weights):,}"),
    ]
    if stored:
        total = sum(w.bytes_stored or 0 for w in weights)
        columns.append(("stored", [f"{w.bytes_stored or 0:,}" for w in weights], f"{total:,}"))
    for title, _, footer in columns:
        table.add_column(title, footer, justify="right")
    for row, weight in enumerate(weights):
        table.add_row(weight.name, "x".join(map(str, weight.shape)), *(cells[row] for _, cells, _ in columns))
    return table


def _some(names: list[str]) -> str:
    """At most a line's worth of names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")  # noqa: PLR2004
