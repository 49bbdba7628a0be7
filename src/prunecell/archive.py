"""Reading an archive: one `.pcell` file -> tensors, its header checked before anything is believed.

`load` reads a whole file. `Archive` opens a file without reading it and gives one tensor at a time, dense or
as positions and values. docs/format.md specifies the file.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.decode import decode, read_kept, read_scales, widen
from prunecell.codecs.dtypes import tensor_of, words_of, zeros_of
from prunecell.codecs.positions import CHUNK
from prunecell.codecs.records import Record
from prunecell.container import Container
from prunecell.errors import FormatError, UnknownNameError, nearest
from prunecell.manifest import Manifest, Plain, read_manifest

LIMIT_BYTES = 1 << 36  # 64 GiB


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """What a file says about one tensor, known without decoding it.

    Attributes:
        name: its key in the state_dict.
        dtype: torch's name of its dtype.
        shape: its shape.
        n_weights: elements.
        n_nonzero: elements whose bits are not all zero; None where nobody counted (stored as it is).
        encoding: how it is stored: "plain", "gaps8 codebook", "alias of encoder.weight" and so on.
        bytes_dense: bytes in memory.
        bytes_stored: bytes in the file, its lines in the header not counted.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_weights: int
    n_nonzero: int | None
    encoding: str
    bytes_dense: int
    bytes_stored: int


