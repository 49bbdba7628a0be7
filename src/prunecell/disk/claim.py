"""A folder in which one run works at a time."""

import errno
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunecell.disk.targets import check_folder
from prunecell.errors import OptionError

if sys.platform != "win32":
    import fcntl

LOCK = ".prunecell.lock"
"""The file in a folder that the run in it holds a lock on; it says which run that is."""

_TOLD = 200  # bytes


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only run that works in a folder.

    The lock is the system's, so it ends with the process, however that ends; the file that is left then has no meaning.
    Where the file system has no locks (some network file systems), a warning says so, and the run goes on without.

    Raises:
        OptionError: another run works in it; the message says which process, where and since when.
        OSError: the folder is not there, or no file can be made in it.
    """
    check_folder(folder)
    place = folder.absolute()
    lock = _opened(folder)
    try:
        _say_who(lock, folder)
        yield
    except OSError:
        if not place.exists():
            raise OSError(
                errno.ENOENT, "it is gone while a run works in it: begin anew in another", str(place)
            ) from None
        raise
    finally:
        if sys.platform != "win32":
            with suppress(OSError):  # the folder itself may be gone
                _remove(lock, folder / LOCK)
        os.close(lock)


def _opened(folder: Path) -> int:
    """The file, locked, under its name."""
    path = folder / LOCK
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: no file can be made in it", str(folder.absolute())) from None
        try:
            _lock(lock, folder)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the run before removed it, in the moment before it was locked


def _remove(lock: int, path: Path) -> None:
    """Remove the file while it is locked, unless another run's stands at its place.

    Ours was removed, or the folder moved away, and another run began in a new one of its name.
    """
    if os.path.samestat(os.fstat(lock), path.stat()):
        path.unlink()


def _lock(lock: int, folder: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.read(lock, _TOLD).decode("utf-8", "replace").strip() or "another run"
        raise OptionError(
            f"{who} works in the folder {folder.resolve()}, and both would write the same files: wait until it ends, or"
            " use another folder"
        ) from None
    except OSError as error:
        warnings.warn(
            f"{folder.resolve()} cannot be locked ({error.strerror}): see to it that no other run works in it",
            stacklevel=5,
        )


def _say_who(lock: int, folder: Path) -> None:
    text = f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"
    try:
        os.ftruncate(lock, 0)
        os.write(lock, text.encode()[:_TOLD])
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder / LOCK)) from None
