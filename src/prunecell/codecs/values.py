"""What the kept words are: byte planes, whole numbers, or indices into a codebook.

A form splits words into streams of numbers and joins them again.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import ElementType, Numbers
from prunecell.codecs.words import join_bytes
from prunecell.errors import FormatError

MAX_BOOK = 256  # an index is a byte
_BYTE: np.dtype[Any] = np.dtype("u1")


class ValueForm(Protocol):
    """How words become streams and back."""

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes of the streams."""

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> as many numbers in every stream."""

    def join(self, streams: list[Numbers]) -> Numbers:
        """The inverse of `split`."""


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Byte j of every word in stream j, the lowest first.

    In floats the sign is first moved from the highest bit to the lowest: the exponent, which compresses,
    then has the last plane for itself, and the signs and fractions, which do not, are in the others.
    """

    kind: ElementType

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """A stream of bytes for every byte of a word."""
        return (_BYTE,) * self.kind.word.itemsize

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> planes."""
        size = self.kind.word.itemsize
        if self._has_sign_below:
            words = (words << 1) | (words >> (8 * size - 1))
        rows = np.ascontiguousarray(words).view(_BYTE).reshape(-1, size)
        return [np.ascontiguousarray(rows[:, j]) for j in range(size)]

    def join(self, streams: list[Numbers]) -> Numbers:
        """Planes -> words."""
        return join_bytes(streams, self.kind.word, sign_below=self._has_sign_below)

    @property
    def _has_sign_below(self) -> bool:
        return self.kind.is_float and self.kind.word.itemsize > 1


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Words as the numbers that they mean, for a coder that knows numbers."""

    kind: ElementType

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
    """Indices into a book of the distinct words, 1 to 256 of them, sorted."""

    book: Numbers

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One stream of bytes."""
        return (_BYTE,)

    def split(self, words: Numbers) -> list[Numbers]:
        """Words -> indices."""
        if self.book.itemsize > 2:  # noqa: PLR2004 - a table of all words of two bytes is small
            return [np.searchsorted(self.book, words).astype(_BYTE)]
        index = np.zeros(1 << 16, _BYTE)
        index[self.book] = np.arange(len(self.book), dtype=_BYTE)
        return [index[words]]

    def join(self, streams: list[Numbers]) -> Numbers:
        """Indices -> words."""
        (indices,) = streams
        if len(indices) and indices.max() >= len(self.book):
            raise FormatError(f"index {indices.max()} into a codebook of {len(self.book)} words")
        return self.book[indices]


def distinct(words: Numbers) -> Numbers | None:
    """Return the distinct words, sorted; None as soon as there are more than a codebook holds.

    >>> distinct(np.array([7, 3, 7], np.uint32)).tolist()
    [3, 7]
    """
    if words.itemsize <= 2:  # noqa: PLR2004 - a table of all words of two bytes is small
        seen = np.zeros(1 << 16, bool)
        seen[words] = True
        found = np.flatnonzero(seen).astype(words.dtype)
        return found if len(found) <= MAX_BOOK else None
    book, step = words[:0], 1 << 12
    for start in range(0, len(words), step):
        piece = words[start : start + step]
        if start:
            piece = piece[book[np.minimum(np.searchsorted(book, piece), len(book) - 1)] != piece]
        if len(piece):
            book = np.union1d(book, piece)
        if len(book) > MAX_BOOK:
            return None
    return book
