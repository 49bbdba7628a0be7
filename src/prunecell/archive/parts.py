"""The bytes of one tensor -> the tensor, or its positions and values, never dense: what sparse layers are made from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecell.archive.manifest import Plain
from prunecell.codecs.decode import check_words, decode, open_blob, read_kept, widen
from prunecell.codecs.dtypes import tensor_of, words_of, zeros_of
from prunecell.codecs.positions import CHUNK
from prunecell.codecs.records import Record
from prunecell.codecs.streams import RawReader, Source


@dataclass(frozen=True, kw_only=True)
class SparseChunk:
    """The kept elements of a stretch [start, stop) of the flattened tensor.

    Attributes:
        start, stop: the stretch; those of a tensor follow one another and cover it.
        positions: int64, ascending, in [start, stop). Every other element of the stretch is +0.
        values: as many, of the tensor's dtype.
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
        scales: float32, one for each index of the first dimension: element = value * scale. Else None.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    positions: Tensor
    values: Tensor
    scales: Tensor | None


def read_tensor(item: Record | Plain, data: memoryview) -> Tensor:
    """Read a tensor into new memory.

    Raises:
        FormatError: the bytes are damaged.
    """
    if isinstance(item, Record):
        return decode(item, data)
    words = np.frombuffer(data, item.kind.word)
    check_words(item.kind, words)
    tensor = zeros_of(item.kind, item.shape)
    words_of(tensor)[:] = words
    return tensor


def read_chunks(item: Record | Plain, data: Source) -> Iterator[SparseChunk]:
    """Read a tensor stretch by stretch in bounded memory.

    Of a complex tensor, positions and values are those of its flattened `torch.view_as_real`.

    Raises:
        FormatError: the bytes are damaged; then what was given before must not be used either.
    """
    if isinstance(item, Plain):
        yield from _plain_chunks(item, data)
        return
    opened = open_blob(item, data)
    for stretch, words in read_kept(opened):
        yield SparseChunk(
            start=stretch.start,
            stop=stretch.stop,
            positions=torch.from_numpy(stretch.positions),
            values=tensor_of(widen(opened, stretch, words), item.kind),
        )


def _plain_chunks(item: Plain, data: Source) -> Iterator[SparseChunk]:
    stream = RawReader(data, item.kind.word)
    for start in range(0, len(data) // item.kind.word.itemsize, CHUNK):
        chunk = stream.read(CHUNK)
        check_words(item.kind, chunk)
        positions = np.flatnonzero(chunk)
        yield SparseChunk(
            start=start,
            stop=start + len(chunk),
            positions=torch.from_numpy(positions + start),
            values=tensor_of(chunk[positions], item.kind),
        )


def read_parts(item: Record | Plain, data: memoryview) -> SparseParts:
    """Read a tensor as positions and values; scaled integers stay integers, beside their scales.

    Raises:
        FormatError: the bytes are damaged.
    """
    positions, values, scales = [torch.empty(0, dtype=torch.int64)], [], None
    if isinstance(item, Record) and item.is_scaled:
        opened = open_blob(item, Source(data))
        scales = opened.scales
        for stretch, words in read_kept(opened):
            positions.append(torch.from_numpy(stretch.positions))
            values.append(tensor_of(words, item.stored))
    else:
        for chunk in read_chunks(item, Source(data)):
            positions.append(chunk.positions)
            values.append(chunk.values)
    return SparseParts(
        shape=item.shape,
        dtype=item.kind.torch,
        positions=torch.cat(positions),
        values=torch.cat(values) if values else torch.empty(0, dtype=item.kind.torch),
        scales=scales,
    )
