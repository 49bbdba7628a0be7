"""The facts of a pruned model; they print as a table, and give JSON."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group


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
        return 1 - self.n_kept / max(self.n_weights, 1)


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
        return 1 - self.n_kept / max(self.n_weights, 1)

    def to_json(self) -> str:
        """All facts, readable by machines."""
        return json.dumps(asdict(self) | {"sparsity": self.sparsity}, indent=1)

    def __rich__(self) -> "Group":
        """One row a weight, and one line for each reason to leave parameters alone."""
        from prunecell.report.table import rendered  # noqa: PLC0415 - rich takes 20 ms, which only a printed report needs

        return rendered(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from prunecell.report.table import plain  # noqa: PLC0415

        return plain(self)
