"""Where something is about to be written: whether it may, found out before any work is done."""

import errno
import os
import stat
from pathlib import Path

from prunecell.errors import OptionError

_SPECIAL = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISSOCK, stat.S_ISBLK)

_DENIED = os.strerror(errno.EACCES)


def check_target(target: Path, source: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, or that is there already.

    Args:
        target: the file that is about to be written.
        source: what it is made of; it is never the target by mistake.
        force: whether an existing file, the source too, is replaced.

    Raises:
        OptionError: it is there already.
        OSError: see `check_writable`.
    """
    check_writable(target)
    if os.path.lexists(target) and not force:
        same = target.exists() and source.exists() and target.samefile(source)
        what = "it is the source itself" if same else "it is there already"
        raise OptionError(f"{target}: {what}; nothing was done: give another name, or --force to replace it")


def check_writable(path: Path) -> os.stat_result | None:
    """Refuse a path at which no file can be made or replaced; links are followed.

    Returns:
        What is known of the file that is there; None where there is none yet.

    Raises:
        OSError: the system's own kind of it, by the name that was given: it is a folder, its folder is not there or is
            no folder, it or its folder may not be written to.
    """
    old = _status(path)
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise OSError(errno.EISDIR, "it is a folder: give the name of a file in it", str(path))
    if old is not None and not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, _DENIED, str(path))
    if not is_special(old):
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        _check_folder(folder, path)
    return old


def is_special(status: os.stat_result | None) -> bool:
    """Whether it is of a pipe, a device or a socket: what is written goes into it at once, and replaces nothing."""
    return status is not None and any(is_kind(status.st_mode) for is_kind in _SPECIAL)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be made.

    Raises:
        OSError: it is not there, or no folder, or cannot be written in.
    """
    _check_folder(folder, folder)


def check_place(folder: Path) -> Path:
    """Refuse a folder that cannot be made, or be written in; return the nearest of it and its parents that is there.

    Raises:
        OptionError: something else than a folder stands where it, or one of its parents, would be.
        OSError: see `check_folder`.
    """
    there = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), Path())
    if not there.is_dir():
        raise OptionError(f"folder={str(folder)!r} is illegal: {there} is there already, and no folder")
    check_folder(there)
    return there


def _check_folder(folder: Path, given: Path) -> None:
    for is_so, number, what in (
        (folder.exists(), errno.ENOENT, f"there is no folder {folder}"),
        (folder.is_dir(), errno.ENOTDIR, f"{folder} is no folder"),
        (os.access(folder, os.W_OK | os.X_OK), errno.EACCES, f"{_DENIED}: no file can be made in the folder {folder}"),
    ):
        if not is_so:
            raise OSError(number, os.strerror(number) if given is folder else what, str(given))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
