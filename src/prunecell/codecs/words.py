"""Words split into bytes, joined, and scattered to their positions: by the compiled kernels, or by numpy and torch."""

import ctypes
from typing import Any

import numpy as np
import torch

from prunecell import native
from prunecell.codecs.dtypes import Numbers


def split_bytes(words: Numbers, *, sign_below: bool) -> list[Numbers]:
    """Split words into their bytes.

    Args:
        words: unsigned, contiguous.
        sign_below: whether the sign, the highest bit, is first moved to be the lowest.

    Returns:
        uint8, one for each byte of a word, the lowest first.

    >>> [plane.tolist() for plane in split_bytes(np.array([0x8081, 0x4000], "u2"), sign_below=True)]
    [[3, 0], [1, 128]]
    """
    size = words.itemsize
    if (library := native.library()) is None or size == 1:
        if sign_below:
            words = (words << 1) | (words >> (8 * size - 1))
        rows = words.view(np.uint8).reshape(-1, size)
        return [np.ascontiguousarray(rows[:, j]) for j in range(size)]
    planes = [np.empty(len(words), np.uint8) for _ in range(size)]
    addresses = (ctypes.c_void_p * size)(*(plane.ctypes.data for plane in planes))
    library.pc_split_bytes(words.ctypes.data, len(words), size, sign_below, addresses)
    return planes


def join_bytes(planes: list[Numbers], word: np.dtype[Any], *, sign_below: bool, into: Numbers | None = None) -> Numbers:
    """Join words from their bytes.

    Args:
        planes: uint8, one for each byte of a word, the lowest first; all of one length, each contiguous.
        word: the unsigned dtype of a word.
        sign_below: whether the sign is the lowest bit of the joined word and must be moved to the highest.
        into: where the words are written and returned, contiguous, if they may be, which is faster.

    >>> planes = [np.array(plane, np.uint8) for plane in ([3, 0], [1, 128])]
    >>> [hex(word) for word in join_bytes(planes, np.dtype("u2"), sign_below=True)]
    ['0x8081', '0x4000']
    """
    if (library := native.library()) is None or word.itemsize == 1:
        return _join_bytes_twin(planes, word, sign_below=sign_below)
    words = np.empty(len(planes[0]), word) if into is None else into
    addresses = (ctypes.c_void_p * len(planes))(*(plane.ctypes.data for plane in planes))
    library.pc_join_bytes(addresses, len(words), word.itemsize, sign_below, words.ctypes.data)
    return words


def _join_bytes_twin(planes: list[Numbers], word: np.dtype[Any], *, sign_below: bool) -> Numbers:
    words = planes[-1].astype(word)
    for plane in reversed(planes[:-1]):
        words <<= 8
        words |= plane
    if sign_below:
        signs = words << (8 * words.itemsize - 1)
        words >>= 1
        words |= signs
    return words


def scatter_(words: Numbers, positions: Numbers, kept: Numbers) -> None:
    """Write `kept` at `positions`.

    Args:
        words: of 1, 2, 4 or 8 bytes, contiguous.
        positions: int64, contiguous, all inside of `words`: nothing is checked.
        kept: as many, of the dtype of the words, contiguous.
    """
    if (library := native.library()) is not None:
        library.pc_scatter(
            words.ctypes.data, positions.ctypes.data, kept.ctypes.data, len(positions), words.dtype.itemsize
        )
    else:
        signed = f"i{words.itemsize}"  # torch scatters in half of numpy's time, but knows few unsigned types
        target = torch.from_numpy(words.view(signed))
        target.scatter_(0, torch.from_numpy(positions), torch.from_numpy(kept.view(signed)))
