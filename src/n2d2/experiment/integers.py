"""What `[prunecell.Rate]` asks for: the network that was learned goes on as integers under the price of their bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from n2d2 import global_variables
from n2d2.network.rate import Rate
from n2d2.provider import DataProvider
from prunecell.graph import tidied_
from prunecell.quantization import Quantizer, RateSpec
from prunecell.report import Report

_LR = 1e-3
"""Of what is not made of integers: statistics have none, scales of a BatchNorm have one."""


@dataclass(frozen=True, eq=False)
class Integers:
    """A Quantizer on a model, the optimizer that it goes with, and how that slows down until the end.

    Attributes:
        shape: of a batch.
    """

    model: nn.Module
    quantizer: Quantizer
    optimizer: Optimizer
    scheduler: LRScheduler
    shape: Sequence[int]

    @classmethod
    def of(cls, model: nn.Module, rate: Rate, provider: DataProvider) -> "Integers":
        """Make integers of a learned model, which is rounded at once.

        Args:
            model: the network.
            rate: what the file asks for.
            provider: of what it learns.
        """
        spec = RateSpec(lam=rate.lam, target_bytes=rate.target_bytes or None, epochs=rate.epochs)
        quantizer = Quantizer(model, spec, epoch_size=provider.epoch_size)
        optimizer = torch.optim.Adam(quantizer.param_groups(lr=_LR))
        quantizer.attach(optimizer)
        scheduler = CosineAnnealingLR(optimizer, rate.epochs * -(-provider.epoch_size // provider.batch_size))
        return cls(model, quantizer, optimizer, scheduler, provider.shape())

    def finish(self) -> Report:
        """Let go of the integers when they are learned; dead units become zero, and hidden units are sorted.

        That makes the file smaller, and changes no output; it is done where the graph of the cells proves it.
        """
        self.quantizer.finalize()
        example = torch.zeros(2, *self.shape[1:], dtype=global_variables.dtype(), device=global_variables.device())
        tidied_(self.model, example=example)
        return self.quantizer.report()
