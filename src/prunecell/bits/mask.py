"""A mask: which weights of one tensor live, one bit a weight."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecell import native
from prunecell.errors import OptionError

CHUNK = 1 << 18
"""Weights worked on at a time on the CPU: small enough for its cache."""

_CHUNK_ELSEWHERE = 1 << 24
"""The same on other devices, where starting work is what costs."""

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The type that holds the bits of a weight, by its bytes."""

_PLAIN = {Tensor, nn.Parameter}


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

    def __post_init__(self) -> None:
        self._check_bits()

    @classmethod
    def from_bool(cls, keep: Tensor) -> "Mask":
        """Pack a bool tensor, True keeps."""
        bits = torch.empty(n_bytes(keep.numel()), dtype=torch.uint8, device=keep.device)
        for start, chunk in chunks(keep.reshape(-1)):
            bits[start // 8 : n_bytes(start + len(chunk))] = pack(chunk)
        return cls(bits, keep.shape)

    @classmethod
    def full(cls, shape: torch.Size, device: torch.device | None = None) -> "Mask":
        """The mask that keeps everything."""
        n = shape.numel()
        bits = torch.full((n_bytes(n),), 0xFF, dtype=torch.uint8, device=device)
        if n % 8:
            bits[-1] = (1 << n % 8) - 1
        return cls(bits, shape)

    def to_bool(self) -> Tensor:
        """A bool tensor of the weight's shape, True keeps."""
        keep = torch.empty(self.shape.numel(), dtype=torch.bool, device=self.bits.device)
        for start, chunk in chunks(keep):
            chunk.copy_(self.chunk(start, len(chunk)))
        return keep.view(self.shape)

    def chunk(self, start: int, count: int) -> Tensor:
        """The weights [start, start + count), start a multiple of 8, as a flat bool tensor."""
        return unpack(self.bits[start // 8 : n_bytes(start + count)], count)

    @functools.cached_property
    def n_kept(self) -> int:
        """How many weights live; counted once, as nobody writes into a mask."""
        self._check_bits()
        if (compiled := compiled_for(self.bits)) is not None:
            n_set = ctypes.c_int64()
            compiled.pc_count_bits(self.bits.data_ptr(), self.shape.numel(), ctypes.byref(n_set))
            return n_set.value
        n_set_in = torch.tensor([byte.bit_count() for byte in range(256)], dtype=torch.uint8, device=self.bits.device)
        return sum(int(n_set_in[chunk.int()].sum()) for _, chunk in chunks(self.bits))

    @property
    def n_pruned(self) -> int:
        """How many weights are pruned."""
        return self.shape.numel() - self.n_kept

    def equals(self, other: "Mask") -> bool:
        """Whether both keep the same weights of the same shape."""
        return self.shape == other.shape and torch.equal(self.bits, other.bits)

    def revives(self, other: "Mask") -> bool:
        """Whether this keeps a weight that the other mask prunes."""
        parts = zip(chunks(self.bits), chunks(other.bits), strict=True)
        return any(bool((mine & ~theirs).any()) for (_, mine), (_, theirs) in parts)

    def to(self, device: torch.device) -> "Mask":
        """The same mask on another device."""
        return Mask(self.bits.to(device), self.shape)

    def zero_pruned_(self, tensor: Tensor) -> None:
        """Write +0.0 where the mask prunes; whatever stood there, NaN and inf too, is gone.

        Args:
            tensor: of the mask's shape, any dtype and strides: a weight, a gradient, a moment.
        """
        self.fill_pruned_(tensor, 0)

    def fill_pruned_(self, tensor: Tensor, value: float) -> None:
        """Write one value where the mask prunes.

        Args:
            tensor: of the mask's shape, any dtype and strides.
            value: what the tensor's dtype can hold.
        """
        self._check_fit(tensor)
        permuted, mask = self._as_laid_out(tensor)
        if (compiled := compiled_for(permuted, mask.bits)) is not None:
            compiled.pc_fill_pruned(*_addresses(permuted, mask.bits), bits_of(value, tensor.dtype) if value else 0)
        elif not permuted.is_contiguous():
            tensor.masked_fill_(~self.to_bool(), value)
        else:
            for start, chunk in chunks(permuted.view(-1)):
                chunk.masked_fill_(~mask.chunk(start, len(chunk)), value)

    def take_pruned_(self, tensor: Tensor, *, memory: Tensor | None = None) -> Tensor:
        """Take out the values where the mask prunes, in C order, (n_pruned,), and leave +0.0 in their places.

        Args:
            tensor: of the mask's shape, any dtype and strides.
            memory: what an earlier call returned and nobody needs any more: used again where it fits.
        """
        self._check_fit(tensor)
        plain = tensor.contiguous()
        if (compiled := compiled_for(plain, self.bits)) is not None:
            fits = memory is not None and memory.shape == (self.n_pruned,) and memory.dtype == tensor.dtype
            values = memory if memory is not None and fits else tensor.new_empty(self.n_pruned)
            compiled.pc_take_pruned(*_addresses(plain, self.bits), values.data_ptr(), len(values))
            if plain is not tensor:
                self.zero_pruned_(tensor)
            return values
        parts = [chunk[~self.chunk(start, len(chunk))] for start, chunk in chunks(plain.view(-1))]
        self.zero_pruned_(tensor)
        return torch.cat(parts) if parts else tensor.new_empty(0)

    def put_pruned_(self, tensor: Tensor, values: Tensor) -> None:
        """Write `values`, as `take_pruned_` returned them, back where the mask prunes.

        Args:
            tensor: of the mask's shape, any dtype and strides.
            values: converted to the tensor's dtype and device if they were taken from another.
        """
        self._check_fit(tensor)
        values, plain = values.to(tensor), tensor.contiguous()
        if (compiled := compiled_for(plain, self.bits, values)) is not None:
            compiled.pc_put_pruned(*_addresses(plain, self.bits), values.data_ptr(), len(values))
        else:
            done = 0
            for start, chunk in chunks(plain.view(-1)):
                pruned = ~self.chunk(start, len(chunk))
                count = int(pruned.count_nonzero())
                chunk[pruned] = values[done : done + count]
                done += count
        if plain is not tensor:
            tensor.copy_(plain)

    def _check_bits(self) -> None:
        """Look at it again before a kernel reads: a tensor can be resized at any time, in a frozen object too."""
        if self.bits.dtype != torch.uint8:
            raise OptionError(f"bits of {self.bits.dtype} are illegal: a mask's are torch.uint8")
        if self.bits.shape != (n_bytes(self.shape.numel()),):
            raise OptionError(f"bits of shape {tuple(self.bits.shape)} are illegal for weights of {tuple(self.shape)}")

    def _check_fit(self, tensor: Tensor) -> None:
        self._check_bits()
        if tensor.shape != self.shape:
            raise OptionError(f"tensor of shape {tuple(tensor.shape)} is illegal: the mask's is {tuple(self.shape)}")

    def _as_laid_out(self, tensor: Tensor) -> tuple[Tensor, "Mask"]:
        """A tensor and this mask, their dimensions in the order in which the tensor's lie in memory (channels_last)."""
        if tensor.is_contiguous():
            return tensor, self
        order = tuple(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
        permuted = tensor.permute(order)
        if not permuted.is_contiguous():
            return tensor, self
        if order not in self._permuted:
            self._permuted[order] = Mask.from_bool(self.to_bool().permute(order))
        return permuted, self._permuted[order]

    @functools.cached_property
    def _permuted(self) -> dict[tuple[int, ...], "Mask"]:
        """Order of dimensions -> this mask with them in that order; made once, as nobody writes into a mask."""
        return {}


def compiled_for(*tensors: Tensor) -> ctypes.CDLL | None:
    """The compiled kernels, where they can work on these tensors in place; None means: torch must.

    They can where each is a plain tensor of memory of this process: contiguous, on the CPU, its elements of 1, 2, 4
    or 8 bytes, which are what stands there and not its negative.

    Raises:
        OptionError: the storage of a tensor was made too small for it.
    """
    for tensor in tensors:
        if not tensor.is_cpu or type(tensor) not in _PLAIN or tensor.layout is not torch.strided:
            return None
        if tensor.element_size() not in INTEGERS or not tensor.is_contiguous() or tensor.is_neg() or tensor.is_conj():
            return None
        n_bytes_before = tensor.storage_offset() * tensor.element_size()
        if tensor.untyped_storage().nbytes() - n_bytes_before < tensor.nbytes:
            raise OptionError(
                f"a tensor of shape {tuple(tensor.shape)} has lost its memory: its storage was made smaller"
            )
    return native.library()


def _addresses(tensor: Tensor, bits: Tensor) -> tuple[int, int, int, int]:
    """A tensor and a mask's bits as a kernel wants them; it trusts that they fit."""
    return tensor.data_ptr(), bits.data_ptr(), tensor.numel(), tensor.element_size()


def as_array(tensor: Tensor) -> Any:  # noqa: ANN401 - what the two have in common has no type
    """A plain tensor on the CPU as a numpy array, whose comparisons take a fifth of torch's time; another as it is."""
    return tensor.numpy() if tensor.is_cpu and type(tensor) in _PLAIN else tensor


def bits_of(value: float, dtype: torch.dtype) -> int:
    """The bits of a number of this type, as an integer of its size."""
    return int(torch.tensor([value], dtype=dtype).view(INTEGERS[dtype.itemsize]))


def chunks(flat: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Views of some elements, each with the index of its first."""
    size = chunk_size(flat.device)
    for start in range(0, len(flat), size):
        yield start, flat[start : start + size]


def chunk_size(device: torch.device) -> int:
    """How many weights are worked on at a time: a multiple of 8, so that every chunk starts on a byte."""
    return CHUNK if device.type == "cpu" else _CHUNK_ELSEWHERE


def n_bytes(n_weights: int) -> int:
    """The length of the bits of that many weights."""
    return -(-n_weights // 8)


def pack(keep: Tensor) -> Tensor:
    """Flat bools as the bits of a mask."""
    if isinstance(array := as_array(keep), np.ndarray):
        return torch.from_numpy(np.packbits(array, bitorder="little"))
    eights = nn.functional.pad(keep, (0, -len(keep) % 8)).view(torch.int64)
    # Each of the eight bytes is 0 or 1: the product's top byte is their sum, each shifted to a bit of its own.
    return eights.mul(_SHIFT_EACH).bitwise_right_shift_(56).to(torch.uint8)


def unpack(bits: Tensor, count: int) -> Tensor:
    """The bits of a mask as that many flat bools."""
    if isinstance(array := as_array(bits), np.ndarray):
        return torch.from_numpy(np.unpackbits(array, count=count, bitorder="little").view(np.bool_))
    return _eight_bools(bits.device).index_select(0, bits.int()).view(torch.bool)[:count]


@functools.cache
def _eight_bools(device: torch.device) -> Tensor:
    """Byte -> its bits as bools, written as one number of eight bytes."""
    bits = torch.arange(256).unsqueeze(1).bitwise_right_shift(torch.arange(8)).bitwise_and(1)
    return bits.bool().view(torch.int64).view(-1).to(device)


_SHIFT_EACH = 0x0102040810204080 if sys.byteorder == "little" else 0x8040201008040201 - (1 << 64)
