"""Archives, `.pcell`, as files among others."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from prunecell.archive import Alias, Archive, write
from prunecell.errors import quoted, some
from prunecell.files.contents import Contents

_PART = "format_code"  # the buffer that sparse layers alone have


def read_archive(path: Path) -> Contents:
    """Open an archive.

    Raises:
        FormatError: it is damaged.
    """
    with Archive.open(path) as archive:
        metadata = archive.metadata
    return Contents(items=_tensors(path), metadata=metadata)


def tell_sparse_parts(path: Path, target: Path) -> None:
    """Warn if a file that is about to be written from an archive gets the parts of sparse layers, not dense weights."""
    with Archive.open(path) as archive:
        layers = [quoted(name.rpartition(".")[0]) for name in archive if name.rpartition(".")[2] == _PART]
    if layers:
        warnings.warn(
            f"{target}: no dense weights, but the parts of sparse layers are written for {some(layers)}, because"
            f" {path} was saved after compact_: they fit such a model only; save before compact_ for dense weights",
            stacklevel=3,
        )


def _tensors(path: Path) -> Iterator[tuple[str, Tensor | Alias]]:
    with Archive.open(path) as archive:
        for name in archive:
            target = archive.target(name)
            yield name, archive[name] if target == name else Alias(of=target)


def write_archive(contents: Contents, path: Path) -> None:
    """Write an archive without loss; `pack` has more to choose."""
    write(contents.items, path, metadata=contents.metadata)
