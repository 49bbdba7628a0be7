"""What the trials of a search share, and the training of one: stopped early, and resumed where it was killed."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task, fit
from prunecell.training.progress import Progress
from prunecell.tuning.loaders import Stream
from prunecell.tuning.quality import Judge, Loss, is_hopeless

_LATE = 0.75
"""The part of a trial's training after which it is stopped if it is hopeless."""

MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
"""(parameters, or groups of them) -> the optimizer."""


class Hopeless(Exception):  # noqa: N818 - no error: it ends the training of a trial
    """The model is so bad so late that the rest of the training is saved."""

    def __init__(self, quality: float) -> None:
        super().__init__(quality)
        self.quality = quality


class OutOfTime(Exception):  # noqa: N818 - no error: the search ends with what it has
    """The minutes are used up; the checkpoint stays, so that a longer search goes on from here."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all trials share.

    Attributes:
        model: dense, never changed.
        train: the training data.
        held_out: whether the validation data was taken from it.
        judge: measures a model.
        loss: see `Loss`.
        dense, least: the quality of the dense model, and the least that is enough.
        epochs: of each trial.
        make_optimizer: the optimizer of a trial.
        lr: its learning rate; None: the optimizer is the user's.
        seed: of the trials' random numbers.
    """

    model: nn.Module
    train: Stream
    held_out: bool
    judge: Judge
    loss: Loss
    dense: float
    least: float
    epochs: int
    make_optimizer: MakeOptimizer
    lr: float | None
    seed: int

    @property
    def n_steps(self) -> int:
        """Optimizer steps of one trial."""
        return self.epochs * self.train.n_batches

    @property
    def n_steps_told(self) -> str:
        """The same as Python text, for a loader called `train`."""
        return f"{self.epochs} * {'len(train)' if self.train.is_sized else self.train.n_batches}"

    @cached_property
    def example(self) -> Tensor:
        """One input of the model, (1, ...)."""
        inputs, _ = next(iter(self.train.epoch(0)))
        return inputs[:1]

    @property
    def n_weights(self) -> int:
        """Numbers in all parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def adam(lr: float) -> MakeOptimizer:
    """Make the optimizer that trials use by default."""
    return lambda parameters: Adam(parameters, lr=lr)


@dataclass(kw_only=True)
class Run:
    """The training of one trial, in phases that follow each other.

    Attributes:
        bench: what trials share.
        stem: the files of its checkpoints begin so.
        deadline: when the search must end, as `time.monotonic` counts.
        model: a copy of the dense model, which this trial changes.
    """

    bench: Bench
    stem: Path
    deadline: float
    model: nn.Module = field(init=False)
    _phases: int = field(default=0, init=False)
    _epochs: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.model = deepcopy(self.bench.model)
        torch.manual_seed(self.bench.seed)

    def train(
        self,
        optimizer: Optimizer,
        epochs: int,
        *,
        keeper: Any = None,  # noqa: ANN401 - a Pruner, or what is used like one
        beside: Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        """Train for so many epochs more, while the learning rates go down a half cosine over the whole trial.

        Whether a model is hopeless is asked between epochs, again where a search goes on there, so that it always ends
        alike.

        Raises:
            Hopeless: see there.
            OutOfTime: see there.
            DivergedError: the loss is NaN or infinite.
        """
        model = self.model if model is None else model
        first = self._epochs
        task = Task(
            model=model,
            optimizer=optimizer,
            train=lambda epoch: self.bench.train.epoch(first + epoch),
            loss=self.bench.loss,
            keeper=keeper,
            scheduler=self._slower(optimizer, first * self.bench.train.n_batches),
            beside=beside or {},
        )
        self._phases += 1
        checkpoint = Checkpoint(path=self.stem.with_name(f"{self.stem.name}-{self._phases}.checkpoint"))
        done = 0
        while done < epochs:
            progress = fit(task, done + 1, checkpoint=checkpoint, watch=self._check_time)
            done = len(progress.epochs)
            if not progress.steps:
                self._check_hope(model, first + done)
        self._epochs += epochs

    def end(self) -> None:
        """Remove the checkpoints."""
        for path in self.stem.parent.glob(f"{self.stem.name}-*.checkpoint"):
            path.unlink()

    def _slower(self, optimizer: Optimizer, n_done: int) -> LambdaLR:
        """A half cosine from the first step of the trial, of which some are done, to its last."""
        n_steps = max(self.bench.n_steps, 1)
        return LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * min((n_done + step) / n_steps, 1)))

    def _check_time(self, _: Progress) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def _check_hope(self, model: nn.Module, n_epochs: int) -> None:
        if not _LATE * self.bench.epochs <= n_epochs < self.bench.epochs:
            return
        quality = self.bench.judge(model)
        if is_hopeless(quality, self.bench.dense, self.bench.least):
            raise Hopeless(quality)
