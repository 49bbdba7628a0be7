"""An open file, read piece by piece.

It is read and not mapped into memory: whoever cuts a file that is mapped ends the process that has mapped it.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from zlib_ng.zlib_ng import crc32

from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.streams import InMemory
from prunecell.errors import FormatError

_AT_ONCE = 1 << 18  # bytes that are read at a time for a checksum, which finds them in the CPU's cache


class OpenFile:
    """A file that several threads may read.

    Attributes:
        n_bytes: its size.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._turn = threading.Lock()
        self.n_bytes = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes [start, stop).

        Raises:
            FormatError: there are fewer, because the file was cut after it was opened.
        """
        found = []
        with self._turn:
            self._file.seek(start)
            while start < stop and (some := self._file.read(stop - start)):
                found.append(some)
                start += len(some)
        if start < stop:
            raise FormatError("the file was cut while it was read")
        return found[0] if len(found) == 1 else b"".join(found)

    def read_into(self, start: int, memory: Numbers) -> None:
        """Read the bytes from `start` on into memory, uint8.

        Raises:
            FormatError: there are fewer.
        """
        left = memory.data
        while left and (n_bytes := self._some(start, left)):
            left, start = left[n_bytes:], start + n_bytes
        if left:
            raise FormatError("the file was cut while it was read")

    def _some(self, start: int, memory: memoryview) -> int:
        """Read some bytes from `start` on; how many. Where the system can, threads need not take turns."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [memory], start)
        with self._turn:
            self._file.seek(start)
            return self._file.readinto(memory) or 0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


@dataclass(frozen=True)
class FileSource:
    """The bytes [start, stop) of a file, read when they are asked for."""

    file: OpenFile
    start: int
    stop: int

    def __len__(self) -> int:
        """Return how many there are."""
        return self.stop - self.start

    def __getitem__(self, where: slice) -> bytes:
        """Read some of them."""
        start, stop, _ = where.indices(len(self))
        return self.file.read(self.start + start, self.start + max(start, stop))

    def section(self, start: int, stop: int) -> "FileSource":
        """Return the bytes [start, stop) as a source of their own."""
        return FileSource(self.file, self.start + start, self.start + stop)

    def in_memory(self) -> tuple[InMemory, int]:
        """Read all bytes; return them and their CRC-32."""
        memory, checksum = np.empty(len(self), np.uint8), 0
        for at in range(0, len(self), _AT_ONCE):
            some = memory[at : at + _AT_ONCE]
            self.file.read_into(self.start + at, some)
            checksum = crc32(some.data, checksum)
        return InMemory(memory.data), checksum

    def checksum(self) -> int:
        """Return the CRC-32 of the bytes."""
        memory, checksum = np.empty(min(len(self), _AT_ONCE), np.uint8), 0
        for at in range(0, len(self), _AT_ONCE):
            some = memory[: len(self) - at]
            self.file.read_into(self.start + at, some)
            checksum = crc32(some.data, checksum)
        return checksum
