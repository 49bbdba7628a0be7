"""Where a command is about to write: whether it may, found out before any work is done."""

import errno
import os
from pathlib import Path

from prunecell.errors import OptionError


def check_target(target: Path, source: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, or that is there already.

    Args:
        target: the file that is about to be written.
        source: what it is made of; it is never the target by mistake.
        force: whether an existing file, the source too, is replaced.

    Raises:
        OptionError: it is there already, or is a folder.
        OSError: its folder is not there, or cannot be written in; it names what the user gave.
    """
    if target.is_dir():
        raise OptionError(f"{target}: it is a folder: give the name of a file in it")
    check_folder(target.parent)
    if os.path.lexists(target) and not force:
        same = target.exists() and source.exists() and target.samefile(source)
        what = "it is the source itself" if same else "it is there already"
        raise OptionError(f"{target}: {what}; nothing was done: give another name, or --force to replace it")


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be made.

    Raises:
        OSError: it is not there, or no folder, or cannot be written in.
    """
    for is_so, number in (
        (folder.exists(), errno.ENOENT),
        (folder.is_dir(), errno.ENOTDIR),
        (os.access(folder, os.W_OK | os.X_OK), errno.EACCES),
    ):
        if not is_so:
            raise OSError(number, os.strerror(number), str(folder))
