"""Granularities: which weights live and die together.

A granularity turns the keys of single weights into those of groups, and a mask of groups back into one of weights. The
score of a group is the mean of its weights' scores.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys, Scores
from prunecell.checks import check_count
from prunecell.choices import by_name, example_of, meant
from prunecell.errors import OptionError, OptionTypeError, quoted


class Granularity(Protocol):
    """How the weights of a tensor are grouped; all groups of a tensor have the same size."""

    def group(self, keys: Keys) -> Keys:
        """The keys of all weights -> one a group."""
        ...

    def spread(self, groups: Mask, shape: torch.Size) -> Mask:
        """A mask of groups -> the mask of a weight of that shape."""
        ...


@by_name(example="Weights()")
@dataclass(frozen=True, kw_only=True)
class Weights:
    """Each weight for itself: unstructured pruning."""

    def group(self, keys: Keys) -> Keys:
        """See `Granularity`."""
        return keys

    def spread(self, groups: Mask, shape: torch.Size) -> Mask:  # noqa: ARG002 - the form of a granularity
        """See `Granularity`."""
        return groups


@by_name("dims", example="Slices(dims=(0,))")
@dataclass(frozen=True, kw_only=True)
class Slices:
    """All weights with the same index in some dimensions.

    Args:
        dims: dimensions of the weight, ascending, >= 0: (0,) are `filters` or rows, (1,) `channels` or columns, (0, 1)
            `kernels`.

    Raises:
        OptionError: the dimensions do not ascend, or the weight has fewer.

    >>> Slices(dims=(0,)).spread(Mask.from_bool(torch.tensor([True, False])), torch.Size([2, 3])).to_bool().tolist()
    [[True, True, True], [False, False, False]]
    """

    dims: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not isinstance(self.dims, tuple | list):
            raise OptionTypeError(
                f"dims={quoted(self.dims)} is illegal: it must be a tuple of dimensions, such as (0,)"
            )
        for dim in self.dims:
            check_count("dims", dim)
        if not self.dims or list(self.dims) != sorted(set(self.dims)):
            raise OptionError(f"dims={quoted(self.dims)} is illegal: it must be dimensions in ascending order")

    def group(self, keys: Keys) -> Keys:
        """See `Granularity`."""
        scores = keys.scores()
        self._check(scores.shape)
        others = [dim for dim in range(scores.ndim) if dim not in self.dims]
        return Scores(_mean(scores, others))

    def spread(self, groups: Mask, shape: torch.Size) -> Mask:
        """See `Granularity`."""
        view = [size if dim in self.dims else 1 for dim, size in enumerate(shape)]
        return Mask.from_bool(groups.to_bool().view(view).expand(shape))

    def _check(self, shape: torch.Size) -> None:
        if self.dims[-1] >= len(shape):
            raise OptionError(f"dims={quoted(self.dims)} is illegal for a weight of shape {tuple(shape)}")


@by_name("rows", "columns", example="Blocks(rows=1, columns=4)")
@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Blocks of neighbouring rows and columns; all dimensions but the first are columns.

    Args:
        rows, columns: >= 1, of a block; they must divide those of the weight.

    Raises:
        OptionError: they do not.
    """

    rows: int = 1
    columns: int = 4

    def __post_init__(self) -> None:
        check_count("rows", self.rows, low=1)
        check_count("columns", self.columns, low=1)

    def group(self, keys: Keys) -> Keys:
        """See `Granularity`."""
        scores = keys.scores()
        return Scores(_mean(scores.reshape(self._blocks(scores.shape)), [1, 3]))

    def spread(self, groups: Mask, shape: torch.Size) -> Mask:
        """See `Granularity`."""
        blocks = self._blocks(shape)
        keep = groups.to_bool().view(blocks[0], 1, blocks[2], 1).expand(blocks)
        return Mask.from_bool(keep.reshape(shape))

    def _blocks(self, shape: torch.Size) -> tuple[int, int, int, int]:
        n_rows, n_columns = shape[0] if shape else 1, math.prod(shape[1:])
        if n_rows % self.rows or n_columns % self.columns:
            raise OptionError(
                f"blocks of {self.rows} x {self.columns} do not divide a weight of shape {tuple(shape)},"
                f" {n_rows} rows of {n_columns}"
            )
        return n_rows // self.rows, self.rows, n_columns // self.columns, self.columns


