"""Weights and biases as N2D2 hands them out: lists of tensors, one for each output (and channel)."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from n2d2.tensor import Tensor


class Listed(Tensor, shared=True):
    """A tensor whose length, items and iteration are those of a list over its outputs. Never made itself."""

    @abstractmethod
    def _part(self, output: int) -> Any:  # noqa: ANN401 - a Tensor, or a list of them
        """What belongs to an output."""

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return map(self._part, range(len(self)))

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401
        """What belongs to an output, or to the outputs of a slice; all coordinates give a number."""
        if isinstance(index, tuple):
            return super().__getitem__(index)
        which = range(len(self))[index]
        return self._part(which) if isinstance(which, int) else [self._part(output) for output in which]


class Biases(Listed):
    """(out,): `biases[output]` is a tensor of one value."""

    @classmethod
    def of(cls, bias: torch.Tensor) -> "Biases":
        """A bias (out,)."""
        made: Biases = _as(cls, bias)
        return made

    def _part(self, output: int) -> Tensor:
        return Tensor.from_torch(self.values[output : output + 1])


class Weights(Listed):
    """(out, in / groups, *kernel): `weights[output][channel]` is the tensor of a kernel, one value in an Fc.

    An output of a grouped convolution has a kernel of zeros for each channel that it does not see.

    >>> weights = Weights.of(torch.arange(6.0).reshape(3, 2))
    >>> len(weights), len(weights[0]), weights[2][1][0]
    (3, 2, 5.0)
    """

    groups: int

    @classmethod
    def of(cls, weight: torch.Tensor, groups: int = 1) -> "Weights":
        """A weight (out, in / groups, *kernel)."""
        made: Weights = _as(cls, weight)
        made.groups = groups
        return made

    def _part(self, output: int) -> list[Tensor]:
        n_outputs, n_channels = len(self.values) // self.groups, self.values.shape[1]
        row = self.values.new_zeros(self.groups * n_channels, *(self.values.shape[2:] or (1,)))
        first = output // n_outputs * n_channels
        row[first : first + n_channels] = self.values[output].reshape(n_channels, *row.shape[1:])
        return [Tensor.from_torch(kernel) for kernel in row]


def _as(kind: type[Tensor], values: torch.Tensor) -> Any:  # noqa: ANN401 - one of this kind
    return kind.from_torch(values)
