"""The facts of a pruned model, as a table or as JSON."""

import json
from dataclasses import asdict, dataclass
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """One pruned weight.

    Attributes:
        target_sparsity: what the schedule asked for.
        bytes_dense: what it takes as a dense tensor.
        bytes_stored: what it takes in the archive, or None where none was written.
    """

    name: str
    shape: tuple[int, ...]
    n_weights: int
    n_kept: int
    target_sparsity: float
    filler: str
    schedule: str
    bytes_dense: int
    bytes_stored: int | None = None

    @property
    def sparsity(self) -> float:
        """The fraction that is pruned."""
        return 1 - self.n_kept / self.n_weights


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was pruned, and what was left alone and why.

    Attributes:
        weights: in the model's order.
        skipped: (parameter name, reason).
    """

    weights: tuple[WeightFacts, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def n_weights(self) -> int:
        """Prunable weights, pruned or not."""
        return sum(w.n_weights for w in self.weights)

    @property
    def n_kept(self) -> int:
        """Those that live."""
        return sum(w.n_kept for w in self.weights)

    @property
    def sparsity(self) -> float:
        """The fraction of the prunable weights that is pruned."""
        return 1 - self.n_kept / self.n_weights

    def to_json(self) -> str:
        """All facts, readable by machines."""
        return json.dumps(asdict(self) | {"sparsity": self.sparsity}, indent=1)

    def table(self) -> Table:
        """One row a weight, then the total."""
        stored = any(w.bytes_stored is not None for w in self.weights)
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
            ("weights", [f"{w.n_weights:,}" for w in self.weights], f"{self.n_weights:,}"),
            ("kept", [f"{w.n_kept:,}" for w in self.weights], f"{self.n_kept:,}"),
            ("sparsity", [f"{w.sparsity:.2%}" for w in self.weights], f"{self.sparsity:.2%}"),
            (
                "dense",
                [f"{w.bytes_dense:,}" for w in self.weights],
                f"{sum(w.bytes_dense for w in self.weights):,}",
            ),
        ]
        if stored:
            total = sum(w.bytes_stored or 0 for w in self.weights)
            columns.append(("stored", [f"{w.bytes_stored or 0:,}" for w in self.weights], f"{total:,}"))
        for title, _, footer in columns:
            table.add_column(title, footer, justify="right")
        for row, weight in enumerate(self.weights):
            shape = "x".join(map(str, weight.shape))
            table.add_row(weight.name, shape, *(cells[row] for _, cells, _ in columns))
        return table

    def __rich__(self) -> Group:
        """The table, and one line for each reason to leave parameters alone."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            reasons.setdefault(reason, []).append(name)
        return Group(
            self.table(), *(Text(f"not pruned ({reason}): {_some(names)}") for reason, names in reasons.items())
        )

    def __str__(self) -> str:
        """The same as plain text."""
        out = StringIO()
        Console(file=out, width=120).print(self)
        return out.getvalue().rstrip()


def _some(names: list[str]) -> str:
    """At most a line's worth of names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")  # noqa: PLR2004
