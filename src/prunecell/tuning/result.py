"""What a search found."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from prunecell.tuning.layers import Sensitivity
from prunecell.tuning.trials import Trial, best_of, pareto


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The smallest file within the allowance, and all that was tried.

    Attributes:
        model: the one in the file, with dense weights, in evaluation mode.
        path: the file.
        trials: in their order; the first is the dense model.
        dense_bytes: of the dense model's state_dict, as torch writes it.
        least: the quality that is enough.
        sensitivity: of the dense model's layers.
    """

    model: nn.Module
    path: Path
    trials: tuple[Trial, ...]
    dense_bytes: int
    least: float
    sensitivity: Sensitivity

    @property
    def best(self) -> Trial:
        """The trial whose file it is."""
        return best_of(self.trials)

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """The trials that no other beats in bytes without losing quality, the smallest file first."""
        return pareto(self.trials)

    @property
    def recipe(self) -> str:
        """Python text that makes this model of the dense one, bit for bit; it needs a `model` and a `train` loader."""
        return self.best.recipe

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense state_dict."""
        return self.dense_bytes / (self.best.n_bytes or self.dense_bytes)

    def __str__(self) -> str:
        """One line."""
        best = self.best
        return (
            f"{self.path}: {best.n_bytes:,} bytes, {self.ratio:.1f} x smaller, by trial {best.number} ({best.strategy})"
        )
