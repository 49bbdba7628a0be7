"""Making a sparse matrix from a stream of kept elements, in one pass and never dense on the way.

The stream gives the kept elements of a weight chunk by chunk, in order, as an archive reads them or `chunks_of` cuts
them from a dense tensor. Beyond the result, the memory of a chunk is needed.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.errors import OptionError
from prunecell.sparse.formats import format_named
from prunecell.sparse.formats.format import Elements, Format
from prunecell.sparse.matrix import Compressed
from prunecell.sparse.values import EXACT, ValueType, scales_of, values_for

CHUNK = 1 << 17  # elements of a dense tensor that are looked at in one go
BATCH = 1 << 13  # kept elements that are written in one go
QUAD = 4  # columns
GROWTH = 16  # an array that is too short grows by a sixteenth


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The kept elements among consecutive ones of a flattened tensor.

    Attributes:
        positions: int64, ascending, from the start of the tensor.
        values: as many, of any floating dtype.
    """

    positions: Tensor
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many rows and columns a matrix has, and about how many of its elements are kept."""

    n_rows: int
    n_columns: int
    n_kept: int


def chunks_of(weight: Tensor) -> Iterator[Chunk]:
    """The non-zero elements of a dense tensor, chunk by chunk of its flattened form."""
    flat = weight.detach().flatten()
    for start in range(0, len(flat), CHUNK):
        chunk = flat[start : start + CHUNK]
        positions = chunk.nonzero().flatten()
        yield Chunk(positions=positions + start, values=chunk[positions])


def count_quads(chunks: Iterable[Chunk], n_columns: int) -> int:
    """How many quads of a matrix have a kept element: four neighbouring columns of a row, the first a multiple of four.

    >>> count_quads(chunks_of(torch.tensor([[1.0, 0.0, 0.0, 2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0, 4.0, 0.0]])), 6)
    3
    """
    quads_of_row, last, n_quads = -(-n_columns // QUAD), -1, 0
    for chunk in chunks:
        if len(chunk.positions):
            rows, columns = chunk.positions // n_columns, chunk.positions % n_columns
            quads = rows * quads_of_row + columns // QUAD
            n_quads += int((quads.diff() != 0).sum()) + int(int(quads[0]) != last)
            last = int(quads[-1])
    return n_quads


def compress(weight: Tensor, *, format: str = "columns16", values: str = EXACT) -> Compressed:  # noqa: A002
    """Compress a dense tensor: one row for every index of its first dimension, the others flattened to columns.

    Args:
        weight: at least one dimension; its zeros are left out.
        format: "columns16", "gaps8" or "bitmask".
        values: "exact" (of the weight's dtype, if that is float32, float16 or bfloat16, else as "fp32"), "fp32", "fp16"
            or "bf16" (rounded; out of its range is refused), or "int8" (rounded to 1 / 127 of the row's largest).

    Raises:
        UnknownNameError: format or values is no such name.
        OptionError: the format or the values cannot hold this weight.

    >>> matrix = compress(torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 3.0]]), format="gaps8")
    >>> matrix.indices.tolist(), matrix.values.tolist()
    ([2, 0, 1], [1.0, 2.0, 3.0])
    """
    n_columns = math.prod(weight.shape[1:])
    shape = Shape(n_rows=weight.shape[0], n_columns=n_columns, n_kept=int(torch.count_nonzero(weight)))
    stored_as = values_for(values, weight.dtype)
    return compress_chunks(chunks_of(weight), shape, format=format_named(format), values=stored_as)


def check_values(values: Tensor, stored_as: ValueType) -> None:
    """Refuse values that a type cannot store.

    Args:
        values: (any,) floats.
        stored_as: the type.

    Raises:
        OptionError: one is too large for the type, or, where rows are scaled, not finite.
    """
    if not stored_as.is_scaled:
        stored_as.stored(values, None)
    elif not bool(values.isfinite().all()):
        raise OptionError(f"values={stored_as.name!r} is illegal for a weight with inf or NaN in it; take {EXACT!r}")


def compress_chunks(
    chunks: Iterable[Chunk],
    shape: Shape,
    *,
    format: Format,  # noqa: A002
    values: ValueType,
    scales: Tensor | None = None,
) -> Compressed:
    """Compress a stream of kept elements; see `compress`.

    Args:
        chunks: the elements.
        shape: of the matrix.
        format: how columns are written.
        values: how values are.
        scales: float32, (n_rows,), where the elements are integers already, each to be multiplied by the scale of its
            row; they are stored as they are.

    Raises:
        OptionError: the format or the values cannot hold this weight.
    """
    if format.max_columns is not None and shape.n_columns > format.max_columns:
        raise OptionError(
            f"format={format.name!r} is illegal for {shape.n_columns} columns:"
            f" at most {format.max_columns} can be written"
        )
    if scales is not None:
        check_values(scales, values)
    writer = _Writer(format, values, shape, scales)
    for chunk in _whole_rows(chunks, shape.n_columns) if values.is_scaled and scales is None else chunks:
        writer.write(chunk)
    return writer.result()


def _whole_rows(chunks: Iterable[Chunk], n_columns: int) -> Iterator[Chunk]:
    """The same elements in chunks that end with a row, so that the largest of a row is known when it is written."""
    waiting = Chunk(positions=torch.empty(0, dtype=torch.int64), values=torch.empty(0, dtype=torch.float32))
    for chunk in chunks:
        values = chunk.values.float()
        positions, values = torch.cat([waiting.positions, chunk.positions]), torch.cat([waiting.values, values])
        last_row = int(positions[-1]) // n_columns if len(positions) else 0
        n = int(torch.searchsorted(positions, last_row * n_columns))
        yield Chunk(positions=positions[:n], values=values[:n])
        waiting = Chunk(positions=positions[n:], values=values[n:])
    yield waiting


class _Writer:
    """A matrix that is written chunk by chunk."""

    def __init__(self, format: Format, values: ValueType, shape: Shape, scales: Tensor | None) -> None:  # noqa: A002
        self._format, self._type, self._shape = format, values, shape
        self._counts = torch.zeros(shape.n_rows + 1, dtype=torch.int64)
        indices = format.index_shape(shape.n_rows, shape.n_columns, shape.n_kept)
        self._indices = torch.zeros(indices, dtype=format.index_dtype)
        self._values = torch.zeros(shape.n_kept, dtype=values.dtype)
        self._scales = scales  # given, or found row by row
        measured = values.is_scaled and scales is None
        self._largest = torch.zeros(shape.n_rows, dtype=torch.float32) if measured else None
        self._before = (0, -1)
        self._n_written = 0

    def write(self, chunk: Chunk) -> None:
        """Write the elements of a chunk; where rows are scaled, it has whole rows."""
        if self._largest is not None:
            check_values(chunk.values, self._type)
            self._largest.scatter_reduce_(0, chunk.positions // self._shape.n_columns, chunk.values.abs(), "amax")
        for start in range(0, len(chunk.positions), BATCH):
            self._add(chunk.positions[start : start + BATCH], chunk.values[start : start + BATCH])

    def _add(self, positions: Tensor, values: Tensor) -> None:
        rows = positions // self._shape.n_columns
        columns = positions - rows * self._shape.n_columns
        scales = None if self._largest is None else scales_of(self._largest[rows])
        elements = Elements(rows=rows, columns=columns, values=self._type.stored(values, scales), before=self._before)
        self._before = int(rows[-1]), int(columns[-1])
        entries = self._format.encode(elements, self._indices)
        if entries.indices is not None:
            self._indices = self._appended(self._indices, entries.indices)
        self._values = self._appended(self._values, entries.values)
        self._counts.index_add_(0, entries.rows + 1, torch.ones_like(entries.rows))
        self._n_written += len(entries.rows)

    def _appended(self, array: Tensor, new: Tensor) -> Tensor:
        """The array with new elements behind those that were written, longer if it must be."""
        end = self._n_written + len(new)
        if end > len(array):
            room = array.new_zeros(end + end // GROWTH)
            room[: self._n_written] = array[: self._n_written]
            array = room
        array[self._n_written : end] = new.to(array.dtype)
        return array

    def result(self) -> Compressed:
        """The matrix."""
        shape = self._format.index_shape(self._shape.n_rows, self._shape.n_columns, self._n_written)
        return Compressed(
            starts=self._counts.cumsum(0).to(torch.int32),
            indices=self._cut(self._indices) if self._indices.shape != shape else self._indices,
            values=self._cut(self._values),
            scales=self._scales if self._largest is None else scales_of(self._largest),
            n_columns=self._shape.n_columns,
            format=self._format,
        )

    def _cut(self, array: Tensor) -> Tensor:
        return array if len(array) == self._n_written else array[: self._n_written].clone()
