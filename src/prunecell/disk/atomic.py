"""Files that appear under their name when they are complete, or not at all.

A new file is written as a draft, `.NAME.xxxxxxxx.tmp`, in the folder of the file that it will be. Its writer holds a
lock on it, which the system lets go when the writer dies. So whoever writes the same file next can tell the draft of a
run that was killed from one that is being written, and removes it.
"""

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from prunecell.disk.targets import check_writable, is_special

if sys.platform != "win32":
    import fcntl

_NAME_CHARACTERS = 30
"""So many of a file's name begin its draft's: 120 bytes at most in UTF-8, and some file systems allow 143 in all."""


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends, complete and on the disk.

    Several threads and processes may write the same file: each writes all of it, and the last one wins. If the block
    raises, the old file stays. A symbolic link stays one: the file that it leads to is replaced. The new file has the
    mode of the old one, and its owner and group as far as the system allows. Where there was none, they are those of
    any new file. A pipe or a device cannot be replaced: what is written goes into it at once.

    Args:
        path: where.
        sync: wait until the file is on the disk, so that it survives a power cut; a killed process needs no such thing.

    Raises:
        OSError: the file cannot be written, or the disk is full. It names `path`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"all of it")
    ...     [(found.name, found.read_text()) for found in Path(folder).iterdir()]
    [('a.txt', 'all of it')]
    """
    with _told_of(path):
        old = check_writable(path)
        if is_special(old):
            with path.open("wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        _remove_left(target)
        with _draft(path, target, old) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())  # else a power cut may leave a file of the right length, full of zeros
        if sync:
            _sync_folder(target.parent)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Name `path` in an error of writing that names no file."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save hides an OSError under a RuntimeError of its own
        hidden = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(hidden, OSError) and hidden.errno is not None and hidden.filename is None:
            raise OSError(hidden.errno, hidden.strerror, str(path)) from None
        raise


# ---- drafts ----------------------------------------------------------------------------------------------------------


@contextmanager
def _draft(path: Path, target: Path, old: os.stat_result | None) -> Iterator[BinaryIO]:
    """A new file beside `target`, locked, that takes its place when the block ends; it is removed if it does not."""
    file, draft = _opened(path, target, 0o666 if old is None else 0o600)
    with file:
        try:
            if old is not None:
                _become_like(file, old)
            yield file
            if sys.platform == "win32":  # which renames no open file; elsewhere the lock lasts until it has its name
                file.close()
            try:
                draft.replace(target)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            draft.unlink(missing_ok=True)


def _opened(path: Path, target: Path, mode: int) -> tuple[BinaryIO, Path]:
    """A new file beside `target`, and its name."""
    while True:
        draft = target.with_name(f".{target.name[:_NAME_CHARACTERS]}.{secrets.token_hex(4)}.tmp")
        try:
            number = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        except OSError as error:
            what = f"{error.strerror}: no file can be made in the folder {target.parent}"
            raise OSError(error.errno, what, str(path)) from None
        file = os.fdopen(number, "w+b")
        _lock(file)
        if os.fstat(file.fileno()).st_nlink:
            return file, draft
        file.close()  # another writer took it for one that was left, in the moment before it was locked


def _become_like(file: IO[bytes], old: os.stat_result) -> None:
    """Give a new file the owner, group and mode of the old one; nobody may read it who might not read the old one."""
    if sys.platform == "win32":
        return
    new, mode = os.fstat(file.fileno()), stat.S_IMODE(old.st_mode)
    if new.st_gid != old.st_gid:
        try:
            os.fchown(file.fileno(), -1, old.st_gid)
        except OSError:
            mode &= ~0o2070
    if new.st_uid != old.st_uid:
        try:
            os.fchown(file.fileno(), old.st_uid, -1)
        except OSError:
            mode &= ~0o4000
    os.fchmod(file.fileno(), mode)


def _remove_left(target: Path) -> None:
    """Remove the drafts of this file that killed runs left: those that nobody has locked."""
    if sys.platform == "win32":
        return
    ours = f".{target.name[:_NAME_CHARACTERS]}."
    with suppress(OSError):
        names = [name for name in os.listdir(target.parent) if name.startswith(ours)]  # noqa: PTH208 - ten times faster
        for name in names:
            if re.fullmatch(r"[0-9a-f]{8}\.tmp", name.removeprefix(ours)):
                _remove_unlocked(target.with_name(name))


def _remove_unlocked(draft: Path) -> None:
    if sys.platform == "win32":
        return
    with suppress(OSError):  # it is locked, another user's, no file, or gone
        file = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
        finally:
            os.close(file)


def _lock(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        with suppress(OSError):  # a file system without locks: then nobody can take a draft for one that was left
            fcntl.flock(file, fcntl.LOCK_EX)


def _sync_folder(folder: Path) -> None:
    """The new name too must survive a power cut."""
    if sys.platform == "win32":
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into it, but not read it
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems know no such thing
            raise
    finally:
        os.close(opened)
