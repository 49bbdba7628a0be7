"""Streams of bytes through Zstandard (RFC 8878): Huffman codes ten times as fast as deflate's, at the same size."""

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from prunecell import native
from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import Reader, Source
from prunecell.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_FEED = 1 << 18  # compressed bytes that are read at once, more than a block has
_BLOCK = 1 << 17  # bytes that a block of a frame makes at most
_CODES_BYTES = 1 << 15  # memory of the kernel
_MAX_WINDOW_LOG = 23  # 8 MiB, which every reader should have room for (RFC 8878, 3.1.1.1.2)
_CODE_LITERALS = 1002  # ZSTD_c_literalCompressionMode, which the library has, but Python gives no name

HUFFMAN_ONLY: Mapping[Any, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.strategy: zstd.Strategy.fast,
    zstd.CompressionParameter.target_length: 1 << 17,  # the search for matches goes on in steps as long as a block
    zstd.CompressionParameter.window_log: 17,
    _CODE_LITERALS: 1,  # else the library leaves out Huffman codes where it searches in large steps
}
"""Parameters with which nothing that repeats is looked for, and bytes are Huffman coded alone."""


def searching(level: int) -> Mapping[Any, int]:
    """Parameters of a level that looks for what repeats, in tables so small that they are made in no time."""
    return {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.window_log: 20,
        zstd.CompressionParameter.hash_log: 17,
        zstd.CompressionParameter.chain_log: 16,
    }


class ZstdWriter:
    """Writes one frame, without a checksum of its own."""

    def __init__(self, parameters: Mapping[Any, int]) -> None:
        self._zstd = zstd.ZstdCompressor(options=parameters)
        self._written: list[bytes] = []

    def write(self, numbers: Numbers) -> None:
        """Append bytes."""
        self._written.append(self._zstd.compress(numbers.data))

    def finish(self) -> list[bytes]:
        """Return the frame."""
        return [*self._written, self._zstd.flush()]


class LibraryReader:
    """Decompresses no more than is asked for: a small file cannot become a large allocation."""

    def __init__(self, data: Source) -> None:
        self._data, self._at = data, 0
        self._zstd = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})

    def _some(self, limit: int) -> bytes:
        """Decompress 1 to `limit` bytes; none only at the end of the frame or of the data."""
        while not self._zstd.eof:
            feed: memoryview | bytes = b""
            if self._zstd.needs_input:
                feed = self._data[self._at : self._at + _FEED]
                if not feed:
                    break
                self._at += len(feed)
            try:
                found = self._zstd.decompress(feed, limit)
            except zstd.ZstdError as e:
                raise FormatError(f"a zstd stream is damaged ({e})") from None
            if found:
                return found
        return b""

    def read(self, limit: int) -> Numbers:
        """Return the next bytes."""
        found = []
        while limit and (some := self._some(limit)):
            found.append(some)
            limit -= len(some)
        return np.frombuffer(found[0] if len(found) == 1 else b"".join(found), np.uint8)

    def finish(self) -> None:
        """Check that the frame is over, and that no byte follows it."""
        if self._some(1) or not self._zstd.eof or self._zstd.unused_data or self._at < len(self._data):
            raise FormatError("a zstd stream is cut or too long")


def open_zstd(data: Source) -> Reader:
    """Open a frame: by the kernels, where they were built, or by the library."""
    library = native.library()
    return LibraryReader(data) if library is None else KernelReader(data, library)


class KernelReader:
    """Decodes frames without matches, as archives have them, by a kernel; any others are left to the library.

    Whole blocks are decoded, so that up to 128 KiB more than were asked for wait for the next call.
    """

    def __init__(self, data: Source, library: ctypes.CDLL) -> None:
        self._data, self._at, self._kernel = data, 0, library.pc_read_literals
        self._frame, self._codes = native.Frame(), np.zeros(_CODES_BYTES // 8, np.uint64)
        self._ready: Numbers = np.empty(0, np.uint8)
        self._n_made = 0  # bytes that were decoded
        self._rest: LibraryReader | None = None  # what reads the rest if the kernel cannot

    def read(self, limit: int) -> Numbers:
        """Return the next bytes."""
        if limit <= len(self._ready):
            found, self._ready = self._ready[:limit], self._ready[limit:]
            return found
        made, n = np.empty(limit + _BLOCK, np.uint8), len(self._ready)
        made[:n] = self._ready
        while n < limit and (more := self._decode(made[n:])):
            n += more
        if n < limit and self._rest is not None:
            rest = self._rest.read(limit - n)
            made[n : n + len(rest)] = rest
            n += len(rest)
        self._ready = made[limit:n]
        return made[: min(n, limit)]

    def _decode(self, to: Numbers) -> int:
        """Decode some blocks, and return how many bytes they make; 0 where the kernel goes no further."""
        frame = self._frame
        while self._rest is None and not frame.is_over and (some := self._data[self._at : self._at + _FEED]):
            feed = np.frombuffer(some, np.uint8)
            is_strange = self._kernel(
                *(frame.address, feed.ctypes.data, len(feed), to.ctypes.data, len(to), self._codes.ctypes.data)
            )
            self._at += frame.consumed
            self._n_made += frame.produced
            if is_strange:
                self._rest = self._after(self._n_made)
            if frame.produced or not frame.consumed:
                return int(frame.produced)
        return 0

    def _after(self, n_bytes: int) -> LibraryReader:
        """What reads all that follows some bytes."""
        reader = LibraryReader(self._data)
        while n_bytes and (skipped := len(reader.read(min(n_bytes, _BLOCK)))):
            n_bytes -= skipped
        return reader

    def finish(self) -> None:
        """Check that the frame is over, and that no byte follows it."""
        is_left = len(self._ready) or self._decode(np.empty(_BLOCK, np.uint8))
        if not is_left and self._rest is not None:
            self._rest.finish()
        elif is_left or not self._frame.is_over or self._at < len(self._data):
            raise FormatError("a zstd stream is cut or too long")
