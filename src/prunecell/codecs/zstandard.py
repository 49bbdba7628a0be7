"""Streams of bytes through Zstandard (RFC 8878): Huffman codes many times as fast as deflate's, at the same size."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import Source
from prunecell.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_FEED = 1 << 18  # compressed bytes given to the library at once
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


class ZstdReader:
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
