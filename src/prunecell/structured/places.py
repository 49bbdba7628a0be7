"""Where units stand in the tensors of a model, and whether the model stays the same when they change places.

Torch-pruning takes an operation that it does not know for one of single numbers. Behind a shuffle of channels or a
concatenation with the model's own input it would name columns of other units. What it names is therefore tried: units
that change places in all tensors change nothing that the model returns, through sums, norms and attention too.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """The slices of a tensor that are of units.

    Attributes:
        tensor: a parameter or buffer.
        dim: its dimension that the units are.
        positions: int64, (units, slices of each); in the same order for each unit.
    """

    tensor: Tensor
    dim: int
    positions: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Coupled:
    """N units, each of which stands in several layers.

    Attributes:
        root: the name of one of the layers that compute them, by which they are called.
        n_units: N.
        rows: name of a weight, a tied one's first -> int64, (rows, 2): (row, the unit that it is of).
        shares: (name of a layer, whether of its inputs) -> which part of these one unit is.
        n_blocks: the units stand in so many blocks, one after the other;
        whole: and go as whole blocks, as heads do; or else as many from each, as channels of groups do.
        places: all that belongs to them.
    """

    root: str
    n_units: int
    rows: Mapping[str, Tensor]
    shares: Mapping[tuple[str, bool], float]
    n_blocks: int
    whole: bool
    places: Sequence[Place]

    def choices(self, scores: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What can be removed, step by step: float64, (choices,), the scores; int64, (choices, units of each).

        Args:
            scores: name of a weight -> of its shape, the scores of its criterion.
        """
        total, count = torch.zeros(self.n_units, dtype=torch.float64), torch.zeros(self.n_units, dtype=torch.float64)
        for name, pairs in self.rows.items():
            of_rows = scores[name].double().cpu()
            of_rows = of_rows.flatten(1).mean(1)[pairs[:, 0]]
            total.index_add_(0, pairs[:, 1], of_rows)
            count.index_add_(0, pairs[:, 1], torch.ones_like(of_rows))
        blocks = (total / count).view(self.n_blocks, -1)
        units = torch.arange(self.n_units).view(self.n_blocks, -1)
        if self.whole:
            return blocks.mean(1), units
        order = blocks.argsort(dim=1, stable=True)
        return blocks.gather(1, order).mean(0), units.gather(1, order).T

    def mixed(self, generator: torch.Generator) -> Tensor:
        """The units in a random order, int64, (units,), as they may go: whole blocks, or within each block."""
        units = torch.arange(self.n_units).view(self.n_blocks, -1)
        if self.whole:
            return units[_mixed(len(units), generator)].flatten()
        return torch.cat([block[_mixed(len(block), generator)] for block in units])


def _mixed(n: int, generator: torch.Generator) -> Tensor:
    """A random order of n things, in which some change places if there are two."""
    order = torch.randperm(n, generator=generator)
    return order.flip(0) if torch.equal(order, torch.arange(n)) else order


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a model by name, tied ones under all of theirs."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(model.named_buffers(remove_duplicate=False))}


def places_in(module: Any, shrink: Callable[[Any, list[int]], object], dim: int, positions: Tensor) -> Iterator[Place]:  # noqa: ANN401
    """The places of units in the tensors of one module.

    Args:
        module: of a model, or a parameter of its own.
        shrink: removes one of what it has by positions.
        dim: of a parameter of its own.
        positions: int64, (units, positions of each).
    """
    if isinstance(module, nn.Parameter):
        yield Place(tensor=module, dim=dim, positions=positions)
        return
    before = tensors_of(module)
    if not before:
        return
    small = copy.deepcopy(module)
    shrink(small, [0])
    after = tensors_of(small)
    for name, tensor in before.items():
        for axis, (size, less) in enumerate(zip(tensor.shape, after[name].shape, strict=True)):
            if n_parts := size - less:  # as of queries, keys and values in one tensor
                parts = [positions + part * (size // n_parts) for part in range(n_parts)]
                yield Place(tensor=tensor, dim=axis, positions=torch.cat(parts, 1))


Mixing = tuple[Sequence[Place], Tensor]
"""Places of units, and their new order: unit i becomes what unit order[i] was."""


@contextmanager
def mixed_(mixings: Sequence[Mixing]) -> Iterator[None]:
    """Let units change places in all their tensors, which are as they were afterwards."""
    moves = [move for mixing in mixings for move in _moves(*mixing)]
    with torch.no_grad():
        for tensor, dim, index in moves:
            tensor.copy_(tensor.index_select(dim, index))
        try:
            yield
        finally:
            for tensor, dim, index in moves:
                tensor.copy_(tensor.index_select(dim, index.argsort()))


def distance(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """How far apart two results of a model are: 1 where rounding may explain it, infinite where nothing does.

    >>> distance([torch.ones(2)], [torch.ones(2)]), distance([torch.ones(2)], [torch.ones(3)])
    (0.0, inf)
    """
    if len(before) != len(after):
        return math.inf
    return max((_distance(a, b) for a, b in zip(before, after, strict=True)), default=0.0)


def _moves(places: Sequence[Place], order: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    """(tensor, dimension, where each slice comes from), each dimension of a tensor once."""
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for place in places:
        rest = place.tensor, torch.arange(place.tensor.shape[place.dim])
        _, index = found.setdefault((id(place.tensor), place.dim), rest)
        index[place.positions.flatten()] = place.positions[order].flatten()
    for (_, dim), (tensor, index) in found.items():
        yield tensor, dim, index.to(tensor.device)


def _distance(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return math.inf
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else math.inf
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()) or not bool(finite.any()):
        return math.inf
    a, b, eps = a[finite].double(), b[finite].double(), torch.finfo(a.dtype).eps
    return float((a - b).abs().max() / (eps**0.5 * a.abs().max()).clamp(min=torch.finfo(a.dtype).tiny))


@torch.no_grad()
def draw_(model: nn.Module) -> None:
    """Give a model random weights, because zeros hide units, after pruning or in new blocks of residual networks."""
    generator = torch.Generator().manual_seed(_SEED)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point() and parameter.ndim:
                is_matrix = parameter.ndim > 1
                fan = parameter[0].numel() if is_matrix else 1
                noise = torch.randn(parameter.shape, generator=generator) / max(fan, 1) ** 0.5
                parameter.copy_(noise if is_matrix else 1 + noise / 4)
        if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(torch.randn(module.running_var.shape, generator=generator) / 4)
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
