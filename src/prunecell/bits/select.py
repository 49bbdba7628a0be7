"""The m smallest keys among weights: exact, the same on every machine, in about one pass and with little memory.

The answer is bracketed between two keys of a random sample; one pass over the weights counts what lies below the
bracket and collects the few keys inside, among which it is then looked up. Ties are broken by index.
"""

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecell.bits.mask import Mask, as_array, chunk_size, compiled_for, n_bytes, pack
from prunecell.bits.order import Array, Census, Keys, without_sign

_SMALL = 1 << 15
"""Weights below which all are looked at, without a bracket."""


@dataclass(frozen=True)
class Cut:
    """The m-th smallest key over some weights.

    Attributes:
        key: that key.
        n_below: how many keys are smaller; the m - n_below first ones equal to it belong to the m smallest.
    """

    key: int
    n_below: int


def smallest(weights: Sequence[Keys], m: int) -> Cut:
    """Find the m-th smallest key over all `weights` together.

    Args:
        weights: keys of one dtype.
        m: 1 <= m <= number of all weights.
    """
    return _select(weights, m)[0]


def shares(weights: Sequence[Keys], m: int) -> list[int]:
    """How many of the m smallest keys lie in each of `weights`: ties go by the order of the weights.

    Args:
        weights: keys of one dtype.
        m: 1 <= m <= number of all weights.
    """
    cut, censuses = _select(weights, m)
    n_ties, counts = m - cut.n_below, []
    for census in censuses:
        n_below, n_equal = census.count(cut.key)
        ties = min(n_equal, n_ties)
        n_ties -= ties
        counts.append(n_below + ties)
    return counts


def all_keys(weight: Keys) -> Array:
    """All keys at once, (n,): for few of them."""
    chunks = [without_sign(chunk).cpu().numpy() for _, chunk in _chunks(weight)]
    return np.concatenate(chunks) if chunks else np.empty(0, np.int8)


