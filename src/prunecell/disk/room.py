"""Whether a disk has room for what will be written, asked before any work is done."""

import errno
import os
import shutil
from pathlib import Path

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def check_room(folder: Path, n_bytes: int) -> None:
    """Refuse a folder whose disk has not so many bytes free.

    Args:
        folder: it exists.
        n_bytes: what will be written there, beside what is there, by a low estimate.

    Raises:
        OSError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        what = f"{os.strerror(errno.ENOSPC)}: about {told(n_bytes)} will be written, and {told(free)} are free"
        raise OSError(errno.ENOSPC, what, str(folder.resolve()))


def told(n_bytes: float) -> str:
    """A number of bytes for people, in powers of 1000.

    >>> told(1_234_567), told(12)
    ('1.2 MB', '12 bytes')
    """
    for unit in _UNITS[:-1]:
        if n_bytes < 1000:  # noqa: PLR2004
            return f"{n_bytes:.1f} {unit}" if unit != _UNITS[0] else f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} {_UNITS[-1]}"
