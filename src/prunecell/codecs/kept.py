"""Which words are kept, those that are not zero, as the bits of a mask, and the gaps between them.

All of it by the compiled kernels, or by numpy.
"""

import ctypes
from typing import Any

import numpy as np

from prunecell import native
from prunecell.codecs.dtypes import Numbers

LITERALS = 240  # a byte b of gaps below this one means b zeros, then a kept word
SKIPS = 256 - LITERALS  # a byte 240 + k means 240 << k zeros, and no kept word
_LONGEST = LITERALS << SKIPS - 1
_ADVANCE = np.array([b + 1 for b in range(LITERALS)] + [LITERALS << k for k in range(SKIPS)], np.int64)
_BYTE: np.dtype[Any] = np.dtype("u1")
_ROOM = 8  # words that a kernel may write behind those that it finds


def take_kept(words: Numbers) -> tuple[Numbers, Numbers]:
    """Find the words that are not zero.

    Args:
        words: of 1, 2, 4 or 8 bytes, contiguous.

    Returns:
        (the bits, bit i % 8 of byte i // 8 for word i; the kept words)

    >>> bits, kept = take_kept(np.array([0, 7, 0, 9], np.uint16))
    >>> bin(bits[0]), kept.tolist()
    ('0b1010', [7, 9])
    """
    if (library := native.library()) is None:
        is_kept = words != 0
        return np.packbits(is_kept, bitorder="little"), words[is_kept]
    bits, kept = np.empty((len(words) + 7) // 8, _BYTE), np.empty(len(words) + _ROOM, words.dtype)
    count = ctypes.c_int64()
    library.pc_take_kept(
        *(words.ctypes.data, len(words), words.itemsize),
        *(bits.ctypes.data, kept.ctypes.data, ctypes.addressof(count)),
    )
    return bits, kept[: count.value]


def put_kept_(words: Numbers, bits: Numbers, kept: Numbers) -> None:
    """The reverse: write the next of `kept` where a bit is set, and zero elsewhere.

    Args:
        words: of 1, 2, 4 or 8 bytes, contiguous.
        bits: one for each word.
        kept: one for each bit that is set, of the dtype of the words, contiguous.
    """
    if (library := native.library()) is not None:
        library.pc_put_kept(
            *(words.ctypes.data, bits.ctypes.data, len(words), words.itemsize, kept.ctypes.data, len(kept))
        )
        return
    words[:] = 0
    words[places_of(bits, len(words))] = kept


def places_of(bits: Numbers, size: int) -> Numbers:
    """Return the places of the bits that are set among the first `size`, int64."""
    return np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little").view(np.bool_))


def count_of(bits: Numbers) -> int:
    """Count the bits that are set."""
    if (library := native.library()) is None:
        return int(np.unpackbits(bits).sum())
    count = ctypes.c_int64()
    library.pc_count_bits(bits.ctypes.data, 8 * len(bits), ctypes.addressof(count))
    return count.value


def write_gaps(bits: Numbers, size: int, carried: int) -> tuple[Numbers, int]:
    """Write the zeros before each bit that is set: a byte of them, or a skip for each set bit of gap // 240 before it.

    Args:
        bits: of `size` words; bits past them are 0.
        size: how many words there are.
        carried: how many zeros came before them.

    Returns:
        (the bytes; how many zeros follow the last bit that is set)

    >>> gaps, carried = write_gaps(np.array([0b1010], np.uint8), 8, 720)
    >>> gaps.tolist(), carried
    ([240, 241, 1, 1], 4)
    """
    if (library := native.library()) is None:
        return _write_gaps_twin(bits, size, carried)
    n_zeros = size + carried
    room = count_of(bits) + n_zeros // LITERALS if n_zeros < 2 * _LONGEST else size + n_zeros // _LONGEST + 2 * SKIPS
    gaps, n_bytes, left = np.empty(room, _BYTE), ctypes.c_int64(), ctypes.c_int64(carried)
    library.pc_write_gaps(
        *(bits.ctypes.data, size, ctypes.addressof(left), gaps.ctypes.data, ctypes.addressof(n_bytes))
    )
    return gaps[: n_bytes.value], left.value


def _write_gaps_twin(bits: Numbers, size: int, carried: int) -> tuple[Numbers, int]:
    places = places_of(bits, size)
    if not len(places):
        return np.empty(0, _BYTE), carried + size
    gaps = np.diff(places, prepend=-1) - 1
    gaps[0] += carried
    n_longest, gaps[0] = divmod(int(gaps[0]), 2 * _LONGEST)  # a gap longer than all skips together begins with some
    multiples, literals = np.divmod(gaps, LITERALS)
    long = np.flatnonzero(multiples)
    which, skip = np.nonzero((multiples[long, None] >> np.arange(SKIPS)) & 1)
    symbols = np.insert(literals.astype(_BYTE), long[which], (LITERALS + skip).astype(_BYTE))
    return np.insert(symbols, 0, np.full(2 * n_longest, 255, _BYTE)), size - 1 - int(places[-1])


def read_gaps(gaps: Numbers, at: int) -> tuple[Numbers, int]:
    """The reverse.

    Args:
        gaps: bytes, 2^30 at most.
        at: how many words came before.

    Returns:
        (the places of the kept words, int64, ascending; how many words came in all)

    >>> places, at = read_gaps(np.array([240, 241, 1, 1], np.uint8), 0)
    >>> places.tolist(), at
    ([721, 723], 724)
    """
    if (library := native.library()) is None:
        ends = np.cumsum(_ADVANCE[gaps]) + at
        return ends[gaps < LITERALS] - 1, int(ends[-1]) if len(ends) else at
    places, count, end = np.empty(len(gaps) + 1, np.int64), ctypes.c_int64(), ctypes.c_int64(at)
    library.pc_read_gaps(
        *(gaps.ctypes.data, len(gaps), ctypes.addressof(end), places.ctypes.data, ctypes.addressof(count))
    )
    return places[: count.value], end.value
