"""The default recipe: a plan that spares first and small layers, and a learning rate that was tried out."""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import islice

import torch
from torch import Tensor, nn

from prunecell.allocation import AtLeast, lamp
from prunecell.checks import check_number
from prunecell.choices import names_needed
from prunecell.plan import Plan, resolve
from prunecell.plan.spec import PruneSpec
from prunecell.pruning import Pruner
from prunecell.schedules import Cubic, Schedule, Static
from prunecell.tuning.bench import MakeOptimizer
from prunecell.tuning.loaders import Stream
from prunecell.tuning.quality import Loss

SMALL = 0.05
"""A weight tensor is left dense if it has less than this part of all weights that are kept: it costs so little."""

LEAST = 0.1
"""No layer keeps less than this part of the density of all."""

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""The learning rates that are tried out."""

STEPS = 60
"""Steps with each of them."""


@names_needed("model", "sparsity", "epochs", example="default_plan(model, sparsity=0.95, epochs=10)")
def default_plan(model: nn.Module, *, sparsity: float = 0.95, epochs: float = 10) -> Plan:
    """A plan to begin with: for a model that is trained already, and goes on training under it.

    One budget is shared by all weights, which LAMP divides among the layers (Lee et al. 2021, Layer-adaptive sparsity
    for the magnitude-based pruning, https://arxiv.org/abs/2010.07611): first and last layers keep more, and no layer
    less than a tenth of the density of all. Weights that are too small to matter for the size are left dense. The
    sparsity grows to its end over the first six tenths of the epochs, so that the rest mends what was lost.

    Args:
        model: any module.
        sparsity: of the weights that are pruned by default, in [0, 1].
        epochs: > 0, that the model will train under the plan; give the Pruner its `epoch_size`.

    Raises:
        OptionError: a number is out of range.
        PlanError: the model has nothing to prune.

    >>> net = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 400))
    >>> list(default_plan(net, sparsity=0.5, epochs=4))
    ['0.weight', '*']
    """
    check_number("epochs", epochs, low=0, open_low=True)
    return plan_of(model, sparsity, Cubic(sparsity=sparsity, epochs=0.6 * epochs))


def plan_of(model: nn.Module, sparsity: float, schedule: Schedule) -> Plan:
    """The default plan under another schedule, which ends at the sparsity."""
    targets, _ = resolve(model, PruneSpec(schedule=Static(sparsity=0.0)))
    sizes = {target.name: target.parameter.numel() for target in targets}
    kept = (1 - sparsity) * sum(sizes.values())
    small: Plan = {name: None for name, size in sizes.items() if size < SMALL * kept}
    least = float(f"{LEAST * (1 - sparsity):.3g}")
    at_least = sum(math.ceil(least * size) for size in sizes.values())
    allocation = AtLeast(allocation=lamp, density=least) if at_least <= kept else lamp  # of 30 weights 1 is too many
    return {**small, "*": PruneSpec(schedule=schedule, allocation=allocation)}


def fastest(
    model: nn.Module,
    train: Stream,
    loss: Loss,
    optimizers: Mapping[float, MakeOptimizer],
    *,
    sparsity: float,
    seed: int,
) -> float:
    """The learning rate of the optimizer that mends a pruned model fastest: with the lowest loss after some steps.

    The model is not changed. Of rates with the same loss the smallest is taken.
    """
    found = {rate: _loss_after(model, train, loss, make, sparsity, seed) for rate, make in optimizers.items()}
    return min(found, key=lambda rate: (found[rate], rate))


def _loss_after(model: nn.Module, train: Stream, loss: Loss, make: MakeOptimizer, sparsity: float, seed: int) -> float:
    """The mean loss over the last third of the steps; infinite where it is no number."""
    twin = deepcopy(model)
    torch.manual_seed(seed)
    optimizer = make(twin.parameters())
    pruner = Pruner(twin, plan_of(twin, sparsity, Static(sparsity=sparsity)), optimizer=optimizer)
    losses = []
    twin.train()
    for inputs, labels in islice(_endless(train), STEPS):
        optimizer.zero_grad()
        value = loss(twin(inputs), labels)
        value.backward()  # type: ignore[no-untyped-call] # torch's
        optimizer.step()
        losses.append(float(value.detach()))
    pruner.finalize()
    last = losses[-(STEPS // 3) :]
    mean = sum(last) / len(last)
    return mean if math.isfinite(mean) else math.inf


def _endless(train: Stream) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        yield from train.epoch(epoch)
        epoch += 1
