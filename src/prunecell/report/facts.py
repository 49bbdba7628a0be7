"""The facts of a pruned or quantized model; they print as a table, and give JSON."""

import json
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """One pruned or quantized weight.

    Attributes:
        target_sparsity: what the schedule asked for; None of a quantized weight, of which nobody asks for one.
        bytes_dense: what it takes as a dense tensor.
        bytes_stored: what it takes in the archive, or None where none was written.
        bytes_estimated: what its integers will take there, of a quantized weight.
        waits_for: what has to come before its mask can be filled; empty: nothing.
    """

    name: str
    shape: tuple[int, ...]
    n_weights: int
    n_kept: int
    target_sparsity: float | None
    filler: str
    schedule: str
    bytes_dense: int
    bytes_stored: int | None = None
    bytes_estimated: int | None = None
    waits_for: str = ""

    @property
    def sparsity(self) -> float:
        """The fraction that is pruned, or zero."""
        return (self.n_weights - self.n_kept) / max(self.n_weights, 1)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was pruned, or quantized, and what was left alone and why.

    Attributes:
        weights: in the model's order.
        n_parameters: numbers in all parameters of the model, those left alone too; what is shared (tied) counts once.
        done: "pruned" or "quantized".
        skipped: (parameter name, reason).
    """

    weights: tuple[WeightFacts, ...]
    n_parameters: int
    done: str = "pruned"
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def n_weights(self) -> int:
        """All numbers in these weights, zero or not."""
        return sum(w.n_weights for w in self.weights)

    @property
    def n_kept(self) -> int:
        """Those that live."""
        return sum(w.n_kept for w in self.weights)

    @property
    def sparsity(self) -> float:
        """The fraction of these weights that is pruned, or zero."""
        return (self.n_weights - self.n_kept) / max(self.n_weights, 1)

    @property
    def model_sparsity(self) -> float:
        """The same as a fraction of all parameters of the model: never more than `sparsity`."""
        return (self.n_weights - self.n_kept) / max(self.n_parameters, 1)

    def to_dict(self) -> dict[str, Any]:
        """All facts, and the two sparsities that follow from them, as JSON takes them."""
        return asdict(self) | {"sparsity": self.sparsity, "model_sparsity": self.model_sparsity}

    def to_json(self) -> str:
        """All facts, readable by machines."""
        return json.dumps(self.to_dict(), indent=1)

    def columns(self) -> list[tuple[str, list[str], str]]:
        """What is printed of the weights: (title, one cell a weight, the total)."""
        weights = self.weights
        columns = [
            ("weight", [w.name for w in weights], "total"),
            ("shape", ["x".join(map(str, w.shape)) for w in weights], ""),
            ("weights", [f"{w.n_weights:,}" for w in weights], f"{self.n_weights:,}"),
            ("kept", [f"{w.n_kept:,}" for w in weights], f"{self.n_kept:,}"),
            ("sparsity", [f"{w.sparsity:.2%}" for w in weights], f"{self.sparsity:.2%}"),
            ("dense", [f"{w.bytes_dense:,}" for w in weights], f"{sum(w.bytes_dense for w in weights):,}"),
        ]
        for title, sizes in (
            ("estimated", [w.bytes_estimated for w in weights]),
            ("stored", [w.bytes_stored for w in weights]),
        ):
            if any(size is not None for size in sizes):
                columns.append((title, [f"{size or 0:,}" for size in sizes], f"{sum(size or 0 for size in sizes):,}"))
        return columns

    def notes(self) -> list[str]:
        """Lines on the whole model, on weights that are not connected, that wait, and that were left alone."""
        from prunecell.console.terminal import listed  # noqa: PLC0415 - as in __rich__

        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            reasons.setdefault(reason, []).append(name)
        whole = (
            f"whole model: {self.model_sparsity:.2%} sparse, {self.n_weights - self.n_kept:,} of"
            f" {self.n_parameters:,} parameters"
        )
        absent = [f"{prod(w.shape) - w.n_weights:,} of {w.name}" for w in self.weights if w.n_weights < prod(w.shape)]
        unconnected = [f"not connected, so not counted as weights: {listed(absent)}"] if absent else []
        waiting: dict[str, list[str]] = {}
        for w in self.weights:
            if w.waits_for:
                waiting.setdefault(w.waits_for, []).append(w.name)
        return [
            whole,
            *unconnected,
            *(f"waits for {what}: {listed(names)}" for what, names in waiting.items()),
            *(f"not {self.done} ({reason}): {listed(names)}" for reason, names in reasons.items()),
        ]

    def __rich__(self) -> "Group":
        """The columns as a table, and the notes."""
        from prunecell.report.table import rendered  # noqa: PLC0415 - rich takes 20 ms, which only a printed report needs

        columns = self.columns()
        in_bytes = ", ".join(title for title, _, _ in columns if title in {"dense", "estimated", "stored"})
        return rendered(columns, self.notes(), caption=f"{in_bytes}: bytes of these weights alone")

    def __str__(self) -> str:
        """The same as plain text."""
        from prunecell.report.table import plain  # noqa: PLC0415

        return plain(self.__rich__())
