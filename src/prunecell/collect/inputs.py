"""The norms of the inputs of a layer."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunecell.collect.hook import Hook

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
KNOWN = (nn.Linear, *CONVOLUTIONS)
"""The layers of which is known what a row of the weight is, and which input each column multiplies."""


@dataclass(eq=False)
class InputNorms:
    """The squares of a layer's inputs, summed by feature or channel while the layer is run.

    Args:
        owner: the layer.
        in_any_mode: not in training mode only.
    """

    owner: nn.Module
    in_any_mode: bool = False
    squares: Tensor | None = None
    _hooks: list[RemovableHandle] = field(default_factory=list)

    def begin(self) -> None:
        """Listen."""
        self._hooks.append(self.owner.register_forward_pre_hook(Hook(self, InputNorms.add)))

    def stop(self) -> None:
        """Listen no longer."""
        while self._hooks:
            self._hooks.pop().remove()

    @torch.no_grad()
    def add(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Add up the squares of every input feature or channel, float32 (features,)."""
        if not (module.training or self.in_any_mode) or not args or not args[0].numel():
            return
        x = args[0].detach().float()
        squares = x.square()
        if isinstance(module, CONVOLUTIONS):
            channel = x.ndim - len(module.kernel_size) - 1
            total = squares.movedim(channel, -1).flatten(0, -2).sum(0)
        else:
            total = squares.reshape(-1, x.shape[-1]).sum(0)
        self.squares = total if self.squares is None else self.squares + total

    def as_the_weight(self, shape: torch.Size) -> Tensor | None:
        """The norms, (1, in_features), or of a convolution (out_channels, in_channels / groups, 1, ...)."""
        if self.squares is None:
            return None
        norms = self.squares.sqrt()
        if not isinstance(self.owner, CONVOLUTIONS):
            return norms.unsqueeze(0)
        per_group = norms.view(self.owner.groups, -1).repeat_interleave(shape[0] // self.owner.groups, 0)
        return per_group.view(shape[0], shape[1], *[1] * (len(shape) - 2))
