"""One parameter under a mask: zeros that stay, hidden values that may come back, gradients and moments under it."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from prunecell.bits.mask import Mask
from prunecell.collect import Collector
from prunecell.enforcement.gradients import Stamp, mask_gradient_, zero_pruned_sparse_
from prunecell.fillers import traits_of
from prunecell.plan.spec import PruneSpec

_SECOND_MOMENTS = {
    optim.Adam: ("exp_avg_sq", "max_exp_avg_sq"),
    optim.AdamW: ("exp_avg_sq", "max_exp_avg_sq"),
    optim.NAdam: ("exp_avg_sq",),
    optim.RAdam: ("exp_avg_sq",),
    optim.RMSprop: ("square_avg",),
    optim.Adadelta: ("square_avg",),
}
"""Optimizer, exactly, -> its moments that rest at 1 where weights are pruned; all others rest at 0.

In these, which work on each element by itself, any number serves, as the first moment is 0. On a CPU the square roots
of zeros that they take are so slow that a pruned model would take 1.4 times as long a step. An optimizer of any other
class may use the mean, the greatest or the norm of a moment for the kept weights too, as Adam-mini does.
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
        normed: dimensions along which its layer divides each slice by its norm, so that no mask may empty one; see
            `Target`.
        masked: the gradient that was masked last, as it was then.
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
    normed: tuple[int, ...] | None = None
    masked: Stamp | None = None

    @functools.cached_property
    def parks(self) -> bool:
        """Whether hidden values are kept; asked for once, because a step of small layers would feel it."""
        return self.spec.parks

    @functools.cached_property
    def n_weights(self) -> int:
        """How many weights there are; what the filler calls absent does not count."""
        return self.mask.shape.numel() - traits_of(self.spec.filler).n_absent.get(self.name, 0)

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
        if self.parks and self.hidden is None:
            self.hidden, self.memory = self.mask.take_pruned_(self.parameter.data, memory=self.memory), None
        else:
            self.mask.zero_pruned_(self.parameter.data)

    def take_as_it_stands_(self) -> None:
        """Forget older hidden values; what stands in the parameter now is what the mask hides."""
        self.hidden = None
        self.hide_()

    def values(self) -> Tensor:
        """The values, with the hidden ones; not to be written to."""
        if self.hidden is None:
            return self.parameter.detach()
        values = self.parameter.detach().clone()
        self.mask.put_pruned_(values, self.hidden)
        return values

    @torch.no_grad()
    def take_gradient_(self) -> None:
        """Called when a backward pass has added to the gradient: collect it, and mask it."""
        gradient = self.parameter.grad
        if gradient is not None:
            self.follow()
            more = self.masked is not None and self.masked.was_added_to(gradient)
            self.collector.add_gradient(gradient, self.mask, self.values, more=more)
            self._mask_gradient_()

    @torch.no_grad()
    def check_gradient_(self) -> None:
        """Mask the gradient if it came by another way than a backward pass, or was changed since, or the mask was."""
        gradient = self.parameter.grad
        if gradient is None or (self.masked is not None and self.masked.still_holds(gradient, self.mask)):
            return
        self.follow()
        if self.masked is None or not self.masked.is_of(gradient):
            self.collector.add_gradient(gradient, self.mask, self.values, more=False)
        self._mask_gradient_()

    def _mask_gradient_(self) -> None:
        mask_gradient_(self.parameter, self.mask)
        self.masked = None if self.parameter.grad is None else Stamp.of(self.parameter.grad, self.mask)

    def clear_moments_(self, moments: object, *, of: type, rest: bool) -> None:
        """Reset an optimizer's moments of pruned weights that cannot come back: no momentum pulls at them.

        Args:
            moments: what the optimizer remembers of this parameter, name -> anything; floats of its shape count.
            of: the class of the optimizer.
            rest: to what they rest at; otherwise all to 0, because these weights will be trained again.
        """
        if self.parks or not isinstance(moments, Mapping):
            return
        at_one = _SECOND_MOMENTS.get(of, ()) if rest else ()
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == self.mask.shape and moment.is_floating_point():
                mask = self.mask if self.mask.bits.device == moment.device else self.mask.to(moment.device)
                if moment.layout is torch.strided:
                    mask.fill_pruned_(moment, 1.0 if name in at_one else 0.0)
                elif moment.layout is torch.sparse_coo:
                    zero_pruned_sparse_(moment, mask)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a gradient of its own, which it has not seen.
        return vars(self) | {"masked": None}


@contextmanager
def revealed(weights: list[PrunedWeight]) -> Iterator[None]:
    """The hidden values stand in the parameters meanwhile, whatever happens."""
    try:
        for weight in weights:
            weight.reveal_()
        yield
    finally:
        for weight in weights:
            weight.hide_()
