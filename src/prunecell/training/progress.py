"""Progress: where a run is, and the facts of its epochs."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from prunecell.errors import StateError
from prunecell.kinds import COUNT, LIST, NUMBER, REAL, SHARE, SPAN, check_fields, optional


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The facts of one epoch.

    Attributes:
        number: from 1.
        loss: the mean over its training samples.
        accuracy: on the validation samples, in [0, 1], or what the task's metric gave; None without any.
        sparsity: of the pruned or quantized weights, at its end; target_sparsity: what their schedules asked for by
            then, as a mean over all these weights; None where no schedule asks for one.
        seconds: wall clock, validation included.
    """

    number: int
    loss: float
    accuracy: float | None
    sparsity: float
    target_sparsity: float | None
    seconds: float


_EPOCH = {
    "number": COUNT,
    "loss": NUMBER,
    "accuracy": optional(REAL),
    "sparsity": SHARE,
    "target_sparsity": optional(SHARE),
    "seconds": SPAN,
}
_PROGRESS = {
    "epochs": LIST,
    "steps": COUNT,
    "samples": COUNT,
    "loss_sum": NUMBER,
    "seconds": SPAN,
    "total_samples": COUNT,
    "sparsity": LIST,
}
_CHANGE = {"samples": COUNT, "sparsity": SHARE}


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        epochs: the facts of those that ended.
        steps, samples, loss_sum, seconds: of the one that runs.
        sparsity: (samples seen since the beginning, sparsity): at the beginning, within an epoch where it has changed
            by 0.001 at least, and at the end of each epoch that changed it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    total_samples: int = 0
    sparsity: list[tuple[int, float]] = field(default_factory=list)

    def __str__(self) -> str:
        """One line, of the last epoch."""
        ended = f"{len(self.epochs)} epoch{'s' * (len(self.epochs) != 1)}, {self.total_samples:,} samples"
        if not self.epochs:
            return ended
        last = self.epochs[-1]
        accuracy = "" if last.accuracy is None else f", accuracy {last.accuracy:.4f}"
        return f"{ended}: loss {last.loss:.4f}{accuracy}, sparsity {last.sparsity:.2%}"

    def state_dict(self) -> dict[str, Any]:
        """Numbers only."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be where the state was taken.

        Raises:
            StateError: it is no state of a progress; nothing was changed.
        """
        check_fields(state, _PROGRESS, "the progress")
        epochs = [Epoch(**check_fields(epoch, _EPOCH, f"epoch {n}")) for n, epoch in enumerate(state["epochs"], 1)]
        changes = [tuple(change) if isinstance(change, list | tuple) else () for change in state["sparsity"]]
        if not all(len(change) == len(_CHANGE) for change in changes):
            raise StateError("sparsity of the progress is illegal: it must be pairs of samples and sparsity")
        for change in changes:
            check_fields(dict(zip(_CHANGE, change, strict=True)), _CHANGE, "a change of sparsity")
        vars(self).update(state, epochs=epochs, sparsity=changes)

    def note_sparsity(self, sparsity: float, *, least: float = 0.0) -> None:
        """Remember a change of sparsity, if it is one, and at least so large."""
        change = abs(sparsity - self.sparsity[-1][1]) if self.sparsity else math.inf
        if change and change >= least:
            self.sparsity.append((self.total_samples, sparsity))
