"""Keys: one integer a weight, or a group of weights, in the order in which they are pruned.

Selection works on integers, the *keys*, so no rounding ever enters it: the m smallest keys are pruned. Four kinds:

    Magnitudes   a float's bits without its sign: they order as its magnitude does, exactly, in every dtype
    Draws        a hash of the weight's index: a random choice by the same machinery
    Scores       numbers of any sign that a criterion returned: higher keeps
    Listed       integers as they are: keys of another kind that were changed
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from prunecell.bits.mask import INTEGERS, Mask, compiled_for
from prunecell.errors import OptionError, OptionTypeError

Array = np.ndarray[tuple[int], np.dtype[np.signedinteger[Any]]]

LARGEST_DRAW = 1 << 29
LARGEST = (1 << 63) - 1
"""The largest key of all."""
_32_BITS = 0xFFFFFFFF
INT64_BYTES = 8


@dataclass(frozen=True)
class Census:
    """How the keys of one weight tensor lie about a bracket [low, high].

    Attributes:
        n_low: keys equal to low.
        n_high: keys equal to high, where that is not low.
        between: the keys inside, without those equal to low or high; (any,), in any order.
    """

    low: int
    high: int
    n_below: int
    n_low: int
    n_high: int
    between: Array

    def count(self, key: int) -> tuple[int, int]:
        """How many keys are below `key`, low <= key <= high, and how many equal it."""
        if key == self.low:
            return self.n_below, self.n_low
        n_below = self.n_below + self.n_low + int(np.count_nonzero(self.between < key))
        return n_below, self.n_high if key == self.high else int(np.count_nonzero(self.between == key))


class Keys(Protocol):
    """Keys of one weight tensor, made chunk by chunk, so that they never stand in memory all at once.

    Attributes:
        shape: of the weight.
        device: where its mask belongs.
        dtype: int8, int16, int32 or int64.
        census: what the last selection learned; where the next one finds its answer in it, it makes no pass.
    """

    shape: torch.Size
    device: torch.device
    dtype: torch.dtype
    census: Census | None

    def chunk(self, start: int, stop: int) -> Tensor:
        """The keys of the weights [start, stop), in C order; sign bits are not looked at. Not to be written to."""
        ...

    def at(self, index: Tensor) -> Tensor:
        """The keys of some weights, index int64 (any,)."""
        ...

    def scores(self) -> Tensor:
        """What the keys order, as floats of the weight's shape: for sums over groups of weights."""
        ...


class Magnitudes:
    """The keys of a float tensor: the m smallest are the m smallest magnitudes.

    Raises:
        OptionTypeError: it is not of floating point.
    """

    def __init__(self, weight: Tensor) -> None:
        self.shape, self.device = weight.shape, weight.device
        self.census: Census | None = None
        self._flat = weight.detach().reshape(-1)
        self._bits = _bits_of(self._flat)
        self.dtype = self._bits.dtype

    def chunk(self, start: int, stop: int) -> Tensor:
        """See `Keys`."""
        return self._bits[start:stop]

    def at(self, index: Tensor) -> Tensor:
        """See `Keys`."""
        return without_sign(self._bits[index])

    def scores(self) -> Tensor:
        """See `Keys`."""
        return self._flat.view(self.shape).abs()

    def after(self, alive: Tensor) -> "Magnitudes":
        """The same magnitudes, but that what is not alive (bool, of the weight's shape) comes before all others.

        Zeros that are alive count as the smallest magnitude above zero.
        """
        alive = alive.reshape(-1)
        is_zero = self._flat == 0
        if torch.equal(is_zero, ~alive):
            return self
        bits = self._bits.masked_fill(is_zero, 1).masked_fill_(~alive, 0)
        return Magnitudes(bits.view(self._flat.dtype).view(self.shape))


