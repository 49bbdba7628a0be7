"""One parameter under a mask: zeros that stay, hidden values that may come back, moments that are cleared."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from prunecell.bits.mask import Mask
from prunecell.collect import Collector
from prunecell.errors import OptionError
from prunecell.fillers import traits_of
from prunecell.spec import PruneSpec

_KEEP_ZEROS = {
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Adagrad,
    optim.Adadelta,
    optim.Adamax,
}
"""Optimizers that leave +0.0 what is +0.0 and has had no gradient since its moments were reset: these very types."""

_AT_REST = {"exp_avg_sq": 1.0, "max_exp_avg_sq": 1.0, "square_avg": 1.0}
"""What second moments of pruned weights rest at; all other moments at 0.

Any number serves, as the first moment is 0. But on a CPU the square roots of zeros that torch.optim's Adam and RMSprop
take are so slow that a pruned model would take 1.4 times as long a step.
"""
REST_EVERY = 100
"""Second moments decay, so they are reset every so many steps, first after step 1."""


@dataclass(eq=False)
class PrunedWeight:
    """One parameter under a mask.

    Attributes:
        collector: of what the spec's criterion needs beside the values.
        target_sparsity: what the schedule asked for when the mask was filled.
        update: the schedule's number of the update that filled it; None before the first.
        hidden: where weights may revive, the values under the mask, (n_pruned,); None while they stand in the
            parameter, and always None where nothing revives.
        memory: the buffer that last held `hidden`; it is reused.
        n_steps: how many steps of optimizers that keep zeros were made.
        normed: dimensions along which its layer divides each slice by its norm, so that no mask may empty one; see
            `Target`.
    """

    name: str
    parameter: nn.Parameter
    spec: PruneSpec
    mask: Mask
    collector: Collector
    target_sparsity: float = 0.0
    update: float | None = None
    hidden: Tensor | None = None
    memory: Tensor | None = None
    n_steps: int = 0
    normed: tuple[int, ...] | None = None

    @functools.cached_property
    def n_weights(self) -> int:
        """How many weights there are; what the filler calls absent does not count."""
        return self.mask.shape.numel() - traits_of(self.spec.filler).n_absent

    def follow(self) -> None:
        """Take the mask to where the parameter is now: models are moved between devices."""
        if self.mask.bits.device != self.parameter.device:
            self.mask = self.mask.to(self.parameter.device)

    def reveal_(self) -> None:
        """Put the hidden values back into the parameter."""
        self.follow()
        if self.hidden is not None:
            self.mask.put_pruned_(self.parameter.data, self.hidden)
            self.hidden, self.memory = None, self.hidden

    def hide_(self) -> None:
        """Make the pruned weights +0.0, and keep what stood there if it may be wanted again."""
        self.follow()
        if self.spec.parks and self.hidden is None:
            self.hidden, self.memory = self.mask.take_pruned_(self.parameter.data, memory=self.memory), None
        else:
            self.mask.zero_pruned_(self.parameter.data)

    def take_as_it_stands_(self) -> None:
        """Forget older hidden values; what stands in the parameter now is what the mask hides."""
        self.hidden = None
        self.hide_()

    def after_step_(self, optimizer: Optimizer) -> None:
        """Undo what an optimizer did to the pruned weights."""
        self.follow()
        if self.spec.parks or type(optimizer) not in _KEEP_ZEROS:
            self.hide_()
        else:
            self.n_steps += 1
            self.mask.zero_moved_(self.parameter.data, step=self.n_steps)

    def mask_gradient_(self, parameter: Tensor) -> None:
        """Hook: called when a gradient has been accumulated."""
        self.follow()
        if parameter.grad is not None and not parameter.grad.is_sparse:
            self.collector.add_gradient(parameter.grad, self.mask)
            self.mask.zero_pruned_(parameter.grad)

    def clear_moments_(self, optimizer: Optimizer, *, rest: bool) -> None:
        """Reset the optimizer's moments of pruned weights that cannot come back: no momentum pulls at them.

        Args:
            optimizer: whose.
            rest: to what they rest at; otherwise all to 0, because these weights will be trained again.
        """
        if self.spec.parks:
            return
        for name, moment in optimizer.state.get(self.parameter, {}).items():
            if isinstance(moment, Tensor) and moment.shape == self.mask.shape:
                self.mask.fill_pruned_(moment, _AT_REST.get(name, 0.0) if rest else 0.0)

    def check_alone(self) -> None:
        """Refuse a parameter of another pruner where hidden values would overwrite each other."""
        hooks = getattr(self.parameter, "_post_accumulate_grad_hooks", None) or {}
        for other in (getattr(hook, "__self__", None) for hook in hooks.values()):
            if isinstance(other, PrunedWeight) and (other.spec.parks or self.spec.parks):
                raise OptionError(f"parameter {self.name!r} is held by another Pruner: finalize() that one first")


@contextmanager
def revealed(weights: list[PrunedWeight]) -> Iterator[None]:
    """The hidden values stand in the parameters meanwhile, whatever happens."""
    for weight in weights:
        weight.reveal_()
    try:
        yield
    finally:
        for weight in weights:
            weight.hide_()


def hidden_during(weights: list[PrunedWeight], closure: Callable[[], float] | None) -> Callable[[], float] | None:
    """A closure that evaluates the pruned model, though the optimizer that calls it works on hidden values."""
    if closure is None:
        return None

    def evaluate() -> float:
        for weight in weights:
            weight.hide_()
        with torch.enable_grad():
            loss = closure()
        for weight in weights:
            weight.reveal_()
        return loss

    return evaluate
