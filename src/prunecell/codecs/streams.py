"""Streams of numbers, written and read piece by piece: raw, and deflate for bytes.

A reader never makes more than it is asked for, whatever a file says.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.errors import FormatError

_FEED = 1 << 16  # compressed bytes given to zlib at once: what it hands back unread is copied each time


@dataclass(frozen=True)
class Source:
    """Bytes that are read piece by piece.

    Attributes:
        data: all of them.
        forget: for a mapped file, of which no more shall stay in memory than what is being read: lets go of it, and
            pieces are copies then. None: pieces are views.
    """

    data: memoryview
    forget: Callable[[], None] | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.data)

    def __getitem__(self, stretch: slice) -> memoryview | bytes:
        """Return a piece."""
        if self.forget is None:
            return self.data[stretch]
        piece = bytes(self.data[stretch])
        self.forget()
        return piece

    def part(self, start: int, stop: int) -> "Source":
        """Return some of them, to be read in pieces in their turn."""
        return Source(self.data[start:stop], self.forget)


class Writer(Protocol):
    """Takes numbers, gives bytes at the end."""

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""

    def finish(self) -> list[bytes]:
        """Close the stream and return its bytes, in pieces."""


class Reader(Protocol):
    """Gives the numbers back in their order."""

    def read(self, limit: int) -> Numbers:
        """Return the next `limit` numbers, fewer only at the end of the stream."""

    def finish(self) -> None:
        """Raise FormatError if anything is left over."""


def read_exactly(stream: Reader, count: int) -> Numbers:
    """Read `count` numbers.

    Raises:
        FormatError: the stream ends before.
    """
    numbers = stream.read(count)
    if len(numbers) < count:
        raise FormatError("a stream ends early")
    return numbers


class RawWriter:
    """Numbers as they are, little endian."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""
        self._pieces.append(numbers.tobytes())

    def finish(self) -> list[bytes]:
        """Return the bytes."""
        return self._pieces


class RawReader:
    """Reads in place what `RawWriter` wrote."""

    def __init__(self, data: Source, dtype: np.dtype[Any]) -> None:
        if len(data) % dtype.itemsize:
            raise FormatError(f"a raw stream of {len(data)} bytes holds no whole numbers")
        self._data, self._at, self._dtype = data, 0, dtype

    def read(self, limit: int) -> Numbers:
        """Return the next numbers."""
        piece = self._data[self._at : self._at + limit * self._dtype.itemsize]
        self._at += len(piece)
        return np.frombuffer(piece, self._dtype)

    def finish(self) -> None:
        """Check that all was read."""
        if self._at != len(self._data):
            raise FormatError("a raw stream is too long")


class DeflateWriter:
    """Bytes through zlib, without a header and a checksum of its own."""

    def __init__(self, level: int, strategy: int) -> None:
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        self._pieces: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append bytes."""
        self._pieces.append(self._zlib.compress(numbers.data))

    def finish(self) -> list[bytes]:
        """Return the compressed bytes."""
        return [*self._pieces, self._zlib.flush()]


class DeflateReader:
    """Inflates no more than is asked for: a small file cannot become a large allocation."""

    def __init__(self, data: Source) -> None:
        self._data, self._at = data, 0
        self._zlib = zlib.decompressobj(-15)
        self._tail = b""

    def _some(self, limit: int) -> bytes:
        """Inflate 1 to `limit` bytes; none only at the end of the stream or of the data."""
        while True:
            feed = self._tail or self._data[self._at : self._at + _FEED]
            if not self._tail:
                self._at += len(feed)
            try:
                piece = self._zlib.decompress(feed, limit)
            except zlib.error as e:
                raise FormatError(f"a deflate stream is damaged ({e})") from None
            self._tail = self._zlib.unconsumed_tail
            if piece or self._zlib.eof or not feed:
                return piece

    def read(self, limit: int) -> Numbers:
        """Return the next bytes."""
        pieces = []
        while limit and (piece := self._some(limit)):
            pieces.append(piece)
            limit -= len(piece)
        return np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.uint8)

    def finish(self) -> None:
        """Check that the stream is over, and that no byte follows it."""
        if self._some(1) or not self._zlib.eof or self._zlib.unused_data or self._at < len(self._data):
            raise FormatError("a deflate stream is cut or too long")
