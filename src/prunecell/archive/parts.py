"""The bytes of one tensor -> the tensor, or its positions and values, from which sparse layers are made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from prunecell.archive.manifest import Plain, TensorRecord
from prunecell.codecs.contexts import NO_ROWS
from prunecell.codecs.decode import check_words, decode, open_blob, widen
from prunecell.codecs.dtypes import Numbers, empty_of, tensor_of, words_of
from prunecell.codecs.positions import CHUNK, SMALL_CHUNK
from prunecell.codecs.records import EncodedRecord
from prunecell.codecs.streams import RawReader, Source


@dataclass(frozen=True, kw_only=True)
class SparseChunk:
    """The kept elements of a chunk of the flattened tensor.

    Attributes:
        start, stop: the chunk is the elements [start, stop). The chunks of a tensor follow one another and cover it.
        positions: int64, ascending, in [start, stop). Every other element of the chunk is +0.
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


def read_tensor(record: TensorRecord, data: Source, above: Numbers = NO_ROWS) -> Tensor:
    """Read a tensor into new memory; `above` is as in `open_blob`.

    Raises:
        FormatError: the bytes are damaged.
    """
    if not isinstance(record, Plain):
        return decode(record, data, above)
    tensor = empty_of(record.kind, record.shape)
    words, stream = words_of(tensor), RawReader(data, record.kind.word)
    for start in range(0, len(words), CHUNK):
        some = stream.read(CHUNK)
        check_words(record.kind, some)
        words[start : start + CHUNK] = some
    return tensor


def read_chunks(record: TensorRecord, data: Source, above: Numbers = NO_ROWS) -> Iterator[SparseChunk]:
    """Read a tensor chunk by chunk in bounded memory.

    Positions and values of a complex tensor are those of its flattened `torch.view_as_real`.

    Raises:
        FormatError: the bytes are damaged; then what was given before must not be used either.
    """
    if isinstance(record, Plain):
        yield from _plain_chunks(record, data)
        return
    opened = open_blob(record, data, above)
    for chunk, words in opened.kept:
        yield SparseChunk(
            start=chunk.start,
            stop=chunk.stop,
            positions=torch.from_numpy(chunk.positions),
            values=tensor_of(widen(opened, chunk, words), record.kind),
        )


def _plain_chunks(record: Plain, data: Source) -> Iterator[SparseChunk]:
    stream = RawReader(data, record.kind.word)
    for start in range(0, len(data) // record.kind.word.itemsize, SMALL_CHUNK):
        words = stream.read(SMALL_CHUNK)
        check_words(record.kind, words)
        positions = np.flatnonzero(words)
        yield SparseChunk(
            start=start,
            stop=start + len(words),
            positions=torch.from_numpy(positions + start),
            values=tensor_of(words[positions], record.kind),
        )


def read_codes(record: EncodedRecord, data: Source, above: Numbers = NO_ROWS) -> tuple[Tensor, Iterator[SparseChunk]]:
    """Read a tensor of scaled integers: its scales at once, and its int8 chunk by chunk in bounded memory.

    Raises:
        FormatError: the bytes are damaged; also while the chunks are read.
    """
    opened = open_blob(record, data, above)
    if opened.scales is None:
        raise AssertionError("only scaled integers have codes")

    def chunks() -> Iterator[SparseChunk]:
        for chunk, words in opened.kept:
            yield SparseChunk(
                start=chunk.start,
                stop=chunk.stop,
                positions=torch.from_numpy(chunk.positions),
                values=tensor_of(words, record.stored),
            )

    return opened.scales.expand(record.shape[0]), chunks()


def has_codes(record: TensorRecord) -> TypeGuard[EncodedRecord]:
    """Whether a tensor is stored as int8, to be multiplied by scales."""
    return not isinstance(record, Plain) and record.is_scaled and record.stored.name == "int8" and bool(record.shape)


def read_parts(record: TensorRecord, data: Source, above: Numbers = NO_ROWS) -> SparseParts:
    """Read a tensor as positions and values; scaled integers stay integers, beside their scales.

    Raises:
        FormatError: the bytes are damaged.
    """
    positions, values, scales = [torch.empty(0, dtype=torch.int64)], [], None
    if has_codes(record):
        scales, chunks = read_codes(record, data, above)
    else:
        chunks = read_chunks(record, data, above)
    for sparse in chunks:
        positions.append(sparse.positions)
        values.append(sparse.values)
    return SparseParts(
        shape=record.shape,
        dtype=record.kind.torch,
        positions=torch.cat(positions),
        values=torch.cat(values) if values else torch.empty(0, dtype=record.kind.torch),
        scales=scales,
    )
