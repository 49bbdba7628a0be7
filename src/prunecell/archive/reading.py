"""Reading an archive: one `.pcell` file -> tensors, checked before anything is handed out."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from prunecell.archive.container import BLOCK, read_file
from prunecell.archive.in_order import in_order
from prunecell.archive.manifest import LIMIT_BYTES, Manifest, Stored, TensorFacts, TensorRecord, facts_of
from prunecell.archive.opened import FileSource, OpenFile
from prunecell.archive.parts import (
    SparseChunk,
    SparseParts,
    has_codes,
    read_chunks,
    read_codes,
    read_parts,
    read_tensor,
)
from prunecell.archive.version1 import read_version1
from prunecell.checks import check_path
from prunecell.codecs.contexts import NO_ROWS, read_row_flags
from prunecell.codecs.dtypes import Numbers
from prunecell.codecs.records import IntegerRecord
from prunecell.codecs.streams import InMemory, Source
from prunecell.disk.endings import ARCHIVE, ARCHIVE_MARK
from prunecell.disk.foreign import is_stream, mistaken
from prunecell.errors import FormatError, UnknownNameError, nearest, quoted

_DENSE = 1 << 26  # bytes of a block that are in memory while a dense tensor, which is no smaller, is made of them


def load(path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Tensor]:
    """Read a whole file into plain dense tensors. Keys, their order, shapes, dtypes and bits are as they were saved.

    As many tensors are decoded at once as `torch.get_num_threads()` says.

    Args:
        path: a file that `save` wrote.
        limit_bytes: a file whose tensors would take more memory than this is refused (64 GiB by default).

    Raises:
        FormatError: the file is damaged, hostile, of an unknown version, or no archive.
        OptionError: it was written with pcodec, which is not installed.
    """
    with Archive.open(path, limit_bytes=limit_bytes) as archive:
        targets = {name: archive.target(name) for name in archive}
        names = list(dict.fromkeys(targets.values()))
        tensors = in_order(
            archive.__getitem__,
            names,
            n_threads=torch.get_num_threads(),
            n_bytes=lambda name: archive.facts(name).bytes_dense,
        )
        state = dict(zip(names, tensors, strict=True))
        return {name: state[target] for name, target in targets.items()}


def inspect(path: str | Path) -> list[TensorFacts]:
    """Say what a file holds, without decoding any of it.

    Raises:
        FormatError: the header is damaged, hostile, of an unknown version, or that of another format.

    >>> import tempfile, torch
    >>> from prunecell.archive import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"weight": torch.eye(100)}, f"{folder}/eye.pcell")
    ...     row, = inspect(f"{folder}/eye.pcell")
    >>> row.n_nonzero, row.encoding, row.bytes_dense
    (100, 'gaps8 codebook', 40000)
    """
    with Archive.open(path, limit_bytes=1 << 62) as archive:
        return [archive.facts(name) for name in archive]


class Archive:
    """An open file, with names and dense tensors as in a dict. A tensor is read when it is asked for.

    What a call gives was checked in that call, whoever changes the file meanwhile. Use it in a `with` statement.

    >>> import tempfile, torch
    >>> from prunecell.archive import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"weight": torch.eye(100)}, f"{folder}/eye.pcell")
    ...     with Archive.open(f"{folder}/eye.pcell") as archive:
    ...         list(archive), archive["weight"].sum().item(), len(archive.parts("weight").positions)
    (['weight'], 100.0, 100)
    """

    def __init__(self, file: OpenFile, manifest: Manifest, path: Path) -> None:
        self._file, self._manifest, self._path = file, manifest, path

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @classmethod
    def open(cls, path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> Self:
        """Open a file and check all that its header says.

        Raises:
            FormatError: the file is damaged, hostile, of an unknown version, or no archive.
        """
        path = check_path("path", path)
        with _naming(str(path)), _told_apart(path):
            file = OpenFile(path)
            try:
                manifest = _read_manifest(file)
                _check_size(manifest, limit_bytes)
            except BaseException:
                file.close()
                raise
        return cls(file, manifest, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; tensors that were read stay."""
        self._file.close()

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the caller of `save` gave."""
        return self._manifest.metadata

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.target)

    def __len__(self) -> int:
        return len(self._manifest.target)

    def __contains__(self, name: object) -> bool:
        return name in self._manifest.target

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor into new memory.

        Raises:
            FormatError: its bytes are damaged.
            UnknownNameError: there is none of this name.
        """
        with self._naming(name):
            return read_tensor(*self._checked(name, in_memory=_DENSE))

    def chunks(self, name: str) -> Iterator[SparseChunk]:
        """Read one tensor chunk by chunk as positions and values: never dense, in bounded memory.

        Raises:
            FormatError: its bytes are damaged; then what was given before must not be used either.
            UnknownNameError: there is none of this name.
        """
        with self._naming(name):
            yield from read_chunks(*self._checked(name))

    def codes(self, name: str) -> tuple[Tensor, Iterator[SparseChunk]] | None:
        """Read one tensor of scaled integers in bounded memory: its scales, and its int8 chunk by chunk.

        Returns:
            (float32, one for each index of the first dimension; the chunks): element = integer * scale. None where the
            tensor is stored in another way.

        Raises:
            FormatError: its bytes are damaged; also while the chunks are read.
            UnknownNameError: there is none of this name.
        """
        with self._naming(name):
            record, data, above = self._checked(name)
            if not has_codes(record):
                return None
            scales, chunks = read_codes(record, data, above)
        return scales, self._named(name, chunks)

    def _named(self, name: str, chunks: Iterator[SparseChunk]) -> Iterator[SparseChunk]:
        with self._naming(name):
            yield from chunks

    def parts(self, name: str) -> SparseParts:
        """Read one tensor as positions and values, never dense. Scaled integers stay int8, beside their scales.

        Raises:
            FormatError: its bytes are damaged.
            UnknownNameError: there is none of this name.
        """
        with self._naming(name):
            return read_parts(*self._checked(name))

    def facts(self, name: str) -> TensorFacts:
        """Say what the header says about one tensor.

        Raises:
            UnknownNameError: there is none of this name.
        """
        self.target(name)
        return facts_of(self._manifest, name)

    def target(self, name: str) -> str:
        """Return the name under which a tensor is stored: its own, or that of the one it is tied to.

        Raises:
            UnknownNameError: there is none of this name.
        """
        if name not in self:
            raise UnknownNameError(f"{self._path}: there is no tensor {name!r}{nearest(name, self)}")
        return self._manifest.target[name]

    def _checked(self, name: str, in_memory: int = BLOCK) -> tuple[TensorRecord, Source, Numbers]:
        """Return how a tensor is stored, its bytes, and which rows live of the tensor above that its record names.

        Bytes that are not those that were written are refused. Blocks of up to `in_memory` bytes are read once, and
        larger ones a second time, piece by piece, when they are decoded.
        """
        stored = self._manifest.stored[self.target(name)]
        record, rows = stored.record, NO_ROWS
        if isinstance(record, IntegerRecord) and record.above is not None:
            above = self._manifest.stored[record.above]
            if isinstance(above.record, IntegerRecord):
                data = self._bytes(above, BLOCK)
                rows = read_row_flags(bytes(data[above.record.n_prefix_bytes : len(data)]), above.record.grid)
        return record, self._bytes(stored, in_memory), rows

    def _bytes(self, stored: Stored, in_memory: int) -> Source:
        """The bytes of a tensor, whose block is checked."""
        if (block := stored.block) is None:
            return InMemory(memoryview(b""))
        file = FileSource(self._file, block.start, block.stop)
        source, checksum = file.in_memory() if len(file) <= in_memory else (file, file.checksum())
        if checksum != block.checksum:
            raise FormatError("its bytes are damaged: their checksum is wrong")
        return source.section(stored.start - block.start, stored.stop - block.start)

    def _naming(self, name: str) -> AbstractContextManager[None]:
        return _naming(f"{self._path}: tensor {quoted(name)}")


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Put what an error is about before its message."""
    try:
        yield
    except FormatError as e:
        raise FormatError(f"{what}: {e}") from None


@contextmanager
def _told_apart(path: Path) -> Iterator[None]:
    """Say what a file is that is no archive, instead of what is wrong with it as one."""
    if is_stream(path):
        raise FormatError(mistaken(path, ARCHIVE))
    try:
        yield
    except (FormatError, IsADirectoryError) as error:
        if else_ := mistaken(path, ARCHIVE):
            raise FormatError(else_) from None
        raise error from None


def _read_manifest(file: OpenFile) -> Manifest:
    is_marked = file.read(0, min(len(ARCHIVE_MARK), file.n_bytes)) == ARCHIVE_MARK
    return read_file(file) if is_marked else read_version1(file)


def _check_size(manifest: Manifest, limit_bytes: int) -> None:
    if manifest.n_bytes > limit_bytes:
        raise FormatError(f"its tensors take {manifest.n_bytes} bytes, more than limit_bytes={limit_bytes}")
