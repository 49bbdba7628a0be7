"""Gradients under a mask: zeros written into gradients of any layout, and which gradient was seen when."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunecell.bits.mask import Mask
from prunecell.memory import shares_within

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, eq=False)
class Stamp:
    """A gradient as it was at one moment, under one mask. It does not keep the gradient alive.

    Attributes:
        gradient: the tensor itself: another tensor that came to lie in its memory is not taken for it.
        version: torch's count of the changes of the tensor; None where torch counts none.
        address: of its elements; 0 where it is sparse.
        mask: that it was put under, if any.
    """

    gradient: weakref.ref[Tensor]
    version: int | None
    address: int
    mask: Mask | None

    @classmethod
    def of(cls, gradient: Tensor, mask: Mask | None = None) -> "Stamp":
        """The stamp of now."""
        return cls(weakref.ref(gradient), _version(gradient), _address(gradient), mask)

    def is_of(self, gradient: Tensor) -> bool:
        """Whether it is of this tensor, at whatever time."""
        return self.gradient() is gradient

    def still_holds(self, gradient: Tensor, mask: Mask | None = None) -> bool:
        """Whether nothing has changed that torch knows of. It does not know of writes through `gradient.data`."""
        same = self.is_of(gradient) and self.mask is mask and self.version is not None
        return same and self.version == _version(gradient) and self.address == _address(gradient)

    def was_added_to(self, gradient: Tensor) -> bool:
        """Whether exactly one change was made since: what a second backward pass does, and zeroing in between not."""
        return self.is_of(gradient) and self.version is not None and _version(gradient) == self.version + 1


def on_gradient(parameter: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle | None:
    """Call a hook whenever a gradient has accumulated in a parameter, in a frozen one too: it may thaw.

    Returns:
        What removes it; None: the parameter takes no hook now.
    """
    if not parameter.is_leaf or parameter.is_inference():
        return None
    trained = parameter.requires_grad
    parameter.requires_grad = True  # torch takes a hook only then, and keeps it
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call] # torch's
    parameter.requires_grad = trained
    return handle


def hooks_on(parameter: Tensor, kind: type[_Kind]) -> list[_Kind]:
    """Those hooks of a class that `on_gradient` has hung on a parameter, in their order."""
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
    return [hook for hook in hooks.values() if isinstance(hook, kind)]


def mask_gradient_(parameter: nn.Parameter, mask: Mask) -> None:
    """Write +0.0 into a parameter's gradient where the mask prunes.

    Strided and sparse (COO) gradients are masked in place; one whose elements share memory (an expanded tensor) is
    replaced by a masked copy that lies in memory as the parameter does. Other layouts are left as they are.

    Args:
        parameter: has a gradient of the mask's shape.
        mask: on the gradient's device.
    """
    gradient = parameter.grad
    if gradient is None:
        return
    if gradient.layout is torch.sparse_coo:
        zero_pruned_sparse_(gradient, mask)
    elif gradient.layout is torch.strided:
        if shares_within(gradient):
            parameter.grad = gradient = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
        mask.zero_pruned_(gradient)


def zero_pruned_sparse_(tensor: Tensor, mask: Mask) -> None:
    """Write +0.0 where the mask prunes into what a sparse (COO) tensor of the mask's shape stores."""
    # (sparse_dim, n) and (n, ...); the public names give them of coalesced tensors only
    indices, values = tensor._indices(), tensor._values()  # noqa: SLF001
    shape = tensor.shape
    row = torch.zeros_like(indices[0])
    for size, index in zip(shape, indices, strict=False):
        row = row * size + index
    n_in_row = shape[len(indices) :].numel()
    places = row.unsqueeze(1) * n_in_row + torch.arange(n_in_row, device=row.device)  # (n, n_in_row) in C order
    keep = mask.bits[places >> 3].bitwise_right_shift((places & 7).to(torch.uint8)).bitwise_and(1).bool()
    values.masked_fill_(~keep.view_as(values), 0.0)


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 - no public name


def _address(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.layout is torch.strided else 0
