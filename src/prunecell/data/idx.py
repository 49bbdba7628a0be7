"""IDX, the file format of MNIST: a typed array of any rank, raw or gzipped, checked before it is read.

A file is `0 0 TYPE RANK`, RANK big-endian 32-bit sizes, then the elements, big-endian, last index fastest.
The sizes must account for every byte of the file, so a file that lies about them allocates nothing.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from prunecell.errors import FormatError

DTYPES = {b"\x08": "u1", b"\x09": "i1", b"\x0b": ">i2", b"\x0c": ">i4", b"\x0d": ">f4", b"\x0e": ">f8"}
RANKS = tuple(bytes([rank]) for rank in range(1, 9))  # the format allows 255, but no data set has more than 4
MAX_ELEMENTS = 1 << 59  # sizes of zero left out: numpy and torch compute strides of 8 bytes from them
GZIP_MAGIC = b"\x1f\x8b"
MAX_INFLATION = 1032  # no deflate stream grows by more, according to zlib's technical notes


def read_idx(path: str | Path) -> torch.Tensor:
    """Read an IDX file, gzipped or raw (told by its first bytes, not by its name).

    Returns:
        A tensor of the file's shape and element type, in native byte order.

    Raises:
        FormatError: it is not IDX, is cut short, has bytes left over, or declares more than it can hold.
        OSError: it cannot be opened or read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_idx(path)
    tensor([5, 0, 4], dtype=torch.uint8)
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not zipped:
            return _read(raw, path, size)
        try:
            with gzip.GzipFile(fileobj=raw) as inflated:
                return _read(inflated, path, size * MAX_INFLATION)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{path}: the gzip stream is damaged: {error}") from None


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, limit: int) -> torch.Tensor:
    """Read one array from a stream that cannot hold more than `limit` bytes."""
    magic = stream.read(4)
    if magic[:2] != b"\0\0" or magic[2:3] not in DTYPES or magic[3:] not in RANKS:
        raise FormatError(f"{path}: not an IDX file: it starts with {magic.hex(' ') or 'nothing'}")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FormatError(f"{path}: cut short inside the {magic[3]} sizes of its header")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    dtype = np.dtype(DTYPES[magic[2:3]])
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > limit or math.prod(max(size, 1) for size in shape) >= MAX_ELEMENTS:  # of an empty array too
        raise FormatError(f"{path}: shape {shape} needs {n_bytes:,} bytes, more than the file can hold")
    content = stream.read(n_bytes)
    if len(content) < n_bytes:
        raise FormatError(f"{path}: shape {shape} needs {n_bytes:,} bytes, {len(content):,} are there")
    if stream.read(1):
        raise FormatError(f"{path}: bytes are left over after an array of shape {shape}")
    array = np.frombuffer(bytearray(content), dtype).reshape(shape)
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), copy=False))
