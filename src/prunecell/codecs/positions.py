"""Where the kept words of a tensor are: gaps between them, or one bit for every word.

A kept word is one whose bits are not all zero, so -0.0 is kept. `gaps8` spends a byte on the zeros before
each kept word and more bytes on long gaps; `gaps32` a 32-bit number; `mask` a bit on each word. Which is
smallest depends on the sparsity: masks below about 75 %, gaps above.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import Reader
from prunecell.errors import FormatError

CHUNK = 1 << 18  # words looked at in one go: they and what is made of them stay in the cache
_LITERALS = 240  # a byte below it: so many zeros, then a kept word
_SKIPS = 256 - _LITERALS  # a byte from it on, 240 + k: 240 << k zeros and no word
_LONGEST = _LITERALS << (_SKIPS - 1)
_STEPS = np.array([b + 1 for b in range(_LITERALS)] + [_LITERALS << k for k in range(_SKIPS)], np.int64)


@dataclass(frozen=True, kw_only=True)
class Where:
    """A stretch [start, stop) of the flat tensor and the positions of its kept words, ascending."""

    start: int
    stop: int
    positions: Numbers


def gap_bytes(gaps: Numbers) -> Numbers:
    """Write each gap as the skips of the set bits of gap // 240, then the literal gap % 240.

    Every gap must be below 240 << 16.

    >>> gap_bytes(np.array([0, 239, 240, 725])).tolist()
    [0, 239, 240, 0, 240, 241, 5]
    """
    if not len(gaps) or gaps.max() < _LITERALS:
        return gaps.astype(np.uint8)
    skips, literals = np.divmod(gaps, _LITERALS)
    bits = (skips[:, None] >> np.arange(_SKIPS)) & 1  # one row a gap, one column a skip
    table = np.concatenate([bits * (_LITERALS + np.arange(_SKIPS)), literals[:, None]], axis=1)
    used = np.concatenate([bits.astype(bool), np.ones((len(gaps), 1), bool)], axis=1)
    symbols: Numbers = table[used].astype(np.uint8)
    return symbols


class GapBytes:
    """Turns chunk after chunk into gap bytes; zeros at the end of a chunk are carried to the next."""

    dtype: np.dtype[Any] = np.dtype("u1")

    def __init__(self) -> None:
        self._carry = 0

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write the positions of a chunk of `size` words, relative to its start."""
        if not len(positions):
            self._carry += size
            return np.empty(0, self.dtype)
        gaps = np.diff(positions, prepend=-1) - 1
        gaps[0] += self._carry
        self._carry = size - 1 - int(positions[-1])
        return self._symbols(gaps)

    def _symbols(self, gaps: Numbers) -> Numbers:
        n_longest, gaps[0] = divmod(int(gaps[0]), 2 * _LONGEST)
        longest = np.full(2 * n_longest, 255, np.uint8)
        return np.concatenate([longest, gap_bytes(gaps)])


class GapNumbers(GapBytes):
    """Turns chunk after chunk into whole gaps."""

    dtype = np.dtype("<u4")

    def _symbols(self, gaps: Numbers) -> Numbers:
        return gaps.astype(self.dtype)


class MaskBytes:
    """Turns chunk after chunk into bits, the first word in the lowest bit of the first byte."""

    dtype: np.dtype[Any] = np.dtype("u1")

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write a chunk of `size` words, a multiple of 8 in all chunks but the last."""
        kept = np.zeros(size, np.uint8)
        kept[positions] = 1
        return np.packbits(kept, bitorder="little")


def read_gap_bytes(stream: Reader, count: int, n_words: int) -> Iterator[Where]:
    """Turn `count` gap bytes back into positions."""
    start = 0
    for at in range(0, count, CHUNK):
        symbols = stream.read(min(CHUNK, count - at))
        ends = np.cumsum(_STEPS[symbols])
        ends += start
        stop = int(ends[-1])
        if stop > n_words:
            raise FormatError("gaps lead past the end of the tensor")
        literal = symbols < _LITERALS
        positions = (ends if literal.all() else ends[literal]) - 1
        yield Where(start=start, stop=stop, positions=positions)
        start = stop
    if count and not literal[-1]:
        raise FormatError("gaps end with a skip")
    yield Where(start=start, stop=n_words, positions=np.empty(0, np.int64))


def read_gap_numbers(stream: Reader, count: int, n_words: int) -> Iterator[Where]:
    """Turn `count` whole gaps back into positions."""
    start = 0
    for at in range(0, count, CHUNK):
        gaps = stream.read(min(CHUNK, count - at)).astype(np.int64)
        gaps += 1
        ends = np.cumsum(gaps)
        ends += start
        stop = int(ends[-1])
        if stop > n_words:
            raise FormatError("gaps lead past the end of the tensor")
        yield Where(start=start, stop=stop, positions=ends - 1)
        start = stop
    yield Where(start=start, stop=n_words, positions=np.empty(0, np.int64))


def read_mask(stream: Reader, count: int, n_words: int) -> Iterator[Where]:
    """Turn a mask of `count` bytes back into positions."""
    if count != (n_words + 7) // 8:
        raise FormatError(f"a mask of {count} bytes for {n_words} words")
    for start in range(0, n_words, CHUNK):
        size = min(CHUNK, n_words - start)
        kept = np.unpackbits(stream.read((size + 7) // 8), bitorder="little")
        if kept[size:].any():
            raise FormatError("a mask has bits set past the end of the tensor")
        positions = np.flatnonzero(kept[:size].view(np.bool_))
        positions += start
        yield Where(start=start, stop=start + size, positions=positions)


def read_all(n_words: int) -> Iterator[Where]:
    """Every word is kept: give their positions, stretch by stretch."""
    for start in range(0, n_words, CHUNK):
        stop = min(start + CHUNK, n_words)
        yield Where(start=start, stop=stop, positions=np.arange(start, stop))


@dataclass(frozen=True, kw_only=True)
class PositionForm:
    """A way to write positions: what makes its numbers, and what reads them."""

    name: str
    writer: Callable[[], GapBytes | MaskBytes]
    read: Callable[[Reader, int, int], Iterator[Where]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the numbers in the stream."""
        return self.writer().dtype


POSITION_FORMS = {
    "gaps8": PositionForm(name="gaps8", writer=GapBytes, read=read_gap_bytes),
    "gaps32": PositionForm(name="gaps32", writer=GapNumbers, read=read_gap_numbers),
    "mask": PositionForm(name="mask", writer=MaskBytes, read=read_mask),
}