def prune_up_to(weight: Keys, cut: Cut, n_ties: int) -> Mask:
    """The mask that prunes every key below the cut's and the first `n_ties` (C order) equal to it."""
    n = weight.shape.numel()
    bits = torch.empty(n_bytes(n), dtype=torch.uint8, device=weight.device)
    for start, chunk in _chunks(weight):
        n_ties = _prune_chunk(chunk, cut.key, n_ties, bits[start // 8 : n_bytes(start + len(chunk))])
    return Mask(bits, weight.shape)


def _prune_chunk(chunk: Tensor, cut: int, n_ties: int, bits: Tensor) -> int:
    """Write the bits of one chunk; returns how many ties are left for the next."""
    if (compiled := compiled_for(chunk, bits)) is not None:
        left = ctypes.c_int64(n_ties)
        address = chunk.data_ptr(), len(chunk), chunk.element_size()
        compiled.pc_prune_up_to(*address, cut, ctypes.byref(left), bits.data_ptr())
        return left.value
    keys = as_array(without_sign(chunk))
    keep = keys >= cut
    if n_ties > 0:
        ties = _indices(keys == cut)[:n_ties]
        keep[ties] = False
        n_ties -= len(ties)
    bits.copy_(pack(torch.as_tensor(keep)))
    return n_ties


def _select(weights: Sequence[Keys], m: int) -> tuple[Cut, list[Census]]:
    for censuses in _censuses(weights, m):
        if (key := _find(censuses, m)) is not None:
            return Cut(key, sum(c.count(key)[0] for c in censuses)), censuses
    raise AssertionError(f"m={m} is more than there are weights")


def _censuses(weights: Sequence[Keys], m: int) -> Iterator[list[Census]]:
    """What an earlier selection learned of a single weight tensor, then new ones, of wider and wider brackets."""
    if len(weights) == 1 and (known := weights[0].census) is not None:
        yield [known]
    for low, high in _brackets(weights, m):
        censuses = [_census(weight, low, high) for weight in weights]
        for weight, census in zip(weights, censuses, strict=True):
            weight.census = census
        yield censuses


def _find(censuses: list[Census], m: int) -> int | None:
    """The m-th smallest key, or None where it lies outside the bracket."""
    index = m - 1 - sum(c.n_below for c in censuses)
    if index < 0:
        return None
    if (index := index - sum(c.n_low for c in censuses)) < 0:
        return censuses[0].low
    between = np.concatenate([c.between for c in censuses])
    if index < len(between):
        return int(np.partition(between, index)[index])
    return censuses[0].high if index - len(between) < sum(c.n_high for c in censuses) else None


def _census(weight: Keys, low: int, high: int) -> Census:
    counts, between = np.zeros(3, np.int64), []
    for _, chunk in _chunks(weight):
        counts_here, between_here = _census_of_chunk(chunk, low, high)
        counts += counts_here
        between.append(between_here)
    n_below, n_low, n_high = counts.tolist()
    return Census(low, high, n_below, n_low, n_high, np.concatenate(between) if between else np.empty(0, np.int8))


def _census_of_chunk(chunk: Tensor, low: int, high: int) -> tuple[tuple[int, int, int], Array]:
    """The counts below low, at low and at high, and the keys between."""
    if (compiled := compiled_for(chunk)) is not None:
        counts, room = (ctypes.c_int64 * 4)(), torch.empty_like(chunk)
        address = chunk.data_ptr(), len(chunk), chunk.element_size()
        compiled.pc_census(*address, low, high, room.data_ptr(), counts)
        n_below, n_low, n_between, n_high = counts
        return (n_below, n_low, n_high), room.numpy()[:n_between].copy()
    keys = as_array(without_sign(chunk))
    n_below = _count(keys < low)
    inside = torch.as_tensor(keys[(keys >= low) & (keys <= high)]).cpu().numpy()
    between = inside[(inside > low) & (inside < high)]
    n_low = int(np.count_nonzero(inside == low))
    return (n_below, n_low, len(inside) - len(between) - n_low), between


def _count(flags: Tensor | Array) -> int:
    return int(flags.count_nonzero()) if isinstance(flags, Tensor) else int(np.count_nonzero(flags))


def _indices(flags: Tensor | Array) -> Tensor | Array:
    return flags.nonzero().view(-1) if isinstance(flags, Tensor) else np.flatnonzero(flags)


def _brackets(weights: Sequence[Keys], m: int) -> Iterator[tuple[int, int]]:
    """Where the m-th smallest key may lie, first narrow, then wider, at last anywhere.

    The sample only decides how many passes are made, never the result.
    """
    n = sum(weight.shape.numel() for weight in weights)
    largest = torch.iinfo(weights[0].dtype).max
    if n > _SMALL:
        sample = _sample(weights, n)
        p, size = m / n, len(sample)
        width = 3 * math.sqrt(p * (1 - p) / size) + 4 / size
        while width < 1:
            low, high = math.floor((p - width) * size), math.ceil((p + width) * size)
            yield int(sample[low]) if low > 0 else 0, int(sample[high]) if high < size else largest
            width *= 8
    yield 0, largest


def _sample(weights: Sequence[Keys], n: int) -> Array:
    """About n^(2/3) sorted keys, each weight tensor contributing in proportion to its size."""
    size = min(max(4096, int(n ** (2 / 3))), 1 << 18)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for weight in weights:
        n_here = weight.shape.numel()
        index = torch.randint(max(n_here, 1), (math.ceil(size * n_here / n),), generator=generator)
        samples.append(weight.at(index.to(weight.device)).cpu().numpy())
    return np.sort(np.concatenate(samples))


def _chunks(weight: Keys) -> Iterator[tuple[int, Tensor]]:
    n, size = weight.shape.numel(), chunk_size(weight.device)
    for start in range(0, n, size):
        yield start, weight.chunk(start, min(start + size, n))
