"""CRC-32 of bytes: of many by the compiled kernels, at the speed of memory, else by zlib."""

import ctypes
import zlib

import numpy as np

from prunecell import native

_FEW = 1 << 15  # bytes of which zlib is as fast
_STEP = 64  # bytes that the kernel folds at a time
_ALL_ONES = 0xFFFFFFFF


def crc32(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of some bytes, contiguous, going on from that of the bytes before: as `zlib.crc32`.

    >>> crc32(b"a checksum") == zlib.crc32(b"a checksum")
    True
    """
    if len(data) < _FEW or (library := native.library()) is None:
        return zlib.crc32(data, before)
    numbers = np.frombuffer(data, np.uint8)
    n_folded = len(numbers) // _STEP * _STEP
    folded = (ctypes.c_uint8 * 16)()
    if not library.pc_fold_checksum(numbers.ctypes.data, n_folded, before ^ _ALL_ONES, ctypes.addressof(folded)):
        return zlib.crc32(data, before)
    return zlib.crc32(numbers[n_folded:].data, zlib.crc32(folded, _ALL_ONES))  # zlib's state is the number inverted
