"""Making a compressed matrix from a stream of kept elements, never dense on the way.

The stream is a function that gives, each time it is called, the chunks of a weight in order, as an archive reads them
or `chunks_of` cuts them from a dense tensor. It is called once to three times; beyond the result, the memory of one
chunk is needed.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from prunecell.errors import OptionError, UnknownNameError, nearest
from prunecell.sparse.formats import VALUES, Compressed, Format, format_named

CHUNK = 1 << 17  # elements of a dense tensor that are looked at in one go
PIECE = 1 << 13  # kept elements that are written in one go
LONGEST_GAP = 255
MAX_INT8 = 127


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The kept elements of a stretch of a flattened tensor.

    Attributes:
        positions: int64, ascending, from the start of the tensor.
        values: as many, of any floating dtype.
    """

    positions: Tensor
    values: Tensor


Chunks = Callable[[], Iterable[Chunk]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many rows and columns a matrix has, and how many of its elements are kept."""

    n_rows: int
    n_columns: int
    n_kept: int


def chunks_of(weight: Tensor) -> Iterator[Chunk]:
    """The non-zero elements of a dense tensor, stretch by stretch of its flattened form."""
    flat = weight.detach().flatten()
    for start in range(0, len(flat), CHUNK):
        stretch = flat[start : start + CHUNK]
        positions = stretch.nonzero().flatten()
        yield Chunk(positions=positions + start, values=stretch[positions])


def compress(weight: Tensor, *, format: str = "columns16", values: str = "fp32") -> Compressed:  # noqa: A002
    """Compress a dense tensor: one row for every index of its first dimension, the others flattened to columns.

    Args:
        weight: at least one dimension; its zeros are left out.
        format: "columns16", "gaps8" or "bitmask".
        values: "fp32", "fp16" (rounded; out of its range is refused) or "int8" (rounded to 1 / 127 of the row's
            largest).

    Raises:
        UnknownNameError: format or values is no such name.
        OptionError: the format or the values cannot hold this weight.

    >>> matrix = compress(torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 3.0]]), format="gaps8")
    >>> matrix.indices.tolist(), matrix.values.tolist()
    ([2, 0, 1], [1.0, 2.0, 3.0])
    """
    n_columns = math.prod(weight.shape[1:])
    shape = Shape(n_rows=weight.shape[0], n_columns=n_columns, n_kept=int(torch.count_nonzero(weight)))
    return compress_chunks(lambda: chunks_of(weight), shape, format=format, values=values)


def compress_chunks(chunks: Chunks, shape: Shape, *, format: str, values: str) -> Compressed:  # noqa: A002
    """Compress a stream of kept elements; see `compress`.

    Raises:
        UnknownNameError: format or values is no such name.
        OptionError: the format or the values cannot hold this weight.
    """
    form = format_named(format)
    if form.max_columns and shape.n_columns > form.max_columns:
        raise OptionError(
            f"format={format!r} is illegal for {shape.n_columns} columns: at most {form.max_columns} can be written"
        )
    narrow = narrowing(values, chunks, shape)
    writer = _Writer(form, shape, narrow, n_entries=shape.n_kept).write(chunks)
    if writer.n_written > shape.n_kept:  # long gaps were bridged, and now it is known how many
        writer = _Writer(form, shape, narrow, n_entries=writer.n_written).write(chunks)
    return writer.result()


# ---- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """How values are stored: their dtype, and for int8 the scale of every row.

    A call takes values and the row of each, and gives them as they are stored.
    """

    dtype: torch.dtype
    scales: Tensor | None = None

    def __call__(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values as they are stored; OptionError where float16 cannot hold one."""
        if self.scales is not None:
            return (values.float() / self.scales[rows]).round().clamp(-MAX_INT8, MAX_INT8).to(self.dtype)
        narrow = values.to(self.dtype)
        if bool((narrow.isinf() & values.isfinite()).any()):
            raise OptionError(
                f"values='fp16' is illegal for a weight of {float(values.abs().max()):.6g}: at most 65504 fits"
            )
        return narrow


def narrowing(values: str, chunks: Chunks, shape: Shape) -> Narrowing:
    """How values of a name ("fp32", "fp16", "int8") are stored.

    Raises:
        UnknownNameError: there is no such name.
    """
    if values not in VALUES:
        raise UnknownNameError(f"values={values!r} is illegal{nearest(values, VALUES)}")
    if values != "int8":
        return Narrowing(dtype=VALUES[values])
    largest = torch.zeros(shape.n_rows)
    for chunk in chunks():
        largest.scatter_reduce_(0, chunk.positions // shape.n_columns, chunk.values.float().abs(), "amax")
    scales = largest / MAX_INT8
    return Narrowing(dtype=torch.int8, scales=torch.where(scales > 0, scales, 1.0))


# ---- columns ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Arrays of their final size, filled chunk by chunk."""

    def __init__(self, form: Format, shape: Shape, narrow: Narrowing, *, n_entries: int) -> None:
        self._form, self._shape, self._narrow = form, shape, narrow
        self._counts = torch.zeros(shape.n_rows + 1, dtype=torch.int64)
        self._indices = torch.zeros(form.index_shape(shape.n_rows, shape.n_columns, n_entries), dtype=form.index_dtype)
        self._values = torch.zeros(n_entries, dtype=narrow.dtype)
        self._last = torch.tensor([0, -1])  # row and column of the entry before
        self.n_written = 0  # more than there is room for where long gaps were bridged

    def write(self, chunks: Chunks) -> Self:
        for chunk in chunks():
            for start in range(0, len(chunk.positions), PIECE):
                self._add(chunk.positions[start : start + PIECE], chunk.values[start : start + PIECE])
        return self

    def _add(self, positions: Tensor, values: Tensor) -> None:
        rows = positions // self._shape.n_columns
        columns = positions - rows * self._shape.n_columns
        values = self._narrow(values, rows)
        if self._form.name == "bitmask":
            bytes_ = rows * self._indices.shape[1] + columns // 8
            self._indices.view(-1).index_add_(0, bytes_, (1 << columns % 8).to(torch.uint8))
        if self._form.name == "columns16":
            self._put(self._indices, columns)
        if self._form.name == "gaps8":
            rows, gaps, values = self._bridged(rows, columns, values)
            self._put(self._indices, gaps)
        self._put(self._values, values)
        self._counts.index_add_(0, rows + 1, torch.ones_like(rows))
        self.n_written += len(rows)

    def _put(self, array: Tensor, new: Tensor) -> None:
        room = array[self.n_written : self.n_written + len(new)]
        room.copy_(new[: len(room)])

    def _bridged(self, rows: Tensor, columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn columns into gaps, with entries of value 0 between those that lie too far apart for one byte."""
        before_row, before = torch.cat([self._last[:, None], torch.stack([rows, columns])[:, :-1]], dim=1)
        self._last = torch.stack([rows[-1], columns[-1]])
        gaps = columns - 1 - torch.where(rows == before_row, before, -1)
        n_bridges = gaps // (LONGEST_GAP + 1)
        last = (n_bridges + 1).cumsum(0) - 1
        rows = rows.repeat_interleave(n_bridges + 1)
        all_gaps, all_values = torch.full_like(rows, LONGEST_GAP), values.new_zeros(len(rows))
        all_gaps[last], all_values[last] = gaps % (LONGEST_GAP + 1), values
        return rows, all_gaps, all_values

    def result(self) -> Compressed:
        return Compressed(
            starts=self._counts.cumsum(0).to(torch.int32),
            indices=self._indices,
            values=self._values,
            scales=self._narrow.scales,
            n_columns=self._shape.n_columns,
        )
