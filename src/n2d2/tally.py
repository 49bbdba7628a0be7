"""What a target counts: which stimuli are right, and what is taken for what."""

from dataclasses import dataclass

import torch

from n2d2.error_handler import WrongValue
from prunecell.errors import StateError
from prunecell.kinds import COUNT, REAL, Kind

IGNORED = -1
"""The label of a stimulus that counts for nothing."""


def squared_error(
    scores: torch.Tensor, labels: torch.Tensor, *, target_value: float = 1.0, default_value: float = 0.0
) -> torch.Tensor:
    """Half the squared distance to `target_value` at the label and `default_value` elsewhere, averaged over the batch.

    Its gradient is score - target, which N2D2 propagates. A single output stands for the label 1.

    Args:
        scores: (batch, classes, ...).
        labels: int64 (batch,).
        target_value: wanted at the label.
        default_value: wanted elsewhere.
    """
    flat = scores.flatten(1)
    known = labels != IGNORED
    classes = torch.arange(flat.shape[1], device=flat.device) + (flat.shape[1] == 1)
    wanted = torch.where(labels[:, None] == classes, target_value, default_value).to(flat.dtype)
    return ((flat - wanted) ** 2)[known].sum() / (2 * max(int(known.sum()), 1))


def of_classes(scores: torch.Tensor, binary_threshold: float) -> torch.Tensor:
    """Scores (n, classes) of two classes at least: a single one becomes class 1, where it is above the threshold."""
    return torch.cat([torch.zeros_like(scores), scores - binary_threshold], 1) if scores.shape[1] == 1 else scores


def check_batch(name: str, scores: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse labels that do not fit the output.

    Raises:
        WrongValue: they are of another batch, or one has no output.
    """
    if len(scores) != len(labels):
        raise WrongValue(
            f"{name} got the output of {len(scores)} stimuli, and its provider gave {len(labels)} labels last"
            ": call it with the output of the batch that was read last"
        )
    n = max(scores.shape[1], 2)  # a single output tells two classes apart
    highest, lowest = (int(labels.max()), int(labels.min())) if len(labels) else (0, 0)
    if highest >= n or lowest < IGNORED:
        wrong = highest if highest >= n else lowest
        raise WrongValue(f"{name} got the label {wrong}: the network has outputs for the labels 0 to {n - 1}")


@dataclass
class Tally:
    """What was counted on one partition since it was cleared.

    Attributes:
        right, right_top_n: stimuli whose label has the highest score, or one of the N highest.
        seen: all with a label.
        loss_sum: the sum of their losses.
        confusion: int64 (classes, classes): stimuli of each label (rows) taken for each label (columns).
    """

    right: int = 0
    right_top_n: int = 0
    seen: int = 0
    loss_sum: float = 0.0
    confusion: torch.Tensor | None = None

    def add(self, scores: torch.Tensor, labels: torch.Tensor, *, top_n: int) -> tuple[int, int, int]:
        """Count a batch; return what it adds to right, right_top_n and seen.

        Args:
            scores: (batch, classes), two at least.
            labels: int64 (batch,).
            top_n: <= classes.
        """
        n = scores.shape[1]
        if self.confusion is None:
            self.confusion = torch.zeros(n, n, dtype=torch.int64)
        if self.confusion.shape != (n, n):
            raise StateError(f"{n} outputs are counted, and {len(self.confusion)} were counted before")
        known = labels != IGNORED
        scores, labels = scores[known], labels[known]
        best = scores.topk(top_n, 1).indices
        hits = best == labels[:, None]
        added = int(hits[:, 0].sum()), int(hits.any(1).sum()), len(labels)
        self.right, self.right_top_n, self.seen = (
            self.right + added[0],
            self.right_top_n + added[1],
            self.seen + added[2],
        )
        self.confusion += torch.bincount((labels * n + best[:, 0]).cpu(), minlength=n * n).view(n, n)
        return added


def _is_confusion(value: object) -> bool:
    if not isinstance(value, torch.Tensor):
        return value is None
    return value.dtype == torch.int64 and value.ndim == 2 and value.shape[0] == value.shape[1]  # noqa: PLR2004 - a square


TALLY = {
    "right": COUNT,
    "right_top_n": COUNT,
    "seen": COUNT,
    "loss_sum": REAL,
    "confusion": Kind(told="a square matrix of int64, or None", fits=_is_confusion),
}
"""What a saved one holds."""
