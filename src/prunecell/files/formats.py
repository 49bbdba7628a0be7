"""The one table of the files that tensors are read from and written to, and what turns one into another."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from prunecell.archive import TensorFacts, inspect, write
from prunecell.checks import check_mapping, check_path
from prunecell.choices import chosen
from prunecell.codecs.encode import BACKENDS
from prunecell.codecs.modes import ValueMode, value_mode
from prunecell.disk.endings import ARCHIVE, ENDINGS, SAFETENSORS, TORCH
from prunecell.disk.foreign import meant_in, recognized
from prunecell.disk.targets import check_target
from prunecell.errors import FormatError, OptionError, OptionTypeError, UnknownNameError, nearest, quoted, some
from prunecell.files.archive_file import read_archive, tell_sparse_parts, write_archive
from prunecell.files.contents import Contents
from prunecell.files.csr_file import write_csr
from prunecell.files.minus_zeros import MinusZeros
from prunecell.files.safetensors_file import read_safetensors, write_safetensors
from prunecell.files.shards_file import INDEX_ENDINGS, files_of, index_of, read_shards
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
    "shards": FileFormat(endings=INDEX_ENDINGS, read=read_shards),
    "safetensors": FileFormat(endings=ENDINGS[SAFETENSORS], read=read_safetensors, write=write_safetensors),
    "pcell": FileFormat(endings=ENDINGS[ARCHIVE], read=read_archive, write=write_archive),
    "torch": FileFormat(endings=ENDINGS[TORCH], read=read_torch, write=write_torch),
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
    if not path.suffix:
        raise UnknownNameError(
            f"{path}: its name has no ending: it must be one of those {verb}: {', '.join(sorted(table))}"
        )
    raise UnknownNameError(f"{path}: its ending is none that can be {verb}{nearest(path.suffix, table)}")


def read(path: str | Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read all tensors of a file, any that `pack` takes; tied ones are one tensor.

    Args:
        path: the file, or a folder with one.
        key: as for `pack`.

    Raises:
        UnknownNameError: its ending is none that can be read, or no state_dict is under the key.
        FormatError: it is damaged, or holds something else than tensors.
    """
    return opened(path, key=key).state()


def opened(path: str | Path, *, key: str | None = None) -> Contents:
    """Open a file of tensors, or the one in a folder, and look at nothing but its list of tensors, where it has one.

    Raises:
        As `read`. OptionError: the file has no entries to choose from.
    """
    path = file_in(check_path("path", path))
    if key is not None and not isinstance(key, str):
        raise OptionTypeError(f"key={quoted(key)} is illegal: it must be a text, a.b for one entry within another")
    reader = _reader_of(path)
    if key is None:
        return reader(path)
    if reader is not read_torch:
        raise OptionError(f"key={key!r} is illegal: only a torch checkpoint has entries to choose from, not {path}")
    return read_torch(path, key=key)


def _reader_of(path: Path) -> Callable[[Path], Contents]:
    try:
        return by_ending(path, READERS, "read")
    except UnknownNameError as error:
        what = recognized(path)[0] if path.is_file() else ""
        hint = f"; it is a {what}: let its name end in {ENDINGS[what][0]}" if what in ENDINGS else ""
        raise UnknownNameError(f"{error}{hint}") from None


def file_in(path: Path) -> Path:
    """Return the file itself; of a folder the index of its shards, or the one file of tensors that it holds.

    Raises:
        FormatError: the folder holds no such file, or several.
    """
    if not path.is_dir():
        return path
    meant = meant_in(path)
    if len(meant) == 1:
        return meant[0]
    held = some(file.name for file in meant)
    what = f"with several files of tensors ({held}): name one of them" if held else "without a file of tensors"
    raise FormatError(f"{path}: a folder {what}")


def size_of(path: str | Path) -> int:
    """Bytes of a file of tensors; of an index, those of its shards too."""
    return sum(file.stat().st_size for file in files_of(file_in(check_path("path", path))))


