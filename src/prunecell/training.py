"""fit() and evaluate(): one training loop that reads from top to bottom and can be killed anywhere.

Everything that training depends on is in the checkpoint or a pure function of the epoch, so a run that was killed and
resumed ends with the same bits as one that was not (one thread, CPU).
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from prunecell.checkpoint import Checkpoint
from prunecell.choices import by_name
from prunecell.errors import DivergedError, StateError, check_count
from prunecell.kinds import COUNT, LIST, NUMBER, SHARE, SPAN, check_fields, optional
from prunecell.report.facts import Report, WeightFacts

Batches = Iterable[tuple[Tensor, Tensor]]
"""(inputs, labels): inputs (n, ...), labels int64 (n,)."""


class Keeper(Protocol):
    """What keeps a model small while it trains: a Pruner or a Quantizer, attached to the optimizer."""

    @property
    def sparsity(self) -> float:
        """The fraction of its weights that is zero."""
        ...

    def step(self, n_samples: int) -> None:
        """Called after each step of the optimizer."""
        ...

    def report(self) -> Report:
        """The facts of every weight."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


@by_name("model", "optimizer", "train", example="Task(model=model, optimizer=optimizer, train=batches_of_epoch)")
@dataclass(kw_only=True)
class Task:
    """What is trained, and on what.

    Attributes:
        model: gives scores, (n, classes).
        optimizer: of its parameters.
        train: epoch number (from 0) -> its batches: the same batches whenever it is asked for the same epoch.
        validation: -> the batches on which each epoch ends; None: none.
        loss: (scores, labels) -> a scalar.
        pruner: a Pruner or a Quantizer of the model, attached to the optimizer; None trains densely.
        beside: name -> what else has a state_dict and belongs to the run: a log, say.
    """

    model: nn.Module
    optimizer: Optimizer
    train: Callable[[int], Batches]
    validation: Callable[[], Batches] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    pruner: Keeper | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, Any]:
        """All that has a state_dict."""
        parts = {**self.beside, "model": self.model, "optimizer": self.optimizer, "pruner": self.pruner}
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The facts of one epoch.

    Attributes:
        number: from 1.
        loss: the mean over its training samples.
        accuracy: on the validation samples, in [0, 1]; None without any.
        sparsity: of the prunable weights, at its end; target_sparsity: what their schedules asked for by then, as a
            mean over all these weights.
        seconds: wall clock, validation included.
    """

    number: int
    loss: float
    accuracy: float | None
    sparsity: float
    target_sparsity: float
    seconds: float


_EPOCH = {
    "number": COUNT,
    "loss": NUMBER,
    "accuracy": optional(SHARE),
    "sparsity": SHARE,
    "target_sparsity": SHARE,
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
        sparsity: (samples seen since the beginning, sparsity) at each change.
    """

    epochs: list[Epoch] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    total_samples: int = 0
    sparsity: list[tuple[int, float]] = field(default_factory=list)

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

    def note_sparsity(self, sparsity: float) -> None:
        """Remember a change of sparsity."""
        if not self.sparsity or self.sparsity[-1][1] != sparsity:
            self.sparsity.append((self.total_samples, sparsity))


def fit(
    task: Task,
    epochs: int,
    *,
    checkpoint: Checkpoint | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train for so many epochs, going on from the checkpoint if it is there.

    Args:
        task: what is trained.
        epochs: >= 0; those of the checkpoint count.
        checkpoint: where to write, and to go on from.
        watch: called after every step and after every epoch, with the progress so far; not to be changed.

    Returns:
        The progress at the end.

    Raises:
        DivergedError: the loss is NaN or infinite; the checkpoint is of before.
    """
    check_count("epochs", epochs)
    progress = Progress()
    parts = task.parts() | {"progress": progress}
    if checkpoint is not None:
        checkpoint.load(parts)
    if task.pruner is not None:
        progress.note_sparsity(task.pruner.sparsity)
    while len(progress.epochs) < epochs:
        _finish_epoch(task, progress, checkpoint, parts, watch)
        if checkpoint is not None:
            checkpoint.save(parts)
        if watch is not None:
            watch(progress)
    return progress


def _finish_epoch(
    task: Task,
    progress: Progress,
    checkpoint: Checkpoint | None,
    parts: dict[str, Any],
    watch: Callable[[Progress], None] | None,
) -> None:
    """Train on what is left of the epoch that runs, and write down its facts."""
    started = time.perf_counter() - progress.seconds
    task.model.train()
    for inputs, labels in islice(task.train(len(progress.epochs)), progress.steps, None):
        task.optimizer.zero_grad()
        loss = task.loss(task.model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        task.optimizer.step()
        progress.steps += 1
        progress.samples += len(labels)
        progress.total_samples += len(labels)
        progress.loss_sum += loss.item() * len(labels)
        if not math.isfinite(progress.loss_sum):
            raise DivergedError(
                f"the loss is {loss.item()} in epoch {len(progress.epochs) + 1}: try a smaller learning rate"
            )
        progress.seconds = time.perf_counter() - started
        if task.pruner is not None:
            task.pruner.step(len(labels))
            progress.note_sparsity(task.pruner.sparsity)
        if watch is not None:
            watch(progress)
        if checkpoint is not None and checkpoint.due:
            checkpoint.save(parts)
    accuracy = None if task.validation is None else evaluate(task.model, task.validation())
    progress.epochs.append(
        Epoch(
            number=len(progress.epochs) + 1,
            loss=progress.loss_sum / max(progress.samples, 1),
            accuracy=accuracy,
            sparsity=0.0 if task.pruner is None else task.pruner.sparsity,
            target_sparsity=0.0 if task.pruner is None else _asked_for(task.pruner.report().weights),
            seconds=time.perf_counter() - started,
        )
    )
    progress.steps = progress.samples = 0
    progress.loss_sum = progress.seconds = 0.0


def _asked_for(weights: Sequence[WeightFacts]) -> float:
    return sum(w.target_sparsity * w.n_weights for w in weights) / max(sum(w.n_weights for w in weights), 1)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> float:
    """The fraction of the samples whose highest score is at the label; the model is left in evaluation mode.

    Of a model that returns a list of outputs, the first is taken.

    >>> evaluate(nn.Identity(), [(torch.eye(4), torch.tensor([0, 1, 2, 0]))])
    0.75
    """
    model.eval()
    right = n = 0
    for inputs, labels in batches:
        made = model(inputs)
        scores = made[0] if isinstance(made, list | tuple) else made
        right += int((scores.flatten(1).argmax(1) == labels).sum())  # (n, classes, 1, 1) too
        n += len(labels)
    return right / max(n, 1)
