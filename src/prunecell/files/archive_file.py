"""Archives, `.pcell`, as files among others."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from prunecell.archive import Alias, Archive, write
from prunecell.files.contents import Contents


def read_archive(path: Path) -> Contents:
    """Open an archive.

    Raises:
        FormatError: it is damaged.
    """
    with Archive.open(path) as archive:
        metadata = archive.metadata
    return Contents(items=_tensors(path), metadata=metadata)


def _tensors(path: Path) -> Iterator[tuple[str, Tensor | Alias]]:
    with Archive.open(path) as archive:
        for name in archive:
            target = archive.target(name)
            yield name, archive[name] if target == name else Alias(of=target)


def write_archive(contents: Contents, path: Path) -> None:
    """Write an archive without loss; `pack` has more to choose."""
    write(contents.items, path, metadata=contents.metadata)