def pack(
    source: str | Path,
    target: str | Path,
    *,
    values: str | ValueMode = "exact",
    backend: str = "zstd",
    metadata: Mapping[str, object] | None = None,
    key: str | None = None,
) -> list[TensorFacts]:
    """Turn a file of tensors into an archive.

    Numbers, text and lists and dicts of them that stand beside the state_dict in a torch checkpoint are kept in the
    archive's metadata; `unpack` to a `.pt` file gives the checkpoint back with them. A warning names what cannot be
    kept (an optimizer's state, say), weights that are -0.0, which the archive keeps as values, and the index beside the
    source where the source is only one of the files of a model.

    Args:
        source: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (torch, read with `weights_only`: no code is run),
            `.safetensors`, `.safetensors.index.json` or `.bin.index.json` (the shards beside it), or `.pcell`; or a
            folder with one of them.
        target: the archive to write; an existing file is replaced.
        values: as for `save`.
        backend: as for `save`.
        metadata: added to that of the source, which is kept.
        key: which entry of a torch checkpoint is the state_dict, `a.b` for one within another. None: all of it, what
            stands under `state_dict`, `model_state_dict` or `model`, or the only one.

    Returns:
        What the archive holds, one row a tensor.

    Raises:
        UnknownNameError: the ending is none of these, or no state_dict is under the key.
        FormatError: the source is damaged, or holds something else than tensors.
        OptionError: the target is a folder. OSError: its folder is not there or cannot be written in.
        OptionTypeError: a tensor is of a dtype that cannot be stored, or a path or the key is of another type.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"model": {"weight": torch.eye(100)}, "epoch": 3}, f"{folder}/eye.pt")
    ...     rows = pack(f"{folder}/eye.pt", f"{folder}/eye.pcell")
    ...     unpack(f"{folder}/eye.pcell", f"{folder}/again.pt")
    ...     again = torch.load(f"{folder}/again.pt")
    >>> [(row.name, row.shape) for row in rows], again["epoch"]
    ([('weight', (100, 100))], 3)
    """
    mode = MinusZeros(value_mode(values))
    chosen("backend", backend, BACKENDS)
    check_mapping("metadata", metadata or {}, "a mapping from texts to what JSON can hold")
    source, target = check_path("source", source), check_path("target", target)
    check_target(target, source, force=True)
    contents = opened(source, key=key)
    _tell_what_lacks(source, contents)
    write(contents.items, target, values=mode, backend=backend, metadata={**contents.metadata, **(metadata or {})})
    if mode.matter:
        warnings.warn(f"{source}: {mode}", stacklevel=2)
    return inspect(target)


def unpack(source: str | Path, target: str | Path) -> None:
    """Turn an archive into a file of tensors; what was packed with values "exact" comes back bit for bit.

    Args:
        source: a `.pcell` file.
        target: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (a state_dict, or the checkpoint that was packed),
            `.safetensors` (written tensor by tensor; tied tensors are in it as often as they have names, and metadata
            that are no text are JSON), or any other of `FILE_FORMATS` that is written. An existing file is replaced.
            A warning names metadata for which it has no place, and the sparse layers of a model that was saved after
            `compact_`, whose parts are written as they are.

    Raises:
        UnknownNameError: the ending is none of these.
        OptionError: safetensors has no name for a dtype, or the target is a folder.
        OSError: its folder is not there or cannot be written in.
        FormatError: the archive is damaged.
    """
    source, target = check_path("source", source), check_path("target", target)
    check_target(target, source, force=True)
    write_to = by_ending(target, WRITERS, "written")
    tell_sparse_parts(source, target)
    write_to(read_archive(source), target)


def convert(source: str | Path, target: str | Path, *, key: str | None = None) -> None:
    """Turn any file that `pack` takes into any that `unpack` writes, bit for bit, metadata included where it can.

    Raises:
        As `pack` and `unpack`.
    """
    source, target = check_path("source", source), check_path("target", target)
    check_target(target, source, force=True)
    write_to = by_ending(target, WRITERS, "written")
    contents = opened(source, key=key)
    _tell_what_lacks(source, contents)
    if _reader_of(file_in(source)) is read_archive:
        tell_sparse_parts(file_in(source), target)
    write_to(contents, target)


def _tell_what_lacks(source: Path, contents: Contents) -> None:
    """Warn of what does not come along: what is no tensor, and the other shards of the model."""
    index = index_of(file_in(source))
    if index is not None:
        warnings.warn(f"{source}: it is a part of a model only: {index} names all its files; give that", stacklevel=3)
    if contents.left_out:
        kept = "only tensors are kept, and numbers and text beside them"
        warnings.warn(f"{source}: left out, because {kept}: {', '.join(contents.left_out)}", stacklevel=3)
