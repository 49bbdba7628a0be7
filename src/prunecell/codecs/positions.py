"""Where the kept words of a tensor are: gaps between them, or one bit for every word.

A kept word is one whose bits are not all zero, so -0.0 is kept. `gaps8` spends a byte on the zeros before each kept
word, and more bytes on a long gap; `gaps32` spends a 32-bit number, and `mask` spends a bit on every word. When they
are entropy coded, a mask is smallest below about 75 % sparsity, and gaps are smallest above.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import Reader, read_exactly
from prunecell.errors import FormatError

CHUNK = 1 << 17  # words in a chunk, so few that they and what is made of them stay in the cache
GAPS = CHUNK >> 4  # gaps in a chunk; a gap spans several words
LITERALS = 240  # a byte b below this one means b zeros, then a kept word
SKIPS = 256 - LITERALS  # a byte 240 + k means 240 << k zeros, and no kept word
_BYTE: np.dtype[Any] = np.dtype("u1")
_ADVANCE = np.array([b + 1 for b in range(LITERALS)] + [LITERALS << k for k in range(SKIPS)], np.int64)
_NOWHERE: Numbers = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The words [start, stop) of the flattened tensor, and the positions of the kept ones, int64, ascending."""

    start: int
    stop: int
    positions: Numbers


class PositionWriter(Protocol):
    """Turns chunk after chunk of a tensor into numbers."""

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write the positions of the kept words of the next chunk, which has `size` words, counted from its start.

        `size` is a multiple of 8 in all chunks but the last.
        """


@dataclass(frozen=True, kw_only=True)
class PositionForm:
    """A way to write positions as one stream of numbers.

    Attributes:
        dtype: of its numbers.
        count: (kept words, words of the tensor) -> how many numbers there are; None where only the stream itself tells.
        writer: makes what turns positions into numbers.
        read: (stream, words of the tensor) -> chunks that cover the tensor from its start, and may end before its end.
    """

    dtype: np.dtype[Any]
    count: Callable[[int, int], int | None]
    writer: Callable[[], PositionWriter]
    read: Callable[[Reader, int], Iterator[Chunk]]


def gap_bytes(gaps: Numbers) -> Numbers:
    """Write each gap as one skip per set bit of gap // 240, and the literal gap % 240.

    Every gap must be below 240 << 16.

    >>> gap_bytes(np.array([0, 239, 240, 725])).tolist()
    [0, 239, 240, 0, 240, 241, 5]
    """
    multiples, literals = np.divmod(gaps, LITERALS)
    long = np.flatnonzero(multiples)
    which, skip = np.nonzero((multiples[long, None] >> np.arange(SKIPS)) & 1)
    symbols: Numbers = np.insert(literals.astype(_BYTE), long[which], (LITERALS + skip).astype(_BYTE))
    return symbols


class _Gaps:
    """Counts the zeros before each kept word; the zeros at the end of a chunk count for the next one."""

    def __init__(self) -> None:
        self._carried = 0

    def gaps(self, positions: Numbers, size: int) -> Numbers:
        """Return the zeros before each kept word of the chunk."""
        if not len(positions):
            self._carried += size
            return _NOWHERE
        gaps: Numbers = np.diff(positions, prepend=-1) - 1
        gaps[0] += self._carried
        self._carried = size - 1 - int(positions[-1])
        return gaps


class GapByteWriter(_Gaps):
    """Writes `gaps8`."""

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write the gaps of a chunk."""
        gaps = self.gaps(positions, size)
        if not len(gaps):
            return gaps.astype(_BYTE)
        longest = LITERALS << (SKIPS - 1)  # a gap longer than all skips together begins with several of the longest
        n_longest, gaps[0] = divmod(int(gaps[0]), 2 * longest)
        return np.insert(gap_bytes(gaps), 0, np.full(2 * n_longest, 255, _BYTE))


class GapNumberWriter(_Gaps):
    """Writes `gaps32`."""

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write the gaps of a chunk."""
        return self.gaps(positions, size).astype("<u4")


class MaskWriter:
    """Writes `mask`: word i of the tensor in bit i % 8 of byte i // 8, counted from the lowest."""

    def numbers(self, positions: Numbers, size: int) -> Numbers:
        """Write the bits of a chunk."""
        kept = np.zeros(size, _BYTE)
        kept[positions] = 1
        return np.packbits(kept, bitorder="little")


def read_gap_bytes(stream: Reader, n_words: int) -> Iterator[Chunk]:
    """Turn gap bytes back into positions."""
    start, last = 0, 0
    while len(symbols := stream.read(GAPS)):
        plain = symbols.max() < LITERALS
        ends = np.cumsum(symbols.astype(np.int64) + 1) if plain else np.cumsum(_ADVANCE[symbols])
        ends += start
        stop, last = _end_of_chunk(ends, n_words), int(symbols[-1])
        ends -= 1
        yield Chunk(start=start, stop=stop, positions=ends if plain else ends[symbols < LITERALS])
        start = stop
    if last >= LITERALS:
        raise FormatError("the gaps end with a skip")


def read_gap_numbers(stream: Reader, n_words: int) -> Iterator[Chunk]:
    """Turn whole gaps back into positions."""
    start = 0
    while len(gaps := stream.read(GAPS)):
        ends = np.cumsum(gaps.astype(np.int64) + 1)
        ends += start
        stop = _end_of_chunk(ends, n_words)
        ends -= 1
        yield Chunk(start=start, stop=stop, positions=ends)
        start = stop


def _end_of_chunk(ends: Numbers, n_words: int) -> int:
    if ends[-1] > n_words:
        raise FormatError(f"the gaps lead past the end of {n_words} words")
    return int(ends[-1])


def read_mask(stream: Reader, n_words: int) -> Iterator[Chunk]:
    """Turn a mask back into positions."""
    for start in range(0, n_words, CHUNK):
        size = min(CHUNK, n_words - start)
        kept = np.unpackbits(read_exactly(stream, (size + 7) // 8), bitorder="little").view(np.bool_)
        if kept[size:].any():
            raise FormatError(f"the mask has bits set past the end of {n_words} words")
        positions = np.flatnonzero(kept)
        positions += start
        yield Chunk(start=start, stop=start + size, positions=positions)


POSITION_FORMS = {
    "gaps8": PositionForm(dtype=_BYTE, count=lambda _n_kept, _n_words: None, writer=GapByteWriter, read=read_gap_bytes),
    "gaps32": PositionForm(
        dtype=np.dtype("<u4"), count=lambda n_kept, _n_words: n_kept, writer=GapNumberWriter, read=read_gap_numbers
    ),
    "mask": PositionForm(
        dtype=_BYTE, count=lambda _n_kept, n_words: (n_words + 7) // 8, writer=MaskWriter, read=read_mask
    ),
}
"""Name in a file -> form of positions. "all" and "none" have no stream."""


def read_all(n_words: int) -> Iterator[Chunk]:
    """Give every position, because all words are kept."""
    for start in range(0, n_words, CHUNK):
        stop = min(start + CHUNK, n_words)
        yield Chunk(start=start, stop=stop, positions=np.arange(start, stop))


def cover(chunks: Iterator[Chunk], n_words: int) -> Iterator[Chunk]:
    """Give the chunks, and one more for the zeros after the last of them."""
    stop = 0
    for chunk in chunks:
        yield chunk
        stop = chunk.stop
    if stop < n_words or not n_words:
        yield Chunk(start=stop, stop=n_words, positions=_NOWHERE)
