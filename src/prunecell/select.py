"""The m smallest magnitudes among weights: exact, the same on every machine, with little memory.

A float's bits without its sign order like its magnitude (-0.0 equals 0.0, NaN comes after inf), so all is done
on these integers, the *keys*, and no rounding ever enters. Ties are broken by index.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.errors import OptionTypeError
from prunecell.masks import CHUNK, Mask

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SMALL = 200_000
"""Weights below which one sort-like call beats bracketing from a sample."""


@dataclass(frozen=True)
class Cut:
    """The m-th smallest key over some weights.

    Attributes:
        key: that key.
        n_below: how many keys are smaller; the m - n_below first ones equal to it belong to the m smallest.
    """

    key: int
    n_below: int


def keys(weight: Tensor) -> Tensor:
    """The magnitudes of a float tensor as integers of the same size and order.

    >>> keys(torch.tensor([0.0, -0.0, -1.0, 1.0])).tolist()
    [0, 0, 1065353216, 1065353216]
    """
    if not weight.is_floating_point():
        raise OptionTypeError(f"weight of dtype {weight.dtype} is illegal: only floating point has magnitudes here")
    integer = _INTEGERS[weight.element_size()]
    return weight.view(integer) & torch.iinfo(integer).max


def key_at_most(value: float, dtype: torch.dtype) -> int:
    """The key of the largest finite number of `dtype` that is not above `value` >= 0.

    >>> key_at_most(math.inf, torch.float32) == int(keys(torch.tensor([torch.finfo().max])))
    True
    """
    largest = torch.finfo(dtype).max
    number = torch.tensor([min(value, largest)], dtype=torch.float64).to(dtype)
    return int(keys(number)) - int(float(number) > value)


def value_of_key(key: int, dtype: torch.dtype) -> float:
    """The magnitude that has this key."""
    return float(torch.tensor([key], dtype=_INTEGERS[dtype.itemsize]).view(dtype))


def smallest(weights: Sequence[Tensor], m: int) -> Cut:
    """Find the m-th smallest magnitude over all `weights` together.

    Args:
        weights: floating point tensors of one dtype, any shapes.
        m: 1 <= m <= number of all weights.
    """
    flats = [w.detach().reshape(-1) for w in weights]
    n = sum(map(len, flats))
    if n <= _SMALL:
        return _smallest_of(torch.cat([keys(f) for f in flats]), m)
    return _smallest_bracketed(flats, m, n)


def prune_up_to(weight: Tensor, cut: Cut, n_ties: int) -> Mask:
    """The mask that prunes every key below the cut's and the first `n_ties` (C order) equal to it."""
    flat = weight.detach().reshape(-1)
    keep = torch.empty(len(flat), dtype=torch.bool, device=weight.device)
    for start in range(0, len(flat), CHUNK):
        chunk = keys(flat[start : start + CHUNK])
        kept = chunk >= cut.key
        ties = (chunk == cut.key).nonzero().view(-1)[:n_ties]
        kept[ties] = False
        n_ties -= len(ties)
        keep[start : start + CHUNK] = kept
    return Mask.from_bool(keep.view(weight.shape))


def count_to(weight: Tensor, key: int) -> tuple[int, int]:
    """How many keys of `weight` are below `key`, and how many equal it."""
    n_below = n_equal = 0
    flat = weight.detach().reshape(-1)
    for start in range(0, len(flat), CHUNK):
        chunk = keys(flat[start : start + CHUNK])
        n_below += int((chunk < key).count_nonzero())
        n_equal += int((chunk == key).count_nonzero())
    return n_below, n_equal


def _smallest_of(some_keys: Tensor, m: int) -> Cut:
    key = int(some_keys.kthvalue(m).values)
    return Cut(key, int((some_keys < key).count_nonzero()))


def _smallest_bracketed(flats: Sequence[Tensor], m: int, n: int) -> Cut:
    """Bracket the answer between two keys of a random sample, then select among the few keys inside.

    The sample only decides how many passes are made, never the result: a bracket that misses is widened.
    """
    sample = _sample(flats, n)
    p = m / n
    width = 4 * math.sqrt(p * (1 - p) / len(sample)) + 4 / len(sample)
    while True:
        low, high = math.floor((p - width) * len(sample)), math.ceil((p + width) * len(sample))
        low_key = int(sample[low]) if low > 0 else 0
        high_key = int(sample[high]) if high < len(sample) else torch.iinfo(sample.dtype).max
        n_below, inside = 0, []
        for flat in flats:
            for start in range(0, len(flat), CHUNK):
                chunk = keys(flat[start : start + CHUNK])
                above = chunk >= low_key
                n_below += len(chunk) - int(above.count_nonzero())
                inside.append(chunk[above.logical_and_(chunk <= high_key)])
        among = torch.cat(inside)
        if n_below < m <= n_below + len(among):
            cut = _smallest_of(among, m - n_below)
            return Cut(cut.key, n_below + cut.n_below)
        width *= 4


def _sample(flats: Sequence[Tensor], n: int) -> Tensor:
    """About n^(2/3) sorted keys, each weight tensor contributing in proportion to its size."""
    size = min(max(4096, int(n ** (2 / 3))), 1 << 18)
    generator = torch.Generator().manual_seed(0)
    parts = []
    for flat in flats:
        index = torch.randint(max(len(flat), 1), (math.ceil(size * len(flat) / n),), generator=generator)
        parts.append(keys(flat[index.to(flat.device)]))
    return torch.cat(parts).sort().values