@by_name("n_heads", "dim", "stacked", example="Heads(n_heads=8)")
@dataclass(frozen=True, kw_only=True)
class Heads:
    """Attention heads: as many equal slices along one dimension.

    Heads of the projections of queries, keys and values are rows, dim 0; those of the output projection are columns,
    dim 1. Where one matrix holds all three projections, one above the other (`in_proj_weight`), a head has a slice of
    each: stacked=3.

    Args:
        n_heads: >= 1.
        dim: >= 0, the dimension of the weight along which heads lie.
        stacked: >= 1, matrices that lie one behind the other along that dimension; n_heads times stacked divides it.

    Raises:
        OptionError: it does not, or the weight has fewer dimensions.

    >>> keep = Heads(n_heads=2, stacked=3).spread(Mask.from_bool(torch.tensor([True, False])), torch.Size([12, 4]))
    >>> keep.to_bool()[:, 0].int().tolist()
    [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    """

    n_heads: int
    dim: int = 0
    stacked: int = 1

    def __post_init__(self) -> None:
        check_count("n_heads", self.n_heads, low=1)
        check_count("dim", self.dim)
        check_count("stacked", self.stacked, low=1)

    def group(self, keys: Keys) -> Keys:
        """See `Granularity`."""
        scores = keys.scores()
        split = scores.reshape(*scores.shape[: self.dim], *self._slices(scores.shape), *scores.shape[self.dim + 1 :])
        return Scores(_mean(split, [dim for dim in range(split.ndim) if dim != self.dim + 1]))

    def spread(self, groups: Mask, shape: torch.Size) -> Mask:
        """See `Granularity`."""
        stacked, n_heads, size = self._slices(shape)
        along = groups.to_bool().view(1, n_heads, 1).expand(stacked, n_heads, size).reshape(-1)
        return Mask.from_bool(along.view(-1, *[1] * (len(shape) - self.dim - 1)).expand(shape))

    def _slices(self, shape: torch.Size) -> tuple[int, int, int]:
        """Matrices, heads of each, and the size of a head."""
        if self.dim >= len(shape):
            raise OptionError(f"dim={self.dim} is illegal for a weight of shape {tuple(shape)}")
        n_slices = self.stacked * self.n_heads
        if shape[self.dim] % n_slices:
            raise OptionError(
                f"n_heads={self.n_heads} is illegal for a weight of shape {tuple(shape)}: {n_slices} slices do not"
                f" divide {shape[self.dim]}, its size in dimension {self.dim}"
            )
        return self.stacked, self.n_heads, shape[self.dim] // n_slices


SINGLE = Weights()
filters = Slices(dims=(0,))
channels = Slices(dims=(1,))
kernels = Slices(dims=(0, 1))


def check_granularity(granularity: object) -> None:
    """Refuse, with what is legal, what groups no weights.

    Raises:
        OptionTypeError: it has no `group` and `spread`, or is a class instead of an object of it.
    """
    if isinstance(granularity, type) or not all(hasattr(granularity, name) for name in ("group", "spread")):
        calls = {
            name: example_of(known, "prunecell.granularity")
            if isinstance(known, type)
            else f"prunecell.granularity.{name}"
            for name, known in GRANULARITIES.items()
        }
        given = granularity.__name__ if isinstance(granularity, type) else quoted(granularity)
        raise OptionTypeError(
            f"granularity={given} is illegal: it must be an object that groups weights{meant(granularity, calls)}"
        )


def _mean(scores: Tensor, dims: list[int]) -> Tensor:
    """In float64, so that the order of the additions, which differs between machines, shows in no float32."""
    if not dims:
        return scores
    means = scores.double().mean(dims)
    return means if scores.dtype == torch.float64 else means.float()


GRANULARITIES: dict[str, Granularity | Callable[..., Granularity]] = {
    "Weights": Weights,
    "Slices": Slices,
    "filters": filters,
    "channels": channels,
    "kernels": kernels,
    "Blocks": Blocks,
    "Heads": Heads,
}
"""Name -> granularity: a class, or a value that is ready; the laws of the tests run over all of them."""
