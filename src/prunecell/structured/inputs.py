"""Other inputs of the same kind as an example: units must be alike on these, too.

An example of positive numbers tells nothing of `torch.where(x.sum() > 0, a, b)` where the sum is negative.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

_SEED = 0


class Inputs(NamedTuple):
    """What a model is run with: all its inputs, and how a message calls them."""

    values: tuple[Any, ...]
    called: str = ""


_Making = Callable[[Tensor, torch.Generator], Tensor]
"""From a tensor of the example to another one."""


def others_of(example: tuple[Any, ...]) -> Iterator[Inputs]:
    """Other inputs of the shapes and types of an example, and then such of other batch sizes.

    Integers stay between the least and the greatest of their tensor, because they may be indices. What is no tensor of
    floats, integers or booleans stays as it is. A batch is the first axis, where all tensors have as many there.

    >>> [inputs.values[0].tolist() for inputs in others_of((torch.tensor([3, 5]),))][3:5]
    [[5, 5], [3, 3]]
    """
    generator = torch.Generator().manual_seed(_SEED)

    def made(make: _Making) -> tuple[Any, ...]:
        values: tuple[Any, ...] = tree_map(lambda leaf: make(leaf, generator) if _is_plain(leaf) else leaf, example)
        return values

    tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)]
    if any(map(_is_plain, tensors)):
        for make in (_normal(0.01), _normal(1.0), _normal(100.0), _negative, _zero, _positive, _exchanged):
            yield Inputs(made(make), ", for other inputs")
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in tensors}
    if len(sizes) == 1 and all(map(_is_plain, tensors)) and (n := sizes.pop()):
        makings: dict[int, _Making | None] = {1: None, n + 1: None, 2 * n + 1: _normal(10.0)}
        for size, making in makings.items():
            if size != n:
                yield Inputs(made(_of_size(size, making)), ", for another batch size")


def _is_plain(leaf: object) -> bool:
    return (
        isinstance(leaf, Tensor) and leaf.layout == torch.strided and not leaf.is_complex() and not leaf.is_quantized
    ) and leaf.numel() > 0


def _normal(scale: float) -> _Making:
    """Normal numbers of a scale."""

    def make(like: Tensor, generator: torch.Generator) -> Tensor:
        if not like.is_floating_point():
            return _within(like, torch.rand(like.shape, generator=generator, dtype=torch.float64))
        return (torch.randn(like.shape, generator=generator) * scale).to(like)

    return make


def _within(like: Tensor, shares: Tensor) -> Tensor:
    """Integers or booleans from the least (0) to the greatest (1) of a tensor; all booleans."""
    is_bool = like.dtype == torch.bool
    low, high = (0, 1) if is_bool else (int(like.min()), int(like.max()))
    return (low + (shares * (high - low + 1)).floor().clamp(max=high - low)).to(like)


def _positive(like: Tensor, generator: torch.Generator) -> Tensor:
    made = _normal(10.0)(like, generator)
    return made.abs() if like.is_floating_point() else made


def _negative(like: Tensor, _: torch.Generator) -> Tensor:
    return -like.detach() if like.is_floating_point() else _within(like, torch.ones(like.shape, dtype=torch.float64))


def _zero(like: Tensor, _: torch.Generator) -> Tensor:
    zeros = torch.zeros(like.shape, dtype=torch.float64)
    return zeros.to(like) if like.is_floating_point() else _within(like, zeros)


def _exchanged(like: Tensor, generator: torch.Generator) -> Tensor:
    """Each number is replaced by one of the tensor."""
    index = torch.randint(like.numel(), (like.numel(),), generator=generator)
    return like.detach().flatten()[index.to(like.device)].view(like.shape)


def _of_size(size: int, make: _Making | None) -> _Making:
    """So many samples, drawn from those of the example; or else made."""

    def resized(like: Tensor, generator: torch.Generator) -> Tensor:
        rows = like.detach()[torch.randint(len(like), (size,), generator=generator).to(like.device)]
        return rows if make is None else make(rows, generator)

    return resized


def nudged(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same inputs but for the last bits of their floats."""
    generator = torch.Generator().manual_seed(_SEED)

    def nudge(leaf: Any) -> Any:  # noqa: ANN401 - any input
        if not _is_plain(leaf) or not leaf.is_floating_point():
            return leaf
        noise = torch.rand(leaf.shape, generator=generator) * (4 * torch.finfo(leaf.dtype).eps)
        return leaf.detach() + leaf.detach() * noise.to(leaf)

    return tree_map(nudge, values)  # type: ignore[no-any-return] # a tuple, as given
