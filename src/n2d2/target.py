"""Targets: the loss and the success of a network's output against the provider's labels."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from n2d2.cells.cell import Cell
from n2d2.error_handler import WrongInputType
from n2d2.fields import Declared, accepted, count, number
from n2d2.summary import summary_of
from n2d2.tensor import Tensor
from prunecell.disk.atomic import replacing
from prunecell.errors import StateError, quoted
from prunecell.kinds import COUNT, REAL, Kind, check_fields
from prunecell.report.picture import can_draw

IGNORED = -1
"""The label of a stimulus that counts for nothing."""

MAX_WRITTEN = 20
"""Up to so many classes the numbers stand in the picture of a confusion matrix."""


def squared_error(
    scores: torch.Tensor, labels: torch.Tensor, *, target_value: float = 1.0, default_value: float = 0.0
) -> torch.Tensor:
    """Half the squared distance to `target_value` at the label and `default_value` elsewhere, averaged over the batch.

    Its gradient is score - target, which N2D2 propagates.

    Args:
        scores: (batch, classes, ...).
        labels: int64 (batch,).
        target_value: wanted at the label.
        default_value: wanted elsewhere.
    """
    flat = scores.flatten(1)
    wanted = torch.full_like(flat, default_value)
    known = labels != IGNORED
    wanted[known] = wanted[known].scatter(1, labels[known, None], target_value)
    return ((flat - wanted) ** 2)[known].sum() / (2 * max(int(known.sum()), 1))


@dataclass
class _Tally:
    """What was counted on one partition since the last `clear_success`."""

    right: int = 0
    seen: int = 0
    loss_sum: float = 0.0
    batches: int = 0
    confusion: torch.Tensor | None = None


def _is_confusion(value: object) -> bool:
    is_matrix = isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.ndim == 2  # noqa: PLR2004
    return value is None or (is_matrix and value.shape[0] == value.shape[1])  # type: ignore[attr-defined]


_TALLY = {
    "right": COUNT,
    "seen": COUNT,
    "loss_sum": REAL,
    "batches": COUNT,
    "confusion": Kind(told="a square matrix of int64, or None", fits=_is_confusion),
}


class _Options(Declared):
    """The options of a Score."""

    top_n: int = count(1, low=1)
    target_value: float = number(1.0, low=float("-inf"))
    default_value: float = number(0.0, low=float("-inf"))
    data_as_target: Any = accepted(default=False)
    no_display_label: Any = accepted()


class Score:
    """Cross-entropy where the output comes from a Softmax with loss, else `squared_error`; and the top-N success.

    Args:
        provider: gives the `labels` of the batch.
        options: top_n (a label among the N highest scores is right), target_value, default_value.

    Called with the output of a network, it returns the loss, for `back_propagate()` and `update()`.
    """

    def __init__(self, provider: Any, name: str = "Target", **options: Any) -> None:  # noqa: ANN401
        self.provider, self.name, self.options = provider, name, _Options(**options)
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
        self.losses: list[float] = []
        self._last_loss = float("nan")
        self._cells: tuple[Cell, ...] = ()

    def __call__(self, output: Tensor) -> Tensor:
        """The loss of the batch that the provider read last, as a tensor of one value."""
        if not isinstance(output, Tensor):
            raise WrongInputType(f"a Target takes the n2d2.Tensor of a network, not a {type(output).__name__}")
        labels = self.provider.labels.to(output.values.device)
        scores = output.values.reshape(len(output.values), -1)
        loss = self._loss_of(output, scores, labels)
        self.count(scores.detach(), labels, loss.item())
        self._cells = tuple(cell for cell in output.trace.cells if isinstance(cell, Cell))
        made = Tensor.from_torch(loss)
        made.trace = output.trace
        return made

    def _loss_of(self, output: Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if output.logits is not None:
            return F.cross_entropy(output.logits.flatten(1), labels, ignore_index=IGNORED)
        options = self.options
        return squared_error(scores, labels, target_value=options.target_value, default_value=options.default_value)

    def count(self, scores: torch.Tensor, labels: torch.Tensor, loss: float = float("nan")) -> None:
        """Count a batch in the provider's current partition: scores (n, classes, ...), int64 labels (n,)."""
        scores = scores.flatten(1)
        self._last_loss = loss
        if self._partition() == "Learn":
            self.losses.append(loss)
        tally = self._tallies[self._partition()]
        known = labels != IGNORED
        scores, labels = scores[known], labels[known]
        best = scores.topk(min(self.options.top_n, scores.shape[1]), 1).indices
        tally.right += int((best == labels[:, None]).any(1).sum())
        tally.seen += len(labels)
        tally.loss_sum += loss
        tally.batches += 1
        n = scores.shape[1]
        if tally.confusion is None:
            tally.confusion = torch.zeros(n, n, dtype=torch.int64)
        cells = (labels * n + best[:, 0]).cpu()
        if tally.confusion.shape != (n, n):
            raise StateError(f"{self.name}: {n} outputs are counted, and {len(tally.confusion)} were counted before")
        tally.confusion += torch.bincount(cells, minlength=n * n).view(n, n)

    def _partition(self) -> str:
        return str(getattr(self.provider, "partition", "Learn"))

    def loss(self) -> float:
        """The loss of the last batch."""
        return self._last_loss

    def average_loss(self) -> float:
        """The mean loss of the batches since the last `clear_success`, in the current partition."""
        tally = self._tallies[self._partition()]
        return tally.loss_sum / tally.batches if tally.batches else float("nan")

    def get_average_success(self) -> float:
        """The fraction of right stimuli since the last `clear_success`, in the current partition; in [0, 1]."""
        tally = self._tallies[self._partition()]
        return tally.right / max(tally.seen, 1)

    def clear_success(self, partition: str | None = None) -> None:
        """Begin to count anew, in all partitions or in one."""
        for name in [partition] if partition else list(self._tallies):
            self._tallies.pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """What was counted since the last `clear_success`, for `load_state_dict`."""
        return {partition: vars(tally).copy() for partition, tally in self._tallies.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from a `state_dict`.

        Raises:
            StateError: it is none of a target; nothing was changed.
        """
        if not isinstance(state, dict) or not all(isinstance(partition, str) for partition in state):
            raise StateError("the state of a target must map partitions to what was counted")
        tallies = {
            partition: _Tally(**check_fields(tally, _TALLY, f"partition {quoted(partition)} of the target"))
            for partition, tally in state.items()
        }
        self._tallies.clear()
        self._tallies.update(tallies)

    def get_confusion_matrix(self) -> np.ndarray[Any, Any]:
        """Stimuli of each label (rows) that were taken for each label (columns), in the current partition."""
        confusion = self._tallies[self._partition()].confusion
        return np.zeros((0, 0), np.int64) if confusion is None else confusion.numpy()

    def log_confusion_matrix(self, path: str | Path) -> None:
        """Draw the confusion matrix of the current partition as `path`.png; its numbers go to `path`.dat."""
        matrix = self.get_confusion_matrix()
        _write(path, matrix, "%d")
        if not can_draw():
            return
        from matplotlib.colors import PowerNorm  # noqa: PLC0415 - slow, and wanted only for pictures

        figure, axes = _figure()
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.3, 0, 1))  # so that rare errors are seen
        if len(matrix) <= MAX_WRITTEN:
            for (label, estimated), n in np.ndenumerate(matrix):
                color = "white" if 2 * shares[label, estimated] > 1 else "black"
                axes.text(estimated, label, str(n), ha="center", va="center", fontsize=7, color=color)
        axes.set(xlabel="estimated", ylabel="label", title=f"{self._partition()}: {self.get_average_success():.2%}")
        with replacing(Path(f"{path}.png")) as file:
            figure.savefig(file, format="png", dpi=130)

    def log_stats(self, path: str | Path) -> None:
        """Write the table of the cells that made the last output, as `summary()` prints it, to `path`.log."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(Path(f"{path}.log")) as file:
            file.write(f"{summary_of(self._cells)}\n".encode())

    def log_success(self, path: str | Path) -> None:
        """Draw the loss of every batch that was learned as `path`.png; the numbers go to `path`.dat."""
        _write(path, np.array(self.losses), "%.6g")
        if not can_draw():
            return
        figure, axes = _figure()
        axes.plot(self.losses)
        axes.set(xlabel="mini-batch", ylabel="loss", title=f"{self._partition()}: {self.get_average_success():.2%}")
        with replacing(Path(f"{path}.png")) as file:
            figure.savefig(file, format="png", dpi=130)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow, and wanted only for pictures
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _write(path: str | Path, numbers: np.ndarray[Any, Any], fmt: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(f"{path}.dat")) as file:
        np.savetxt(file, numbers, fmt=fmt)
