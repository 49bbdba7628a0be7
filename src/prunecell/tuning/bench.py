"""What the trials of a search share, and the training of one: stopped early, and resumed where it was killed."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from prunecell.checkpoint import Checkpoint
from prunecell.training import Progress, Task, fit
from prunecell.tuning.budget import Judge, Loss, is_hopeless
from prunecell.tuning.loaders import Stream

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
        judge: measures a model.
        loss: see `Loss`.
        dense, least: the quality of the dense model, and the least that is enough.
        epochs: of each trial.
        make_optimizer, lr: the optimizer, and its learning rate as a recipe tells it.
        seed: of the trials' random numbers.
    """

    model: nn.Module
    train: Stream
    judge: Judge
    loss: Loss
    dense: float
    least: float
    epochs: int
    make_optimizer: MakeOptimizer
    lr: float
    seed: int

    @property
    def n_steps(self) -> int:
        """Optimizer steps of one trial."""
        return self.epochs * self.train.n_batches

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
        pruner: Any = None,  # noqa: ANN401 - a Pruner, or what is used like one
        beside: Mapping[str, Any] | None = None,
        model: nn.Module | None = None,
    ) -> None:
        """Train for so many epochs more, the learning rate on its way down a half cosine over the whole trial.

        Raises:
            Hopeless: see there.
            OutOfTime: see there.
            DivergedError: the loss is NaN or infinite.
        """
        model = self.model if model is None else model
        first, rates = self._epochs, [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for step, batch in enumerate(self.bench.train.epoch(first + epoch)):
                done = (first + epoch) * self.bench.train.n_batches + step
                factor = 0.5 * (1 + math.cos(math.pi * min(done / self.bench.n_steps, 1)))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                yield batch

        task = Task(
            model=model,
            optimizer=optimizer,
            train=batches,
            loss=self.bench.loss,
            pruner=pruner,
            beside=beside or {},
        )
        self._phases += 1
        checkpoint = Checkpoint(path=self.stem.with_name(f"{self.stem.name}-{self._phases}.checkpoint"))
        fit(task, epochs, checkpoint=checkpoint, watch=lambda progress: self._watch(model, progress, first))
        self._epochs += epochs

    def end(self) -> None:
        """Remove the checkpoints."""
        for path in self.stem.parent.glob(f"{self.stem.name}-*.checkpoint"):
            path.unlink()

    def _watch(self, model: nn.Module, progress: Progress, first: int) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime
        done = first + len(progress.epochs)
        if progress.steps or not _LATE * self.bench.epochs <= done < self.bench.epochs:
            return
        quality = self.bench.judge(model)
        if is_hopeless(quality, self.bench.dense, self.bench.least):
            raise Hopeless(quality)
