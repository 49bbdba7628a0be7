"""Streams of numbers, written and read some at a time: raw, and deflate for bytes.

A reader never makes more than it is asked for, whatever a file says.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from zlib_ng.zlib_ng import crc32

from prunecell.codecs.dtypes import Numbers
from prunecell.errors import FormatError

_FEED = 1 << 16  # compressed bytes given to zlib at once, because it copies what it hands back unread each time


class Source(Protocol):
    """Bytes that are read some at a time."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, where: slice) -> memoryview | bytes:
        """Read some of them."""

    def section(self, start: int, stop: int) -> "Source":
        """Return the bytes [start, stop) as a source of their own."""


@dataclass(frozen=True)
class InMemory:
    """Bytes that are there already: what is read are views of them."""

    data: memoryview

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.data)

    def __getitem__(self, where: slice) -> memoryview:
        """Read some of them."""
        return self.data[where]

    def section(self, start: int, stop: int) -> "InMemory":
        """Return the bytes [start, stop) as a source of their own."""
        return InMemory(self.data[start:stop])

    def checksum(self) -> int:
        """Return the CRC-32 of the bytes."""
        return crc32(self.data)


Bytes: TypeAlias = bytes | memoryview
"""Some bytes of a stream."""


class Writer(Protocol):
    """Takes numbers, gives bytes at the end."""

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""

    def finish(self) -> Sequence[Bytes]:
        """Close the stream and return its bytes, in their order."""


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
    """Writes numbers as they are, little endian."""

    def __init__(self) -> None:
        self._written: list[Bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append numbers, which must not be changed any more."""
        self._written.append(numbers.view(np.uint8).data)

    def finish(self) -> list[Bytes]:
        """Return the bytes."""
        return self._written


class RawReader:
    """Reads what `RawWriter` wrote."""

    def __init__(self, data: Source, dtype: np.dtype[Any]) -> None:
        if len(data) % dtype.itemsize:
            raise FormatError(f"a raw stream of {len(data)} bytes holds no whole numbers")
        self._data, self._at, self._dtype = data, 0, dtype

    def read(self, limit: int) -> Numbers:
        """Return the next numbers."""
        found = self._data[self._at : self._at + limit * self._dtype.itemsize]
        self._at += len(found)
        return np.frombuffer(found, self._dtype)

    def finish(self) -> None:
        """Check that all was read."""
        if self._at != len(self._data):
            raise FormatError("a raw stream is too long")


class DeflateWriter:
    """Writes bytes through zlib, without a header or a checksum of its own."""

    def __init__(self, level: int, strategy: int) -> None:
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        self._written: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append bytes."""
        self._written.append(self._zlib.compress(numbers.data))

    def finish(self) -> list[bytes]:
        """Return the compressed bytes."""
        return [*self._written, self._zlib.flush()]


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
                inflated = self._zlib.decompress(feed, limit)
            except zlib.error as e:
                raise FormatError(f"a deflate stream is damaged ({e})") from None
            self._tail = self._zlib.unconsumed_tail
            if inflated or self._zlib.eof or not feed:
                return inflated

    def read(self, limit: int) -> Numbers:
        """Return the next bytes."""
        found = []
        while limit and (inflated := self._some(limit)):
            found.append(inflated)
            limit -= len(inflated)
        return np.frombuffer(found[0] if len(found) == 1 else b"".join(found), np.uint8)

    def finish(self) -> None:
        """Check that the stream is over, and that no byte follows it."""
        if self._some(1) or not self._zlib.eof or self._zlib.unused_data or self._at < len(self._data):
            raise FormatError("a deflate stream is cut or too long")
