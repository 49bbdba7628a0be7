"""Files that appear under their name when they are complete, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends, complete and on the disk.

    It is written beside `path`, under a name of its own, so several processes may write the same file: the last one
    wins. If the block raises, the new file is removed and the old one stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"all of it")
    ...     [(found.name, found.read_text()) for found in Path(folder).iterdir()]
    [('a.txt', 'all of it')]
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave a file of the right length, full of zeros
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":  # the new name too must survive a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
