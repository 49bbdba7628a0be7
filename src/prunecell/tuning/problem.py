"""Problem: what a search is asked, which is the arguments of `tune`, checked."""

import json
import zlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunecell.described import described
from prunecell.structured.resizing import load_model
from prunecell.training.accuracy import Batches, Metric
from prunecell.tuning.bench import Bench, MakeOptimizer, adam
from prunecell.tuning.fingerprint import fingerprint_of
from prunecell.tuning.loaders import CPU, Stream
from prunecell.tuning.quality import Allowance, Judge, Loss
from prunecell.tuning.strategies import Strategy


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a search is asked.

    Attributes:
        model: dense, a copy that nobody changes, in evaluation mode.
        train, validation: the loaders.
        held_out: whether the validation data was taken from the training data.
        allowance: what may be lost.
        metric, loss: see `Metric` and `Loss`.
        seconds: wall clock; infinite: until the search has ended.
        epochs: of each trial; None: as many as fit.
        optimizer: the user's; None: Adam.
        strategies: what is tried, in this order.
        seed: of everything random.
    """

    model: nn.Module
    train: Batches
    validation: Batches
    held_out: bool
    allowance: Allowance
    metric: Metric
    loss: Loss
    seconds: float
    epochs: int | None
    optimizer: MakeOptimizer | None
    strategies: Sequence[Strategy]
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the model is, and its batches are moved."""
        return next((p.device for p in self.model.parameters()), CPU)

    @cached_property
    def stream(self) -> Stream:
        """The training data, in an order that depends on the seed."""
        return Stream(loader=self.train, seed=self.seed + 1, device=self.device)

    @cached_property
    def judge(self) -> Judge:
        """What measures a model on the validation data."""
        held_out = Stream(loader=self.validation, seed=self.seed, device=self.device)
        return Judge(validation=lambda: held_out.epoch(0), allowance=self.allowance, metric=self.metric, loss=self.loss)

    @cached_property
    def dense(self) -> float:
        """The quality of the model."""
        return self.judge.of_dense(self.model)

    def settings(self) -> dict[str, Any]:
        """All that decides what is found, as plain data."""
        return {
            "model": _digest(self.model),
            "train": fingerprint_of(self.train),
            "validation": fingerprint_of(self.validation),
            "max_drop": self.allowance.max_drop,
            "max_rise": self.allowance.max_rise,
            "epochs": self.epochs,
            "seed": self.seed,
            "loss": described(self.loss),
            "metric": described(self.metric),
            "optimizer": described(self.optimizer),
            "strategies": [described(strategy) for strategy in self.strategies],
        }

    def bench(self, facts: Mapping[str, Any]) -> Bench:
        """What its trials share, from what was found out before the first."""
        return Bench(
            model=self.model,
            train=self.stream,
            held_out=self.held_out,
            judge=self.judge,
            loss=self.loss,
            dense=facts["dense"],
            least=self.allowance.least(facts["dense"]),
            epochs=facts["epochs"],
            make_optimizer=self.optimizer or adam(facts["lr"]),
            lr=None if self.optimizer else facts["lr"],
            seed=self.seed,
        )

    def read_back(self, path: Path) -> nn.Module:
        """The model in a file, which may have fewer units than the dense one."""
        return load_model(path, deepcopy(self.model)).eval()


def _digest(model: nn.Module) -> str:
    """A text that differs where the weights, or the names of the layers' classes, do."""
    kinds = [f"{path}: {type(module).__qualname__}" for path, module in model.named_modules()]
    told = json.dumps([kinds, described(dict(model.state_dict()))])
    return f"{type(model).__qualname__} {zlib.crc32(told.encode()):08x}"
