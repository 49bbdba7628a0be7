"""What the kept words are: byte planes, whole numbers, or indices into a codebook.

A form splits words into streams of numbers and joins them again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from prunecell.codecs.dtypes import ElementType, Numbers
from prunecell.codecs.words import join_bytes, split_bytes
from prunecell.errors import FormatError

MAX_BOOK = 256  # words in a codebook: an index is a byte
_TABLE = 1 << 16  # a table in which words are looked up; fewer words are searched for one by one
_ODD = tuple(0x9E3779B97F4A7C15 * odd for odd in range(1, 64, 2))  # factors that mix the bits of words
_BYTE: np.dtype[Any] = np.dtype("u1")


def _no_book() -> Numbers:
    return np.empty(0, _BYTE)


class ValueForm(Protocol):
    """How words become streams and back. A form is made with the element type of the words and, if it has one, a book.

    Attributes:
        has_book: whether the words are found in a book, which is a stream of its own before the others.
        book: the words in it; empty where the form has none.
    """

    has_book: ClassVar[bool]

    @property
    def book(self) -> Numbers:
        """The book."""

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes of the streams, without that of the book."""

    def split(self, words: Numbers) -> list[Numbers]:
        """Turn words into streams, each of as many numbers."""

    def join(self, streams: list[Numbers], into: Numbers | None = None) -> Numbers:
        """Turn streams back into words; these may be written into memory that is given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planes:
    """Byte j of every word is in stream j, the lowest first.

    In floats the sign is first moved from the highest bit to the lowest. The exponent, which compresses, then has the
    last plane for itself; the signs and fractions, which do not, are in the others.
    """

    has_book: ClassVar[bool] = False
    kind: ElementType
    book: Numbers = field(default_factory=_no_book)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """A stream of bytes for every byte of a word."""
        return (_BYTE,) * self.kind.word.itemsize

    def split(self, words: Numbers) -> list[Numbers]:
        """Turn words into planes."""
        return split_bytes(np.ascontiguousarray(words), sign_below=self._has_sign_below)

    def join(self, streams: list[Numbers], into: Numbers | None = None) -> Numbers:
        """Turn planes back into words."""
        return join_bytes(streams, self.kind.word, sign_below=self._has_sign_below, into=into)

    @property
    def _has_sign_below(self) -> bool:
        return self.kind.is_float and self.kind.word.itemsize > 1


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeNumbers:
    """Words as the numbers that they mean, for a coder that knows numbers."""

    has_book: ClassVar[bool] = False
    kind: ElementType
    book: Numbers = field(default_factory=_no_book)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One stream of numbers."""
        return (self.kind.number,)

    def split(self, words: Numbers) -> list[Numbers]:
        """Turn words into numbers."""
        return [np.ascontiguousarray(words).view(self.kind.number)]

    def join(self, streams: list[Numbers], into: Numbers | None = None) -> Numbers:  # noqa: ARG002 - nothing is written
        """Turn numbers back into words."""
        return streams[0].view(self.kind.word)


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Indices into a book of the distinct words, 1 to 256 of them, sorted."""

    has_book: ClassVar[bool] = True
    kind: ElementType
    book: Numbers = field(default_factory=_no_book)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """One stream of bytes."""
        return (_BYTE,)

    def split(self, words: Numbers) -> list[Numbers]:
        """Turn words into indices."""
        return [places_in(self.book, words).astype(_BYTE)]

    def join(self, streams: list[Numbers], into: Numbers | None = None) -> Numbers:  # noqa: ARG002 - it would be no faster
        """Turn indices back into words."""
        (indices,) = streams
        if len(indices) and indices.max() >= len(self.book):
            raise FormatError(f"index {indices.max()} into a codebook of {len(self.book)} words")
        return self.book[indices]


VALUE_FORMS: dict[str, type[Planes] | type[WholeNumbers] | type[Codebook]] = {
    "planes": Planes,
    "numbers": WholeNumbers,
    "codebook": Codebook,
}
"""Name in a file -> form of values."""


def distinct(words: Numbers) -> Numbers | None:
    """Return the distinct words, sorted; None as soon as there are more than a codebook holds.

    >>> distinct(np.array([7, 3, 7], np.uint32)).tolist()
    [3, 7]
    """
    if words.itemsize <= 2:  # noqa: PLR2004 - a table of all words of two bytes is small
        seen = np.zeros(1 << 16, bool)
        for start in range(0, len(words), _TABLE):
            seen[words[start : start + _TABLE]] = True
            if np.count_nonzero(seen) > MAX_BOOK:
                return None
        return np.flatnonzero(seen).astype(words.dtype)
    book, step = words[:0], 1 << 12
    for start in range(0, len(words), step):
        new = words[start : start + step]
        if start:
            new = new[book[np.minimum(np.searchsorted(book, new), len(book) - 1)] != new]
        if len(new):
            book = np.union1d(book, new)
        if len(book) > MAX_BOOK:
            return None
    return book


def places_in(book: Numbers, words: Numbers) -> Numbers:
    """Find the place of each word in a sorted book, which has all of them.

    >>> places_in(np.array([3, 7], np.uint32), np.array([7, 3, 7], np.uint32)).tolist()
    [1, 0, 1]
    """
    if len(words) < _TABLE:
        return np.searchsorted(book, words)
    hashed = _hash_of(book)
    if hashed is None:
        return np.searchsorted(book, words)
    table = np.zeros(_TABLE, np.min_scalar_type(len(book)))
    table[hashed(book)] = np.arange(len(book))
    found: Numbers = table[hashed(words)]
    return found


def _hash_of(book: Numbers) -> Callable[[Numbers], Numbers] | None:
    """Find a function to 16 bits that takes no two words of a book to one; None if it has none among a few."""
    if book.itemsize <= 2:  # noqa: PLR2004 - bytes
        return lambda words: words
    shift = book.dtype.type(8 * book.itemsize - 16)
    for odd in _ODD:
        factor = book.dtype.type(odd & (1 << 8 * book.itemsize) - 1)

        def hashed(words: Numbers, factor: np.unsignedinteger[Any] = factor) -> Numbers:
            product: Numbers = words * factor >> shift
            return product

        if len(np.unique(hashed(book))) == len(book):
            return hashed
    return None
