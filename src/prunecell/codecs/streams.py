"""Streams: a known count of numbers <-> bytes, written and read piece by piece.

A coder is a name in a file: `raw` (the numbers as they are), `deflate` (RFC 1951, bytes only) or `pco`
(frames of the pcodec library). What is read is never larger than what was asked for, whatever a file says.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.errors import FormatError, OptionError

FRAME = 1 << 18  # numbers in a frame of pco
_FEED = 1 << 16  # compressed bytes given to zlib at once: what it hands back unread is copied each time
_GLANCE = 1 << 14  # numbers that show whether repeats are worth a search
_WORTH = 0.99  # a coder that does not save one percent costs more time than it is worth
_MAX_FRAME_BYTES = 16 * FRAME  # more than pco ever needs for a frame


class Writer(Protocol):
    """Takes numbers, gives bytes at the end."""

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""

    def finish(self) -> list[bytes]:
        """Close the stream and return its bytes, in pieces."""


class Reader(Protocol):
    """Gives numbers back, in the order and in counts of the caller's choice."""

    def read(self, count: int) -> Numbers:
        """Return the next `count` numbers; FormatError where the stream ends early."""

    def finish(self) -> None:
        """Check that nothing is left over; FormatError where something is."""


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
    """Reads what `RawWriter` wrote, without a copy."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any]) -> None:
        self._data, self._dtype, self._at = data, dtype, 0

    def read(self, count: int) -> Numbers:
        """Return the next numbers as a view of the file."""
        stop = self._at + count * self._dtype.itemsize
        if stop > len(self._data):
            raise FormatError("a raw stream ends early")
        numbers = np.frombuffer(self._data[self._at : stop], self._dtype)
        self._at = stop
        return numbers

    def finish(self) -> None:
        """Check that all was read."""
        if self._at != len(self._data):
            raise FormatError("a raw stream is too long")


class DeflateWriter:
    """Bytes through zlib, Huffman codes only by default: nothing repeats in weights, but some values are frequent."""

    def __init__(self, strategy: int = zlib.Z_HUFFMAN_ONLY) -> None:
        level = 1 if strategy == zlib.Z_HUFFMAN_ONLY else 6
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        self._pieces: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append bytes."""
        self._pieces.append(self._zlib.compress(numbers))

    def finish(self) -> list[bytes]:
        """Return the compressed bytes."""
        return [*self._pieces, self._zlib.flush()]


class DeflateReader:
    """Inflates no more than is asked for, so that a small file cannot become a large allocation."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any]) -> None:
        if dtype.itemsize != 1:
            raise FormatError("deflate codes bytes only")
        self._data, self._at = data, 0
        self._zlib = zlib.decompressobj(-15)
        self._tail = b""

    def _some(self, limit: int) -> bytes:
        """Inflate at least one and at most `limit` bytes; none only at the end."""
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

    def read(self, count: int) -> Numbers:
        """Return the next bytes."""
        pieces, need = [], count
        while need:
            piece = self._some(need)
            if not piece:
                raise FormatError("a deflate stream ends early")
            pieces.append(piece)
            need -= len(piece)
        return np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.uint8)

    def finish(self) -> None:
        """Check that the stream is over and that no byte follows it."""
        if self._some(1) or not self._zlib.eof or self._zlib.unused_data or self._at < len(self._data):
            raise FormatError("a deflate stream is too long")


def _pcodec() -> Any:  # noqa: ANN401 - the library has no types
    try:
        from pcodec import ChunkConfig, standalone  # noqa: PLC0415 - an extra, needed only where it is named
    except ImportError:
        raise OptionError(
            "the coder 'pco' needs the library pcodec, which is not installed: pip install 'prunecell[pcodec]'"
        ) from None
    return standalone, ChunkConfig


class PcoWriter:
    """Frames of `FRAME` numbers (the last may be shorter), each a 32-bit length and a pcodec file."""

    def __init__(self) -> None:
        self._standalone, config = _pcodec()
        self._config = config()
        self._waiting: list[Numbers] = []
        self._count = 0
        self._pieces: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append numbers."""
        self._waiting.append(numbers)
        self._count += len(numbers)
        while self._count >= FRAME:
            self._emit(FRAME)

    def _emit(self, count: int) -> None:
        numbers = np.concatenate(self._waiting)
        frame = self._standalone.simple_compress(np.ascontiguousarray(numbers[:count]), self._config)
        self._pieces += [struct.pack("<I", len(frame)), frame]
        self._waiting = [numbers[count:]]
        self._count -= count

    def finish(self) -> list[bytes]:
        """Return the frames."""
        if self._count:
            self._emit(self._count)
        return self._pieces


