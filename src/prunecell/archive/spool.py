"""Files whose header is written first and known last: the body waits in memory, or on disk if it is large."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from prunecell.disk.atomic import replacing

_AT_ONCE = 1 << 18  # bytes that are read back at a time
_IN_MEMORY = 1 << 26  # bytes of the largest body that waits in memory


class Body:
    """Takes the bytes of the body, one after the other, and gives them back.

    Attributes:
        n_bytes: how many there are.
    """

    def __init__(self, folder: str | None) -> None:
        self._pieces: list[bytes | memoryview] = []  # those that wait in memory, behind those in the stream
        self._in_stream = 0
        self._stream = tempfile.SpooledTemporaryFile(max_size=1, dir=folder)  # noqa: SIM115 - `close` closes it
        self.n_bytes = 0

    def append(self, data: bytes | memoryview) -> None:
        """Write bytes at the end. They must not be changed any more."""
        self._pieces.append(data)
        self.n_bytes += len(data)
        if self.n_bytes - self._in_stream > _IN_MEMORY:
            self._to_disk()

    def _to_disk(self) -> None:
        self._stream.seek(0, os.SEEK_END)
        for piece in self._pieces:
            self._stream.write(piece)
        self._pieces, self._in_stream = [], self.n_bytes

    def written(self, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes back, some at a time; more may be appended whenever some are given."""
        for at in range(start, stop, _AT_ONCE):
            self._to_disk()
            self._stream.seek(at)
            yield self._stream.read(min(_AT_ONCE, stop - at))

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all of them to a file."""
        self._stream.seek(0)
        shutil.copyfileobj(self._stream, file, 1 << 20)
        for piece in self._pieces:
            file.write(piece)

    def close(self) -> None:
        """Let go of what is on disk."""
        self._stream.close()


@contextmanager
def spooled(path: Path, header: Callable[[], bytes]) -> Iterator[Body]:
    """Write a header and a body; the file appears under its name when it is complete, or not at all.

    `header` is called when the body is complete.
    """
    with (
        replacing(path) as file,  # first, so that a place where nothing can be written is told at once
        closing(Body(_disk_of(path))) as body,
    ):
        yield body
        file.write(header())
        body.copy_to(file)


def _disk_of(path: Path) -> str | None:
    """The folder that a file will be in, which must have room for it; None for a pipe or a device."""
    return str(Path(os.path.realpath(path)).parent) if path.is_file() or not path.exists() else None
