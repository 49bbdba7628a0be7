"""A folder in which one run works at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecell.errors import OptionError

if sys.platform != "win32":
    import fcntl


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only run that works in a folder. Another one's claim ends with its process, however that ends.

    Raises:
        OptionError: another run works in it.
    """
    if sys.platform == "win32":
        yield
        return
    claim = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(
                f"another run works in the folder {folder}, and both would write the same files: wait until it ends, or"
                " use another folder"
            ) from None
        except OSError:  # some network file systems lock no folders
            pass
        yield
    finally:
        os.close(claim)
