"""The coders of streams: their names in a file, what writes and reads each, and which one is best."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.pco import PcoReader, PcoWriter
from prunecell.codecs.streams import DeflateReader, DeflateWriter, RawReader, RawWriter, Reader, Source, Writer
from prunecell.errors import FormatError

MAX_EXPANSION = 1032  # bytes that a byte of deflate can become at most (RFC 1951: 258 from 2 bits)
_GLANCE = 1 << 14  # numbers on which a slow search is tried


@dataclass(frozen=True, kw_only=True)
class Coder:
    """A way to write a stream.

    Attributes:
        name: what a file calls it; several coders may write what one reader reads.
        writer: makes a writer.
        worth: it is chosen if its bytes are at most this fraction of what the coders before it leave.
        is_search: it is slow, and judged by the first numbers alone.
    """

    name: str
    writer: Callable[[], Writer]
    worth: float
    is_search: bool = False


RAW = Coder(name="raw", writer=RawWriter, worth=1)
CODERS_OF_BYTES = (
    # weights do not repeat, but some of their bytes are frequent: Huffman codes alone are fast and enough
    Coder(name="deflate", writer=partial(DeflateWriter, 1, zlib.Z_HUFFMAN_ONLY), worth=0.99),
    Coder(name="deflate", writer=partial(DeflateWriter, 6, zlib.Z_DEFAULT_STRATEGY), worth=0.97, is_search=True),
)
CODERS_OF_NUMBERS = (
    Coder(name="pco", writer=PcoWriter, worth=0.999),
    Coder(name="pco", writer=partial(PcoWriter, search=True), worth=0.97, is_search=True),
)
CODER_NAMES = ("raw", "deflate", "pco")


def coders_for(numbers: Numbers) -> tuple[Coder, ...]:
    """Return the coders that can write numbers of this dtype, other than raw."""
    return CODERS_OF_BYTES if numbers.dtype.itemsize == 1 else CODERS_OF_NUMBERS


def open_reader(coder: str, data: Source, dtype: np.dtype[Any], count: int) -> Reader:
    """Open a stream for reading; `count` matters to pco only.

    Raises:
        FormatError: the coder is unknown, or codes no numbers of this dtype.
        OptionError: the library that the coder needs is not installed.
    """
    if coder == "raw":
        return RawReader(data, dtype)
    if coder == "deflate" and dtype.itemsize == 1:
        return DeflateReader(data)
    if coder == "pco" and dtype.itemsize > 1:
        return PcoReader(data, dtype, count)
    raise FormatError(f"no coder {coder!r} for numbers of {dtype.itemsize} bytes; legal: {', '.join(CODER_NAMES)}")


def encoded_size(coder: Coder, numbers: Numbers) -> int:
    """Count the bytes that a coder makes of these numbers."""
    writer = coder.writer()
    writer.write(numbers)
    return sum(map(len, writer.finish()))


def choose_coder(numbers: Numbers) -> tuple[Coder, int]:
    """Return the best coder for `numbers` and the bytes that it makes of them, about."""
    coders = coders_for(numbers)
    if not len(numbers):
        return coders[0], 0
    best, size = RAW, numbers.nbytes
    for coder in coders:
        tried = _glance(coder, numbers, best, size) if coder.is_search else encoded_size(coder, numbers)
        if tried < coder.worth * size:
            best, size = coder, tried
    return best, size


def _glance(coder: Coder, numbers: Numbers, best: Coder, size: int) -> int:
    """Judge a slow coder by the first numbers: scale what the best one so far makes of all."""
    start = numbers[:_GLANCE]
    return size * encoded_size(coder, start) // encoded_size(best, start)
