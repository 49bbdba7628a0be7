"""The table of coders: their names in a file, what reads and writes each, and which one is best."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.pco import PcoReader, PcoWriter
from prunecell.codecs.streams import Bytes, DeflateReader, DeflateWriter, RawReader, RawWriter, Reader, Source, Writer
from prunecell.codecs.zstandard import HUFFMAN_ONLY, ZstdWriter, open_zstd, searching
from prunecell.errors import FormatError

MAX_EXPANSION = 1032  # bytes that a byte of deflate can become at most (RFC 1951: 258 from 2 bits)
MAX_ZSTD_EXPANSION = 1 << 15  # the same of Zstandard (RFC 8878: a block of 4 bytes becomes at most 128 KiB)
_GLANCE = 1 << 14  # numbers on which a slow search is tried


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A way to write a stream with a coder.

    Attributes:
        coder: the coder's name.
        writer: makes a writer.
        worth: the setting is chosen if its bytes are at most this fraction of those of the best setting before it.
        is_search: the setting is slow, and judged by the first numbers alone.
    """

    coder: str
    writer: Callable[[], Writer]
    worth: float
    is_search: bool = False


@dataclass(frozen=True, kw_only=True)
class Coder:
    """A way in which numbers become bytes in a file.

    Attributes:
        codes: itemsize -> whether it codes numbers of so many bytes.
        open: (source, dtype, count) -> a reader; only pco looks at the count.
        holds: (bytes of a stream, bytes of its numbers) -> whether so many numbers can come from such a stream.
        settings: with which it is tried, beside raw.
    """

    codes: Callable[[int], bool]
    open: Callable[[Source, np.dtype[Any], int], Reader]
    holds: Callable[[int, int], bool]
    settings: tuple[Setting, ...] = ()


RAW = Setting(coder="raw", writer=RawWriter, worth=1)
CODERS = {
    "raw": Coder(
        codes=lambda _itemsize: True,
        open=lambda source, dtype, _count: RawReader(source, dtype),
        holds=lambda n_bytes, size: n_bytes == size,
    ),
    "deflate": Coder(
        codes=lambda itemsize: itemsize == 1,
        open=lambda source, _dtype, _count: DeflateReader(source),
        holds=lambda n_bytes, size: size <= n_bytes * MAX_EXPANSION,
        settings=(
            # weights do not repeat, but some of their bytes are frequent: Huffman codes alone are fast and enough
            Setting(coder="deflate", writer=partial(DeflateWriter, 1, zlib.Z_HUFFMAN_ONLY), worth=0.99),
            Setting(
                coder="deflate", writer=partial(DeflateWriter, 6, zlib.Z_DEFAULT_STRATEGY), worth=0.97, is_search=True
            ),
        ),
    ),
    "pco": Coder(
        codes=lambda itemsize: itemsize > 1,
        open=PcoReader,
        holds=lambda _n_bytes, _size: True,
        settings=(
            Setting(coder="pco", writer=PcoWriter, worth=0.999),
            Setting(coder="pco", writer=partial(PcoWriter, search=True), worth=0.97, is_search=True),
        ),
    ),
    "zstd": Coder(
        codes=lambda itemsize: itemsize == 1,
        open=lambda source, _dtype, _count: open_zstd(source),
        holds=lambda n_bytes, size: size <= n_bytes * MAX_ZSTD_EXPANSION,
        settings=(
            Setting(coder="zstd", writer=partial(ZstdWriter, HUFFMAN_ONLY), worth=0.99),
            Setting(coder="zstd", writer=partial(ZstdWriter, searching(3)), worth=0.97, is_search=True),
            Setting(coder="zstd", writer=partial(ZstdWriter, searching(6)), worth=0.97, is_search=True),
        ),
    ),
}
"""Name in a file -> coder."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The names of the coders that are tried: on up to `_GLANCE` numbers, and on more."""

    few: tuple[str, ...]
    many: tuple[str, ...]


def open_reader(coder: str, source: Source, dtype: np.dtype[Any], count: int) -> Reader:
    """Open a stream for reading.

    Args:
        coder: a name in `CODERS`.
        source: the bytes of the stream.
        dtype: of its numbers.
        count: how many there are; 0 where only the stream itself tells, and the coder does not ask.

    Raises:
        FormatError: the coder does not code numbers of this dtype.
        OptionError: the library that the coder needs is not installed.
    """
    if not CODERS[coder].codes(dtype.itemsize):
        raise FormatError(f"coder {coder!r} does not code numbers of {dtype.itemsize} bytes")
    return CODERS[coder].open(source, dtype, count)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The best setting for some numbers.

    Attributes:
        n_bytes: that it makes of them, about.
        written: these bytes, where the numbers are few.
    """

    setting: Setting
    n_bytes: int
    written: Sequence[Bytes] | None


def encoded(setting: Setting, numbers: Numbers) -> Sequence[Bytes]:
    """Return what a setting makes of these numbers."""
    writer = setting.writer()
    writer.write(numbers)
    return writer.finish()


def encoded_size(setting: Setting, numbers: Numbers) -> int:
    """Count the bytes that a setting makes of these numbers."""
    return numbers.nbytes if setting is RAW else sum(map(len, encoded(setting, numbers)))


def choose_setting(numbers: Numbers, tried: Tried) -> Choice:
    """Find the best setting for numbers."""
    is_few = len(numbers) <= _GLANCE
    coders = [CODERS[name] for name in (tried.few if is_few else tried.many)]
    settings = [s for coder in coders if coder.codes(numbers.dtype.itemsize) for s in coder.settings]
    if is_few:
        return _choose_for_few(numbers, settings)
    best, size = RAW, numbers.nbytes
    for setting in settings:
        n_bytes = _glance(setting, numbers, best, size) if setting.is_search else encoded_size(setting, numbers)
        if n_bytes < setting.worth * size:
            best, size = setting, n_bytes
    return Choice(setting=best, n_bytes=size, written=None)


def _choose_for_few(numbers: Numbers, settings: list[Setting]) -> Choice:
    best, size, written = RAW, numbers.nbytes, encoded(RAW, numbers)
    for setting in settings:
        if setting.is_search and numbers.itemsize == 1 and not _repeats(numbers):
            continue
        tried = encoded(setting, numbers)
        n_bytes = sum(map(len, tried))
        if n_bytes < setting.worth * size:
            best, size, written = setting, n_bytes, tried
    return Choice(setting=best, n_bytes=size, written=written)


def _repeats(numbers: Numbers) -> bool:
    """Tell whether three bytes ever stand there twice: deflate finds no less, and then its search finds nothing."""
    wide = numbers.astype(np.uint32)
    triples = np.sort(wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:])
    return bool((triples[1:] == triples[:-1]).any())


def _glance(setting: Setting, numbers: Numbers, best: Setting, size: int) -> int:
    """Judge a slow setting by the first numbers: scale the bytes that the best one so far makes of all numbers."""
    start = numbers[:_GLANCE]
    return size * encoded_size(setting, start) // encoded_size(best, start)
