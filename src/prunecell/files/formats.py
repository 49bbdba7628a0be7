"""The one table of the files that tensors are read from and written to, and what turns one into another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from prunecell.archive import TensorFacts, inspect, write
from prunecell.codecs.modes import ValueMode
from prunecell.errors import UnknownNameError, nearest
from prunecell.files.archive_file import read_archive, write_archive
from prunecell.files.contents import Contents
from prunecell.files.csr_file import write_csr
from prunecell.files.safetensors_file import read_safetensors, read_shards, write_safetensors
from prunecell.files.torch_file import read_torch, write_torch

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A kind of file that holds tensors by name.

    Attributes:
        endings: of its names.
        read: opens a file; None where it is not read here.
        write: writes contents to a file, which appears when it is complete or not at all; None where it is not written.
    """

    endings: tuple[str, ...]
    read: Callable[[Path], Contents] | None = None
    write: Callable[[Contents, Path], None] | None = None


FILE_FORMATS = {
    "shards": FileFormat(endings=(".safetensors.index.json",), read=read_shards),
    "safetensors": FileFormat(endings=(".safetensors",), read=read_safetensors, write=write_safetensors),
    "pcell": FileFormat(endings=(".pcell",), read=read_archive, write=write_archive),
    "torch": FileFormat(endings=(".pt", ".pth", ".bin", ".ckpt"), read=read_torch, write=write_torch),
    "csr": FileFormat(endings=(".npz",), write=write_csr),
}
"""Name -> format."""

READERS = {ending: known.read for known in FILE_FORMATS.values() if known.read for ending in known.endings}
WRITERS = {ending: known.write for known in FILE_FORMATS.values() if known.write for ending in known.endings}


def by_ending(path: Path, table: Mapping[str, _T], verb: str) -> _T:
    """Look up the ending of a file's name.

    Args:
        path: the file.
        table: ending -> value.
        verb: what is wanted of the file, "read" or "written"; the message says that it cannot be.

    Raises:
        UnknownNameError: the table has no such ending; the nearest one is offered.

    >>> by_ending(Path("model.safetensor"), WRITERS, "written")
    Traceback (most recent call last):
    prunecell.errors.UnknownNameError: model.safetensor: its ending is none that can be written; did you mean ...
    """
    for ending, value in table.items():
        if path.name.endswith(ending):
            return value
    raise UnknownNameError(f"{path}: its ending is none that can be {verb}{nearest(path.suffix, table)}")


def read(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a file, any that `pack` takes; tied ones are one tensor.

    Raises:
        UnknownNameError: its ending is none that can be read.
        FormatError: it is damaged, or holds something else than tensors.
    """
    return _opened(path).state()


def _opened(path: str | Path) -> Contents:
    return by_ending(Path(path), READERS, "read")(Path(path))


def pack(
    source: str | Path,
    target: str | Path,
    *,
    values: str | ValueMode = "exact",
    backend: str = "zlib",
    metadata: Mapping[str, object] | None = None,
) -> list[TensorFacts]:
    """Turn a file of tensors into an archive.

    Args:
        source: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (torch, read with `weights_only`: no code is run),
            `.safetensors`, `.safetensors.index.json` (its shards beside it), or `.pcell`.
        target: the archive to write.
        values: as for `save`.
        backend: as for `save`.
        metadata: added to that of a safetensors or `.pcell` source, which is kept.

    Returns:
        What the archive holds, one row a tensor.

    Raises:
        UnknownNameError: the ending is none of these.
        FormatError: the source is damaged, or holds something else than tensors.
        OptionTypeError: a tensor is of a dtype that cannot be stored.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.eye(100)}, f"{folder}/eye.pt")
    ...     rows = pack(f"{folder}/eye.pt", f"{folder}/eye.pcell")
    ...     unpack(f"{folder}/eye.pcell", f"{folder}/eye.safetensors")
    >>> [(row.name, row.shape) for row in rows]
    [('weight', (100, 100))]
    """
    contents = _opened(source)
    write(contents.items, target, values=values, backend=backend, metadata={**contents.metadata, **(metadata or {})})
    return inspect(target)


def unpack(source: str | Path, target: str | Path) -> None:
    """Turn an archive into a file of tensors; what was packed with values "exact" comes back bit for bit.

    Args:
        source: a `.pcell` file.
        target: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (a state_dict), `.safetensors` (written tensor by
            tensor; tied tensors are in it as often as they have names, and of the metadata the strings only), or any
            other of `FILE_FORMATS` that is written.

    Raises:
        UnknownNameError: the ending is none of these.
        OptionError: safetensors has no name for a dtype.
        FormatError: the archive is damaged.
    """
    write_to = by_ending(Path(target), WRITERS, "written")
    write_to(read_archive(Path(source)), Path(target))
