"""What the kept words are: byte planes, whole numbers, a codebook, or scaled integers.

A form splits kept words into streams of numbers and joins them again. `aside` are the numbers that are
written once per tensor (the codebook, the scales), not once per kept word.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import ElementType, Numbers
from prunecell.errors import FormatError

MAX_CODEBOOK = 256
_BYTE: np.dtype[Any] = np.dtype("u1")
SCALE: np.dtype[Any] = np.dtype("<f4")


class ValueForm(Protocol):
    """How kept words become streams and back."""

    @property
    def name(self) -> str:
        """The form's name in a file."""

    @property
    def aside(self) -> tuple[Numbers, ...]:
        """Numbers written once."""

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes of the streams that `split` makes."""

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> one array of numbers per stream."""

    def join(self, streams: list[Numbers]) -> Numbers:
        """The inverse of `split`."""


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Byte j of every word in stream j, the lowest first; in floats the sign is moved to the lowest bit."""

    kind: ElementType
    name: str = "planes"
    aside: tuple[Numbers, ...] = ()

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One byte stream per byte of a word."""
        return (_BYTE,) * self.kind.word.itemsize

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> planes."""
        size = self.kind.word.itemsize
        if self.kind.is_float and size > 1:
            words = (words << 1) | (words >> (8 * size - 1))
        rows = np.ascontiguousarray(words).view(_BYTE).reshape(-1, size)
        return [np.ascontiguousarray(rows[:, j]) for j in range(size)]

    def join(self, streams: list[Numbers]) -> Numbers:
        """Planes -> words."""
        size = self.kind.word.itemsize
        rows = np.empty((len(streams[0]), size), _BYTE)
        for j, stream in enumerate(streams):
            rows[:, j] = stream
        words: Numbers = rows.reshape(-1).view(self.kind.word)
        if self.kind.is_float and size > 1:
            words = (words >> 1) | (words << (8 * size - 1))
        return words


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Numbers of the element type as they are, for coders that know numbers."""

    kind: ElementType
    name: str = "numbers"
    aside: tuple[Numbers, ...] = ()

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One stream of numbers."""
        return (self.kind.number,)

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> numbers."""
        return [np.ascontiguousarray(words).view(self.kind.number)]

    def join(self, streams: list[Numbers]) -> Numbers:
        """Numbers -> words."""
        return streams[0].view(self.kind.word)


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """An index into the few distinct words; the book is sorted by bits."""

    book: Numbers
    name: str = "codebook"

    @property
    def aside(self) -> tuple[Numbers, ...]:
        """The book."""
        return (self.book,)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One byte per kept word."""
        return (_BYTE,)

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> indices."""
        return [np.searchsorted(self.book, words).astype(_BYTE)]

    def join(self, streams: list[Numbers]) -> Numbers:
        """Indices -> words."""
        indices = streams[0]
        if len(indices) and int(indices.max()) >= len(self.book):
            raise FormatError(f"an index of {indices.max()} into a codebook of {len(self.book)}")
        return self.book[indices]


def distinct(words: Numbers, most: int = MAX_CODEBOOK) -> Numbers | None:
    """Return the distinct words, sorted; None if there are more than `most`."""
    book = np.empty(0, words.dtype)
    step = 1 << 12
    for at in range(0, len(words), step):
        piece = words[at : at + step]
        found = np.searchsorted(book, piece)
        known = book[np.minimum(found, len(book) - 1)] == piece if len(book) else np.zeros(len(piece), bool)
        if known.all():
            continue
        book = np.union1d(book, piece[~known])
        if len(book) > most:
            return None
    return book
