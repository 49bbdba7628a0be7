"""Collecting what a criterion needs beside the values: gradients and inputs, in the steps before an update only."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.hooks import RemovableHandle

from prunecell.bits.mask import Mask
from prunecell.errors import OptionError
from prunecell.evidence import Needs

_OF_GRADIENTS = Needs.GRADIENT | Needs.SQUARED_GRADIENT
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(eq=False)
class Collector:
    """What is collected for one weight, between `begin` and `end`.

    Copied with the owner, it goes on there: torch copies the hooks of a module, and a handle with what it removes.

    Args:
        needs: what the criterion asks for.
        owner: the module that has the weight.
    """

    needs: Needs
    owner: nn.Module
    active: bool = False
    _gradient: Tensor | None = None
    _squares: Tensor | None = None
    _inputs: Tensor | None = None
    _hooks: list[RemovableHandle] = field(default_factory=list)

    def begin(self) -> None:
        """Collect in the next step; what is whole already is kept as it is."""
        if self.complete:
            self._stop()
        else:
            self.end()
            self.active = True
            if Needs.INPUTS in self.needs:
                self._hooks.append(self.owner.register_forward_pre_hook(_InputsHook(self)))

    def end(self) -> None:
        """Forget all, and collect nothing more."""
        self._stop()
        self._gradient = self._squares = self._inputs = None

    def _stop(self) -> None:
        self.active = False
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def complete(self) -> bool:
        """Whether all that is needed is there and finite: of a step that overflowed nothing is believed."""
        found = {Needs.GRADIENT: self._gradient, Needs.SQUARED_GRADIENT: self._squares, Needs.INPUTS: self._inputs}
        needed = [tensor for need, tensor in found.items() if need in self.needs]
        return all(tensor is not None and bool(tensor.isfinite().all()) for tensor in needed)

    def evidence(self, shape: torch.Size) -> dict[Needs, Tensor]:
        """What was collected for a weight of this shape."""
        found: dict[Needs, Tensor] = {}
        if Needs.GRADIENT in self.needs and self._gradient is not None:
            found[Needs.GRADIENT] = self._gradient
        if Needs.SQUARED_GRADIENT in self.needs and self._squares is not None:
            found[Needs.SQUARED_GRADIENT] = self._squares
        if Needs.INPUTS in self.needs and self._inputs is not None:
            found[Needs.INPUTS] = _as_the_weight(self._inputs.sqrt(), self.owner, shape)
        return found

    def add_gradient(self, gradient: Tensor, mask: Mask, *, more: bool) -> None:
        """Take what has accumulated until now in a step.

        Where the mask prunes, `gradient` holds the last backward pass only, because it was masked after those before.

        Args:
            gradient: of the mask's shape; it may be sparse.
            mask: that those before were masked by.
            more: whether this pass was added to those before; otherwise it takes their place, as after a `zero_grad`.
        """
        if not self.active or not self.needs & _OF_GRADIENTS:
            return
        gradient = gradient.detach().to_dense()
        if not more:
            self._gradient = self._squares = None
        before = torch.zeros_like(gradient) if self._gradient is None else self._gradient
        seen_before = before.clone()
        mask.zero_pruned_(seen_before)
        newly = gradient - seen_before
        self._gradient = before + newly
        if Needs.SQUARED_GRADIENT in self.needs:
            squares = newly.square() if newly.dtype == torch.float64 else newly.float().square()
            self._squares = squares if self._squares is None else self._squares + squares

    def check(self, name: str, parameter: Tensor) -> None:
        """Refuse a weight for which what is needed never comes.

        Raises:
            OptionError: it is frozen and gradients are needed, its layer has no inputs that are known, or several
                processes train together, whose gradients and inputs differ.
        """
        if self.needs and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise OptionError(
                f"the criterion of {name!r} needs {self.needs.name}, which every process has of its own samples only:"
                " the masks would differ; use one that needs nothing, such as magnitude"
            )
        if self.needs & _OF_GRADIENTS and not parameter.requires_grad:
            raise OptionError(f"the criterion of {name!r} needs gradients, and this parameter is frozen")
        if Needs.INPUTS in self.needs and not isinstance(self.owner, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise OptionError(
                f"the criterion of {name!r} needs the inputs of its layer: they are known for Linear and Conv1d to"
                f" Conv3d, not for {type(self.owner).__name__}"
            )

    @torch.no_grad()
    def add_inputs(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Add up the squares of every input feature or channel, float32 (features,), while the module trains."""
        if not module.training or not args:
            return
        x = args[0].detach().float()
        squares = x.square()
        if isinstance(module, _CONVOLUTIONS):
            channel = x.ndim - len(module.kernel_size) - 1
            total = squares.movedim(channel, -1).flatten(0, -2).sum(0)
        else:
            total = squares.reshape(-1, x.shape[-1]).sum(0)
        self._inputs = total if self._inputs is None else self._inputs + total


class _InputsHook:
    """The hook on an owner. A copy of a model without its Pruner has no collector, so it removes itself there."""

    def __init__(self, collector: Collector | None) -> None:
        self._collector: Callable[[], Collector | None] = (
            (lambda: None) if collector is None else weakref.ref(collector)
        )

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if (collector := self._collector()) is not None:
            collector.add_inputs(module, args)
            return
        hooks = module._forward_pre_hooks  # noqa: SLF001 - no public name
        for number in [number for number, hook in hooks.items() if hook is self]:
            del hooks[number]

    def __reduce__(self) -> tuple[Any, ...]:
        return _InputsHook, (self._collector(),)


def _as_the_weight(norms: Tensor, owner: nn.Module, shape: torch.Size) -> Tensor:
    """(in_features,) -> (1, in_features), or of a convolution (out_channels, in_channels / groups, 1, ...)."""
    if not isinstance(owner, _CONVOLUTIONS):
        return norms.unsqueeze(0)
    per_group = norms.view(owner.groups, -1).repeat_interleave(shape[0] // owner.groups, 0)
    return per_group.view(shape[0], shape[1], *[1] * (len(shape) - 2))