class PcoReader:
    """Decodes frame by frame into memory of the size of a frame."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any], count: int) -> None:
        self._standalone, _ = _pcodec()
        self._data, self._dtype, self._at = data, dtype, 0
        self._left = count
        self._ready: Numbers = np.empty(0, dtype)

    def _frame(self) -> Numbers:
        head = bytes(self._data[self._at : self._at + 4])
        size = struct.unpack("<I", head)[0] if len(head) == 4 else -1
        self._at += 4
        if not 0 <= size <= min(len(self._data) - self._at, _MAX_FRAME_BYTES):
            raise FormatError("a pco frame is cut or too long")
        numbers = np.empty(min(FRAME, self._left), self._dtype)
        frame = bytes(self._data[self._at : self._at + size])
        self._at += size
        try:
            progress = self._standalone.simple_decompress_into(frame, numbers)
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise FormatError(f"a pco frame is damaged ({type(e).__name__})") from None  # Rust's panics too
        if progress.n_processed != len(numbers) or not progress.finished:
            raise FormatError("a pco frame holds another count of numbers than it should")
        self._left -= len(numbers)
        return numbers

    def read(self, count: int) -> Numbers:
        """Return the next numbers."""
        pieces = [self._ready]
        have = len(self._ready)
        while have < count:
            if not self._left:
                raise FormatError("a pco stream ends early")
            pieces.append(self._frame())
            have += len(pieces[-1])
        numbers = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        self._ready = numbers[count:]
        return numbers[:count]

    def finish(self) -> None:
        """Check that all was read."""
        if len(self._ready) or self._left or self._at != len(self._data):
            raise FormatError("a pco stream is too long")


@dataclass(frozen=True, kw_only=True)
class Coder:
    """A way to write a stream: its name in a file, and what makes a writer."""

    name: str
    writer: Callable[[], Writer]


RAW = Coder(name="raw", writer=RawWriter)
HUFFMAN = Coder(name="deflate", writer=DeflateWriter)
REPEATS = Coder(name="deflate", writer=lambda: DeflateWriter(zlib.Z_DEFAULT_STRATEGY))
PCO = Coder(name="pco", writer=PcoWriter)

CODERS = ("raw", "deflate", "pco")


def reader(coder: str, data: memoryview, dtype: np.dtype[Any], count: int) -> Reader:
    """Open a stream of `count` numbers for reading.

    Raises:
        FormatError: the coder is unknown or does not code this dtype.
    """
    if coder == "raw":
        return RawReader(data, dtype)
    if coder == "deflate":
        return DeflateReader(data, dtype)
    if coder == "pco":
        return PcoReader(data, dtype, count)
    raise FormatError(f"unknown coder {coder!r}; legal: {', '.join(CODERS)}")


def encoded_size(coder: Coder, numbers: Numbers) -> int:
    """Bytes that a coder makes of these numbers."""
    writer = coder.writer()
    writer.write(numbers)
    return sum(map(len, writer.finish()))


def choose_coder(numbers: Numbers, coders: tuple[Coder, ...]) -> tuple[Coder, int]:
    """Try coders on `numbers`; return the best one and the bytes that it makes.

    A coder must save one percent of what the coders before it leave; `REPEATS`, which is slow, is tried in
    full only where it wins on the beginning.
    """
    best, size = RAW, numbers.nbytes
    for coder in coders:
        start = numbers[:_GLANCE]
        if coder is REPEATS and encoded_size(REPEATS, start) > _WORTH * encoded_size(best, start):
            continue
        tried = encoded_size(coder, numbers)
        if tried < size * _WORTH:
            best, size = coder, tried
    return best, size
