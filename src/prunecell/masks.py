"""A mask: which weights of one tensor live, one bit a weight."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CHUNK = 1 << 18
"""Weights worked on at a time: small enough for the cache, a multiple of 8 so that chunks start on a byte."""

_BIT_VALUES = [1, 2, 4, 8, 16, 32, 64, 128]


@dataclass(frozen=True, eq=False)
class Mask:
    """One bit a weight, 1 keeps: weight i (C order) is bit i % 8, the lowest first, of byte i // 8.

    Attributes:
        bits: uint8, (ceil(n / 8),); unused bits of the last byte are 0.
        shape: the shape of the weight.

    >>> mask = Mask.from_bool(torch.tensor([[True, False, True]]))
    >>> mask.n_kept, mask.bits.tolist(), mask.to_bool().tolist()
    (2, [5], [[True, False, True]])
    """

    bits: Tensor
    shape: torch.Size

    @classmethod
    def from_bool(cls, keep: Tensor) -> "Mask":
        """Pack a bool tensor, True keeps."""
        bits = torch.empty(-(-keep.numel() // 8), dtype=torch.uint8, device=keep.device)
        for start, chunk in _chunks(keep.reshape(-1)):
            bits[start // 8 : -(-(start + len(chunk)) // 8)] = _pack(chunk)
        return cls(bits, keep.shape)

    @classmethod
    def full(cls, shape: torch.Size, device: torch.device | None = None) -> "Mask":
        """The mask that keeps everything."""
        n = shape.numel()
        bits = torch.full((-(-n // 8),), 0xFF, dtype=torch.uint8, device=device)
        if n % 8:
            bits[-1] = (1 << n % 8) - 1
        return cls(bits, shape)

    def to_bool(self) -> Tensor:
        """A bool tensor of the weight's shape, True keeps."""
        return _unpack(self.bits, self.shape.numel()).view(self.shape)

    @cached_property
    def n_kept(self) -> int:
        """How many weights live; counted once, as nobody writes into a mask."""
        table = torch.tensor([byte.bit_count() for byte in range(256)], dtype=torch.uint8, device=self.bits.device)
        return sum(int(table[chunk.int()].sum()) for _, chunk in _chunks(self.bits))

    @property
    def n_pruned(self) -> int:
        """How many weights are pruned."""
        return self.shape.numel() - self.n_kept

    def equals(self, other: "Mask") -> bool:
        """Whether both keep the same weights of the same shape."""
        return self.shape == other.shape and torch.equal(self.bits, other.bits)

    def zero_pruned_(self, tensor: Tensor) -> None:
        """Write +0.0 where the mask prunes; whatever stood there, NaN and inf too, is gone.

        Args:
            tensor: of the mask's shape, any dtype and strides: a weight, a gradient, a moment.
        """
        if not tensor.is_contiguous():
            tensor.masked_fill_(~self.to_bool(), 0)
            return
        for start, chunk in _chunks(tensor.view(-1)):
            chunk.masked_fill_(self._pruned(start, len(chunk)), 0)

    def pruned_values(self, tensor: Tensor) -> Tensor:
        """The values where the mask prunes, in C order, (n_pruned,)."""
        flat = tensor.reshape(-1)
        parts = [chunk[self._pruned(start, len(chunk))] for start, chunk in _chunks(flat)]
        return torch.cat(parts) if parts else flat.new_empty(0)

    def put_pruned_(self, tensor: Tensor, values: Tensor) -> None:
        """Write `values`, as `pruned_values` returned them, back where the mask prunes."""
        if not tensor.is_contiguous():
            tensor[~self.to_bool()] = values
            return
        done = 0
        for start, chunk in _chunks(tensor.view(-1)):
            pruned = self._pruned(start, len(chunk))
            count = int(pruned.count_nonzero())
            chunk[pruned] = values[done : done + count]
            done += count

    def _pruned(self, start: int, count: int) -> Tensor:
        return ~_unpack(self.bits[start // 8 : -(-(start + count) // 8)], count)


def _chunks(flat: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, flat.numel(), CHUNK):
        yield start, flat[start : start + CHUNK]


def _pack(keep: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(keep.to(torch.uint8), (0, -len(keep) % 8)).view(-1, 8)
    values = torch.tensor(_BIT_VALUES, dtype=torch.uint8, device=keep.device)
    return (padded * values).sum(1, dtype=torch.uint8)


def _unpack(bits: Tensor, count: int) -> Tensor:
    values = torch.tensor(_BIT_VALUES, dtype=torch.uint8, device=bits.device)
    return (bits.unsqueeze(1) & values).ne(0).view(-1)[:count]
