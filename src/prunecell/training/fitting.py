"""fit(): one training loop that reads from top to bottom and can be killed anywhere.

Everything that training depends on is in the checkpoint or a pure function of the epoch, so a run that was killed and
resumed ends with the same bits as one that was not (one thread, CPU).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prunecell.checks import check_count
from prunecell.choices import by_name
from prunecell.errors import DivergedError
from prunecell.report.facts import Report, WeightFacts
from prunecell.training.accuracy import Batches, Metric, evaluate
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.given import batches_of, check_fit, check_loss, check_task
from prunecell.training.progress import Epoch, Progress

NOTED_EVERY = 10
"""Steps from one look at the sparsity to the next, because a Quantizer's goes over all weights."""

NOTED_CHANGE = 0.001
"""A smaller change of the sparsity within an epoch is noted at its end only."""


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
        model: gives what the loss takes, and the metric.
        optimizer: of its parameters.
        train: epoch number (from 0) -> its batches: the same batches whenever it is asked for the same epoch.
        validation: -> the batches on which each epoch ends; None: none.
        loss: (outputs, labels) -> a scalar.
        metric: (model, batches) -> a number, measured on the validation batches; see `evaluate`.
        keeper: a Pruner or a Quantizer of the model, attached to the optimizer; None trains densely.
        scheduler: of the optimizer's learning rates, which is stepped after every step of the optimizer.
        beside: name -> what else has a state_dict and belongs to the run: a log, say.

    Raises:
        OptionTypeError: one of them is of another kind.
    """

    model: nn.Module
    optimizer: Optimizer
    train: Callable[[int], Batches]
    validation: Callable[[], Batches] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    metric: Metric = evaluate
    keeper: Keeper | None = None
    scheduler: LRScheduler | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_task(vars(self))

    def parts(self) -> dict[str, Any]:
        """All that has a state_dict."""
        own = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "keeper": self.keeper}
        parts = {**self.beside, **own}
        return {name: part for name, part in parts.items() if part is not None}


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
        OptionError, OptionTypeError: the metric is accuracy, and the first validation batch is not of a classifier; or
            a batch is no pair, there is none, or the loss is no number that can be learned from.
        DivergedError: the loss is NaN or infinite; the checkpoint is of before.
    """
    check_fit(task, Task, checkpoint, watch)
    check_count("epochs", epochs)
    progress = Progress()
    parts = task.parts() | {"progress": progress}
    resumed = checkpoint is not None and checkpoint.load(parts)
    if epochs and not resumed:
        _check_validation(task)
    if task.keeper is not None and not progress.sparsity:
        progress.note_sparsity(task.keeper.sparsity)
    while len(progress.epochs) < epochs:
        _finish_epoch(task, progress, checkpoint, parts, watch)
        if checkpoint is not None:
            checkpoint.save(parts)
        if watch is not None:
            watch(progress)
    return progress


def _check_validation(task: Task) -> None:
    """Try the first validation batch, because an epoch would be lost where accuracy does not fit it."""
    if task.validation is None or task.metric is not evaluate:
        return
    random = torch.get_rng_state()
    try:
        evaluate(task.model, islice(task.validation(), 1))
    finally:
        torch.set_rng_state(random)


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
    for inputs, labels in islice(batches_of(task.train, len(progress.epochs)), progress.steps, None):
        task.optimizer.zero_grad()
        loss = check_loss(task.loss(task.model(inputs), labels), task.model)
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        task.optimizer.step()
        if task.scheduler is not None:
            task.scheduler.step()
        progress.steps += 1
        progress.samples += len(labels)
        progress.total_samples += len(labels)
        progress.loss_sum += loss.item() * len(labels)
        if not math.isfinite(progress.loss_sum):
            raise DivergedError(
                f"the loss is {loss.item()} in epoch {len(progress.epochs) + 1}: try a smaller learning rate"
            )
        progress.seconds = time.perf_counter() - started
        if task.keeper is not None:
            task.keeper.step(len(labels))
            if progress.steps % NOTED_EVERY == 0:
                progress.note_sparsity(task.keeper.sparsity, least=NOTED_CHANGE)
        if watch is not None:
            watch(progress)
        if checkpoint is not None and checkpoint.due:
            checkpoint.save(parts)
    accuracy = None if task.validation is None else float(task.metric(task.model, task.validation()))
    sparsity = 0.0 if task.keeper is None else task.keeper.sparsity
    if task.keeper is not None:
        progress.note_sparsity(sparsity)
    progress.epochs.append(
        Epoch(
            number=len(progress.epochs) + 1,
            loss=progress.loss_sum / max(progress.samples, 1),
            accuracy=accuracy,
            sparsity=sparsity,
            target_sparsity=None if task.keeper is None else _asked_for(task.keeper.report().weights),
            seconds=time.perf_counter() - started,
        )
    )
    progress.steps = progress.samples = 0
    progress.loss_sum = progress.seconds = 0.0


def _asked_for(weights: Sequence[WeightFacts]) -> float | None:
    """The mean of the sparsities that schedules asked for; None where none did."""
    asked = [(w.target_sparsity, w.n_weights) for w in weights if w.target_sparsity is not None]
    return sum(sparsity * n for sparsity, n in asked) / max(sum(n for _, n in asked), 1) if asked else None
