"""What `[prunecell.Rate]` asks for: the network that was learned goes on as integers under the price of their bits."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from n2d2.network.rate import Rate
from prunecell.quantization import Quantizer, RateSpec

_LR = 1e-3
"""Of what is not made of integers: statistics have none, scales of a BatchNorm have one."""


@dataclass(frozen=True, eq=False)
class Shrinking:
    """A Quantizer on a model, the optimizer that it goes with, and how that slows down until the end."""

    quantizer: Quantizer
    optimizer: Optimizer
    scheduler: LRScheduler


def shrinking(model: nn.Module, rate: Rate, *, epoch_size: int, batch_size: int) -> Shrinking:
    """Make integers of a learned model, which is rounded at once.

    Args:
        model: the network.
        rate: what the file asks for.
        epoch_size: stimuli that it learns in an epoch.
        batch_size: stimuli in a step.
    """
    spec = RateSpec(lam=rate.lam, target_bytes=rate.target_bytes or None, epochs=rate.epochs)
    quantizer = Quantizer(model, spec, epoch_size=epoch_size)
    optimizer = torch.optim.Adam(quantizer.param_groups(lr=_LR))
    quantizer.attach(optimizer)
    n_steps = rate.epochs * -(-epoch_size // batch_size)
    return Shrinking(quantizer, optimizer, CosineAnnealingLR(optimizer, n_steps))
