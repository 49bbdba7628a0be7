"""Where the kept words of a tensor are: gaps between them, or one bit for every word.

A kept word is one whose bits are not all zero, so -0.0 is kept. `gaps8` spends a byte on the zeros before each kept
word, and more bytes on a long gap; `gaps32` spends a 32-bit number, and `mask` spends a bit on every word. When they
are entropy coded, a mask is smallest below about 75 % sparsity, and gaps are smallest above.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.kept import LITERALS, count_of, places_of, read_gaps, write_gaps
from prunecell.codecs.streams import Reader, read_exactly
from prunecell.errors import FormatError

CHUNK = 1 << 19  # words in a chunk: few enough to take little memory, enough for threads to meet seldom
SMALL_CHUNK = 1 << 16  # the same where memory counts more
_BYTE: np.dtype[Any] = np.dtype("u1")
_NOWHERE: Numbers = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """The words [start, stop) of the flattened tensor, of which some are kept.

    Attributes:
        n_kept: how many.
        bits: one for each word, set where it is kept; None where it is the positions that are known.
        find: returns the positions.
    """

    start: int
    stop: int
    n_kept: int
    bits: Numbers | None = None
    find: Callable[[], Numbers]

    @cached_property
    def positions(self) -> Numbers:
        """The positions of the kept words, int64, ascending, in [start, stop)."""
        return self.find()


def chunk_at(start: int, stop: int, positions: Numbers) -> Chunk:
    """A chunk whose positions are known.

    >>> chunk_at(10, 20, np.array([12, 15])).n_kept
    2
    """
    return Chunk(start=start, stop=stop, n_kept=len(positions), find=lambda: positions)


class PositionWriter(Protocol):
    """Turns chunk after chunk of a tensor into numbers."""

    def numbers(self, bits: Numbers, size: int) -> Numbers:
        """Write the positions of the kept words of the next chunk, which has `size` words: its bits are set.

        `size` is a multiple of 8 in all chunks but the last. Bits past the last word are 0.
        """


@dataclass(frozen=True, kw_only=True)
class PositionForm:
    """A way to write positions as one stream of numbers.

    Attributes:
        dtype: of its numbers.
        count: (kept words, words of the tensor) -> how many numbers there are; None where only the stream itself tells.
        writer: makes what turns positions into numbers.
        read: (stream, words of the tensor, about how many a chunk has) -> chunks that cover the tensor from its start,
            and may end before its end.
    """

    dtype: np.dtype[Any]
    count: Callable[[int, int], int | None]
    writer: Callable[[], PositionWriter]
    read: Callable[[Reader, int, int], Iterator[Chunk]]


class GapByteWriter:
    """Writes `gaps8`; the zeros at the end of a chunk count for the next one."""

    def __init__(self) -> None:
        self._carried = 0

    def numbers(self, bits: Numbers, size: int) -> Numbers:
        """Write the gaps of a chunk."""
        gaps, self._carried = write_gaps(bits, size, self._carried)
        return gaps


class GapNumberWriter:
    """Writes `gaps32`."""

    def __init__(self) -> None:
        self._carried = 0

    def numbers(self, bits: Numbers, size: int) -> Numbers:
        """Write the gaps of a chunk."""
        positions = places_of(bits, size)
        if not len(positions):
            self._carried += size
            return np.empty(0, "<u4")
        gaps: Numbers = np.diff(positions, prepend=-1) - 1
        gaps[0] += self._carried
        self._carried = size - 1 - int(positions[-1])
        return gaps.astype("<u4")


class MaskWriter:
    """Writes `mask`: word i of the tensor in bit i % 8 of byte i // 8, counted from the lowest."""

    def numbers(self, bits: Numbers, size: int) -> Numbers:  # noqa: ARG002 - the other writers need the size
        """Write the bits of a chunk."""
        return bits


def read_gap_bytes(stream: Reader, n_words: int, at_once: int) -> Iterator[Chunk]:
    """Turn gap bytes back into positions. A gap spans several words, so half as many gaps are read at once."""
    start, last = 0, 0
    while len(symbols := stream.read(at_once // 2)):
        positions, stop = read_gaps(symbols, start)
        _check_end(stop, n_words)
        last = int(symbols[-1])
        yield chunk_at(start, stop, positions)
        start = stop
    if last >= LITERALS:
        raise FormatError("the gaps end with a skip")


def read_gap_numbers(stream: Reader, n_words: int, at_once: int) -> Iterator[Chunk]:
    """Turn whole gaps back into positions, half as many at once, as above."""
    start = 0
    while len(gaps := stream.read(at_once // 2)):
        ends = np.cumsum(gaps.astype(np.int64) + 1)
        ends += start
        stop = int(ends[-1])
        _check_end(stop, n_words)
        ends -= 1
        yield chunk_at(start, stop, ends)
        start = stop


def _check_end(stop: int, n_words: int) -> None:
    if stop > n_words:
        raise FormatError(f"the gaps lead past the end of {n_words} words")


def read_mask(stream: Reader, n_words: int, at_once: int) -> Iterator[Chunk]:
    """Read a mask, the bits of some words at a time, a multiple of 8."""
    for start in range(0, n_words, at_once):
        size = min(at_once, n_words - start)
        bits = read_exactly(stream, (size + 7) // 8)
        if size % 8 and bits[-1] >> size % 8:
            raise FormatError(f"the mask has bits set past the end of {n_words} words")
        yield Chunk(
            start=start,
            stop=start + size,
            n_kept=count_of(bits),
            bits=bits,
            find=partial(_places_from, start, bits, size),
        )


def _places_from(start: int, bits: Numbers, size: int) -> Numbers:
    return places_of(bits, size) + start


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


def read_all(n_words: int, at_once: int) -> Iterator[Chunk]:
    """Give every position, because all words are kept."""
    for start in range(0, n_words, at_once):
        stop = min(start + at_once, n_words)
        yield Chunk(
            start=start,
            stop=stop,
            n_kept=stop - start,
            find=partial(np.arange, start, stop),
        )


def cover(chunks: Iterator[Chunk], n_words: int) -> Iterator[Chunk]:
    """Give the chunks, and one more for the zeros after the last of them."""
    stop = 0
    for chunk in chunks:
        yield chunk
        stop = chunk.stop
    if stop < n_words or not n_words:
        yield chunk_at(stop, n_words, _NOWHERE)