@dataclass(frozen=True, kw_only=True)
class SparseChunk:
    """The kept elements of a stretch [start, stop) of the flattened tensor.

    Attributes:
        start, stop: the stretch; those of a tensor follow one another and cover it.
        positions: int64, ascending, in [start, stop). Every other element of the stretch is +0.
        values: as many: of the tensor's dtype, or int8 where the tensor has scales.
    """

    start: int
    stop: int
    positions: Tensor
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class SparseParts:
    """A whole tensor as positions and values.

    Attributes:
        shape, dtype: of the tensor.
        positions: int64, ascending, into the flattened tensor.
        values: as many: of the tensor's dtype, or int8 where there are scales.
        scales: float32, one for every index of the first dimension: element = value * scale. None: as they are.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    positions: Tensor
    values: Tensor
    scales: Tensor | None


def load(path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Tensor]:
    """Read a whole file into plain dense tensors: the keys in their order, shapes, dtypes and bits as saved.

    Args:
        path: a file that `save` wrote.
        limit_bytes: a file whose tensors would take more memory than this is refused (64 GiB by default).

    Raises:
        FormatError: the file is damaged, hostile, of an unknown version, or no archive.
    """
    with Archive.open(path, limit_bytes=limit_bytes) as archive:
        state: dict[str, Tensor] = {}
        for name in archive:
            target = archive.target(name)
            state[name] = state[target] if target in state else archive[name]
        return state


def inspect(path: str | Path) -> list[TensorFacts]:
    """Say what a file holds, without decoding any of it.

    Raises:
        FormatError: the header is damaged, hostile, of an unknown version, or no archive's.
    """
    with Archive.open(path, limit_bytes=1 << 62) as archive:
        return [archive.facts(name) for name in archive]


class Archive:
    """An open file: names and dense tensors like a dict, but a tensor is read when it is asked for.

    The file is mapped into memory and must not be changed while it is open. Use it in a `with` statement.

    Attributes:
        metadata: what the caller of `save` gave.
    """

    def __init__(self, container: Container, manifest: Manifest, *, path: Path) -> None:
        self._container, self._manifest, self._path = container, manifest, path
        self.metadata = manifest.metadata

    @classmethod
    def open(cls, path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> Self:
        """Open a file and check all that its header says.

        Raises:
            FormatError: the file is damaged, hostile, of an unknown version, or no archive.
        """
        path = Path(path)
        try:
            container = Container(path)
        except FormatError as e:
            raise FormatError(f"{path}: {e}") from None
        try:
            manifest = read_manifest(container)
            if manifest.n_bytes > limit_bytes:
                raise FormatError(f"its tensors take {manifest.n_bytes} bytes; limit_bytes={limit_bytes}")
            return cls(container, manifest, path=path)
        except BaseException as e:
            container.close()
            if isinstance(e, FormatError):
                raise FormatError(f"{path}: {e}") from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; what was read stays."""
        self._container.close()

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
        item, data = self._item(name), self._data(name)
        with self._naming(name):
            if isinstance(item, Record):
                return decode(item, data)
            tensor = zeros_of(item.kind, item.shape)
            words_of(tensor)[:] = np.frombuffer(data, item.kind.word)
            return tensor

    def target(self, name: str) -> str:
        """Return the name under which a tensor is stored: its own, or that of the one it is tied to.

        Raises:
            UnknownNameError: there is none of this name.
        """
        if name not in self:
            raise UnknownNameError(f"{self._path}: there is no tensor {name!r}{nearest(name, self)}")
        return self._manifest.target[name]

    def chunks(self, name: str) -> Iterator[SparseChunk]:
        """Read one tensor stretch by stretch as positions and values: never dense, in bounded memory.

        Raises:
            FormatError: its bytes are damaged; then what was given before must not be used either.
            UnknownNameError: there is none of this name.
        """
        yield from self._chunks(name, scaled=True)

    def parts(self, name: str) -> SparseParts:
        """Read one tensor as positions and values: never dense; int8 values stay int8, beside their scales.

        Raises:
            FormatError: its bytes are damaged.
            UnknownNameError: there is none of this name.
        """
        item = self._item(name)
        with self._naming(name):
            scales = read_scales(item, self._data(name)) if isinstance(item, Record) else None
        pieces = list(self._chunks(name, scaled=False))
        return SparseParts(
            shape=item.shape,
            dtype=item.kind.torch,
            positions=torch.cat([torch.empty(0, dtype=torch.int64), *(p.positions for p in pieces)]),
            values=torch.cat([p.values for p in pieces]) if pieces else torch.empty(0, dtype=item.kind.torch),
            scales=scales,
        )

    def facts(self, name: str) -> TensorFacts:
        """Say what the header says about one tensor.

        Raises:
            UnknownNameError: there is none of this name.
        """
        item, target = self._item(name), self.target(name)
        n_weights = math.prod(item.shape)
        counted = isinstance(item, Record) and item.positions != "all" and item.kind.words == 1
        encoding = f"{item.positions} {item.values}" if isinstance(item, Record) else "plain"
        return TensorFacts(
            name=name,
            dtype=item.kind.name,
            shape=item.shape,
            n_weights=n_weights,
            n_nonzero=item.count if isinstance(item, Record) and counted else None,
            encoding=encoding if target == name else f"alias of {target}",
            bytes_dense=n_weights * item.kind.itemsize,
            bytes_stored=len(self._container.data(target)) if target == name else 0,
        )

    def _item(self, name: str) -> Record | Plain:
        return self._manifest.stored[self.target(name)]

    def _data(self, name: str) -> memoryview:
        return self._container.data(self.target(name))

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except FormatError as e:
            raise FormatError(f"{self._path}: tensor {name!r}: {e}") from None

    def _chunks(self, name: str, *, scaled: bool) -> Iterator[SparseChunk]:
        item, data = self._item(name), self._data(name)
        with self._naming(name):
            if isinstance(item, Plain):
                yield from _plain_chunks(item, data)
                return
            scales = read_scales(item, data) if scaled else None
            kind = item.stored if item.is_scaled and not scaled else item.kind
            for where, kept in read_kept(item, data):
                words = widen(item, where, kept, scales) if kind is item.kind else kept
                yield SparseChunk(
                    start=where.start,
                    stop=where.stop,
                    positions=torch.from_numpy(where.positions),
                    values=tensor_of(words, kind),
                )


def _plain_chunks(item: Plain, data: memoryview) -> Iterator[SparseChunk]:
    words = np.frombuffer(data, item.kind.word)
    for start in range(0, len(words), CHUNK):
        chunk = words[start : start + CHUNK]
        positions = np.flatnonzero(chunk)
        yield SparseChunk(
            start=start,
            stop=start + len(chunk),
            positions=torch.from_numpy(positions + start),
            values=tensor_of(chunk[positions], item.kind),
        )