class Draws:
    """Keys drawn at random, the same on every machine: the m smallest are m weights chosen uniformly.

    What the mask prunes already comes first, then exact zeros, then the rest. Each key depends on the seed and the
    weight's index only: it is a hash of them, made with the steps of the integer mixer "lowbias32" (Chris Wellons,
    2018, https://nullprogram.com/blog/2018/07/31/); half the seed enters before the first step, half after it.

    Args:
        weight: the values; only whether they are zero matters.
        mask: of the weight's shape.
        seed: in [0, 2^63).

    Raises:
        OptionError: the shapes differ.
    """

    dtype = torch.int32

    def __init__(self, weight: Tensor, mask: Mask, seed: int) -> None:
        if mask.shape != weight.shape:
            raise OptionError(f"mask of shape {tuple(mask.shape)} is illegal: the weight's is {tuple(weight.shape)}")
        self.shape, self.device = weight.shape, weight.device
        self.census: Census | None = None
        self._flat = weight.detach().reshape(-1)
        self._mask, self._seed = mask, seed

    def chunk(self, start: int, stop: int) -> Tensor:
        """See `Keys`."""
        values, bits = self._flat[start:stop], self._mask.bits[start // 8 :]
        compiled = compiled_for(values, bits) if values.is_floating_point() else None
        if compiled is None:
            index = np.arange(stop - start, dtype=np.uint32) + np.uint32(start & _32_BITS)
            return _ranked(self._drawn(index), values, self._mask.chunk(start, stop - start))
        keys = torch.empty(stop - start, dtype=self.dtype)
        size = values.element_size()
        compiled.pc_random_keys(
            values.data_ptr(), bits.data_ptr(), len(values), size, start, self._seed, keys.data_ptr()
        )
        return keys

    def at(self, index: Tensor) -> Tensor:
        """See `Keys`."""
        keep = self._mask.bits[index // 8] >> (index % 8) & 1
        return _ranked(self._drawn(index.cpu().numpy().astype(np.uint32)), self._flat[index], keep)

    def scores(self) -> Tensor:
        """See `Keys`."""
        return self.chunk(0, len(self._flat)).view(self.shape).double()

    def _drawn(self, x: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> Tensor:
        """Indices, modulo 2^32, -> numbers uniform in [1, LARGEST_DRAW], int32."""
        x ^= np.uint32(self._seed & _32_BITS)
        x ^= x >> 16
        x *= np.uint32(0x7FEB352D)
        x += np.uint32(self._seed >> 32)
        x ^= x >> 16
        x *= np.uint32(0x7FEB352D)
        x ^= x >> 15
        x *= np.uint32(0x846CA68B)
        x ^= x >> 16
        x >>= 3
        return torch.from_numpy(x.view(np.int32)).add_(1).to(self.device)


class Scores:
    """The keys of scores of any sign: the m smallest are the m lowest scores. -0.0 equals 0.0, NaN is the highest.

    Of numbers of 64 bits the last bit is not looked at, because a key has 63.

    Args:
        scores: any real dtype, of the weight's shape or one a group.

    Raises:
        OptionTypeError: they are complex.
    """

    dtype = torch.int64

    def __init__(self, scores: Tensor) -> None:
        if scores.is_complex():
            raise OptionTypeError(f"scores of dtype {scores.dtype} are illegal: they must be real")
        self.shape, self.device = scores.shape, scores.device
        self.census: Census | None = None
        self._flat = scores.detach().reshape(-1)

    def chunk(self, start: int, stop: int) -> Tensor:
        """See `Keys`."""
        return _ordered(self._flat[start:stop])

    def at(self, index: Tensor) -> Tensor:
        """See `Keys`."""
        return _ordered(self._flat[index])

    def scores(self) -> Tensor:
        """See `Keys`."""
        return self._flat.view(self.shape)

    def after(self, alive: Tensor) -> "Scores":
        """The same scores, but that what is not alive (bool, of their shape) comes before all others."""
        scores = self.scores()
        lowest = -math.inf if scores.is_floating_point() else torch.iinfo(scores.dtype).min
        return Scores(scores.masked_fill(~alive, lowest))


class Listed:
    """Keys that stand in memory: those of another kind, some of which were put first or last.

    Args:
        keys: int64 in [0, 2^63), of the weight's shape.
    """

    dtype = torch.int64

    def __init__(self, keys: Tensor) -> None:
        self.shape, self.device = keys.shape, keys.device
        self.census: Census | None = None
        self._flat = keys.reshape(-1)

    def chunk(self, start: int, stop: int) -> Tensor:
        """See `Keys`."""
        return self._flat[start:stop]

    def at(self, index: Tensor) -> Tensor:
        """See `Keys`."""
        return self._flat[index]

    def scores(self) -> Tensor:
        """See `Keys`."""
        return self._flat.view(self.shape).double()


def listed(keys: Keys) -> Tensor:
    """All keys at once, int64 of the weight's shape."""
    return without_sign(keys.chunk(0, keys.shape.numel())).long().view(keys.shape)


def _ordered(values: Tensor) -> Tensor:
    """Numbers -> int64 in [0, 2^63), in the same order."""
    if not values.is_floating_point():
        return (values.long() >> 1) + (1 << 62) if values.element_size() == INT64_BYTES else values.long() + (1 << 31)
    numbers = values if values.element_size() == INT64_BYTES else values.float()
    numbers = (numbers + 0.0).masked_fill(numbers.isnan(), torch.nan)  # -0.0 + 0.0 is 0.0; one NaN for all
    bits = numbers.view(INTEGERS[numbers.element_size()])
    largest = torch.iinfo(bits.dtype).max
    ascending = bits ^ ((bits >> bits.element_size() * 8 - 1) & largest)  # from the most negative to NaN
    return (ascending >> 1) + (1 << 62) if bits.dtype == torch.int64 else ascending.long() + (1 << 31)


def keys(weight: Tensor) -> Tensor:
    """The magnitudes of a float tensor as integers of the same size and order.

    >>> keys(torch.tensor([0.0, -0.0, -1.0, 1.0])).tolist()
    [0, 0, 1065353216, 1065353216]
    """
    return without_sign(_bits_of(weight))


def without_sign(bits: Tensor) -> Tensor:
    """Integers with their highest bit cleared."""
    return bits & torch.iinfo(bits.dtype).max


def key_at_most(value: float, dtype: torch.dtype) -> int:
    """The key of the largest finite number of `dtype` that is not above `value` >= 0.

    >>> key_at_most(float("inf"), torch.float32) == int(keys(torch.tensor([torch.finfo().max])))
    True
    """
    largest = torch.finfo(dtype).max
    number = torch.tensor([min(value, largest)], dtype=torch.float64).to(dtype)
    return int(keys(number)) - int(float(number) > value)


def value_of_key(key: int, dtype: torch.dtype) -> float:
    """The magnitude that has this key."""
    return float(torch.tensor([key], dtype=INTEGERS[dtype.itemsize]).view(dtype))


def _bits_of(weight: Tensor) -> Tensor:
    if not weight.is_floating_point():
        raise OptionTypeError(f"weight of dtype {weight.dtype} is illegal: only floating point has magnitudes here")
    return weight.view(INTEGERS[weight.element_size()])


def _ranked(drawn: Tensor, values: Tensor, keep: Tensor) -> Tensor:
    """What is pruned gets 0, zeros keep what was drawn, and the rest comes after all of them."""
    return drawn.add_(values.ne(0), alpha=LARGEST_DRAW).mul_(keep)
