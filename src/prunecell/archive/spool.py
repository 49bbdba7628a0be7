"""Files whose header is written first and known last: the body waits in memory, or on disk if it is large."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.n_bytes = 0

    def append(self, data: bytes | memoryview) -> None:
        """Write bytes at the end."""
        self._stream.write(data)
        self.n_bytes += len(data)

    def written(self, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes back, some at a time; more may be appended whenever some are given."""
        for at in range(start, stop, _AT_ONCE):
            self._stream.seek(at)
            some = self._stream.read(min(_AT_ONCE, stop - at))
            self._stream.seek(0, os.SEEK_END)
            yield some


@contextmanager
def spooled(path: Path, header: Callable[[], bytes]) -> Iterator[Body]:
    """Write a header and a body; the file appears under its name when it is complete, or not at all.

    `header` is called when the body is complete.
    """
    with (
        replacing(path) as file,  # first, so that a place where nothing can be written is told at once
        tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=_disk_of(path)) as stream,
    ):
        yield Body(stream)
        file.write(header())
        stream.seek(0)
        shutil.copyfileobj(stream, file, 1 << 20)


def _disk_of(path: Path) -> str | None:
    """The folder that a file will be in, which must have room for it; None for a pipe or a device."""
    return str(Path(os.path.realpath(path)).parent) if path.is_file() or not path.exists() else None
