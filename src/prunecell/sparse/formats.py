"""The formats of a compressed matrix: how they are told apart, read back, and checked.

A matrix keeps its non-zero entries row by row, columns ascending. What differs is how an entry's column is written:

    columns16   its column, 2 bytes. At most 65,536 columns. The fastest to read.
    gaps8       how many columns were skipped since the entry before, 1 byte; a longer gap is bridged by entries of
                value 0. The smallest from about 87 % sparsity on.
    bitmask     one bit for every column of the row. The smallest below.

Values are float32, float16, or int8 times one float32 scale a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import StateError, UnknownNameError, nearest

ROWS_AT_ONCE = 256  # that the twins make dense


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """A compressed matrix of shape (n_rows, n_columns).

    Attributes:
        starts: int32, n_rows + 1: the entries [starts[r], starts[r + 1]) are row r's.
        indices: where the entries are: uint16, n_entries (columns16); uint8, n_entries (gaps8); or
            uint8, (n_rows, ceil(n_columns / 8)), bit c % 8 of byte c / 8 (bitmask).
        values: n_entries: float32, float16 or int8.
        scales: float32, n_rows, that a row's values are multiplied by; with int8 values only, else None.
        n_columns: how many there are.
    """

    starts: Tensor
    indices: Tensor
    values: Tensor
    scales: Tensor | None
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def format(self) -> "Format":
        """The format, as the indices tell."""
        return format_of(self.indices)

    @property
    def n_bytes(self) -> int:
        """The memory that it takes."""
        return sum(t.nbytes for t in (self.starts, self.indices, self.values, self.scales) if t is not None)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write columns.

    Attributes:
        name: "columns16", "gaps8" or "bitmask".
        code: what `kernels.cpp` calls it.
        index_dtype: of the indices.
        columns: reads the column of every entry of a matrix, int64.
        index_shape: (n_rows, n_columns, n_entries) -> the shape of the indices.
        max_columns: more cannot be written; None for no limit.
    """

    name: str
    code: int
    index_dtype: torch.dtype
    columns: Callable[[Compressed], Tensor]
    index_shape: Callable[[int, int, int], tuple[int, ...]]
    max_columns: int | None = None


# ---- reading back: the slow twins of the decoders --------------------------------------------------------------------


def rows_of(matrix: Compressed) -> Tensor:
    """The row of every entry, int64."""
    return torch.repeat_interleave(matrix.starts.diff().long())


def _columns_of_columns16(matrix: Compressed) -> Tensor:
    return matrix.indices.long()


def _columns_of_gaps8(matrix: Compressed) -> Tensor:
    walked = (matrix.indices.long() + 1).cumsum(0)
    before_row = torch.cat([walked.new_zeros(1), walked])[matrix.starts[:-1].long()]
    return walked - 1 - before_row[rows_of(matrix)]


def _columns_of_bitmask(matrix: Compressed) -> Tensor:
    bits = matrix.indices[:, :, None].bitwise_right_shift(torch.arange(8, device=matrix.indices.device)) & 1
    return bits.flatten(1).nonzero()[:, 1]


FORMATS = {
    "columns16": Format(
        name="columns16",
        code=0,
        index_dtype=torch.uint16,
        columns=_columns_of_columns16,
        index_shape=lambda _rows, _columns, entries: (entries,),
        max_columns=1 << 16,
    ),
    "gaps8": Format(
        name="gaps8",
        code=1,
        index_dtype=torch.uint8,
        columns=_columns_of_gaps8,
        index_shape=lambda _rows, _columns, entries: (entries,),
    ),
    "bitmask": Format(
        name="bitmask",
        code=2,
        index_dtype=torch.uint8,
        columns=_columns_of_bitmask,
        index_shape=lambda rows, columns, _entries: (rows, -(-columns // 8)),
    ),
}
VALUES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
VALUE_CODES = {torch.float32: 0, torch.float16: 1, torch.int8: 2}


def format_of(indices: Tensor) -> Format:
    """The format that writes columns in such a tensor."""
    if indices.dtype == torch.uint16:
        return FORMATS["columns16"]
    return FORMATS["gaps8" if indices.ndim == 1 else "bitmask"]


def format_named(name: str) -> Format:
    """The format of a name.

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    if name not in FORMATS:
        raise UnknownNameError(f"format {name!r} is unknown{nearest(name, FORMATS)}")
    return FORMATS[name]


def dense_rows(matrix: Compressed, begin: int, end: int) -> Tensor:
    """Rows [begin, end) as a dense float32 tensor (end - begin, n_columns)."""
    part = rows_between(matrix, begin, end)
    dense = torch.zeros(end - begin, matrix.n_columns, device=part.values.device)
    dense[rows_of(part), part.format.columns(part)] = part.values.float()
    return dense if part.scales is None else dense * part.scales[:, None]


def rows_between(matrix: Compressed, begin: int, end: int) -> Compressed:
    """Rows [begin, end) as a matrix of their own that shares memory with this one (but for `starts`)."""
    entries = slice(int(matrix.starts[begin]), int(matrix.starts[end]))
    return Compressed(
        starts=matrix.starts[begin : end + 1] - matrix.starts[begin],
        indices=matrix.indices[begin:end] if matrix.indices.ndim > 1 else matrix.indices[entries],
        values=matrix.values[entries],
        scales=None if matrix.scales is None else matrix.scales[begin:end],
        n_columns=matrix.n_columns,
    )


def decompress(matrix: Compressed) -> Tensor:
    """The whole matrix as a dense float32 tensor (n_rows, n_columns).

    >>> matrix = Compressed(starts=torch.tensor([0, 1, 3], dtype=torch.int32), scales=None, n_columns=4,
    ...     indices=torch.tensor([2, 0, 2], dtype=torch.uint8), values=torch.tensor([1.0, 2.0, 3.0]))
    >>> decompress(matrix)
    tensor([[0., 0., 1., 0.],
            [2., 0., 0., 3.]])
    """
    return dense_rows(matrix, 0, matrix.n_rows)


# ---- checking --------------------------------------------------------------------------------------------------------

WRONG = {
    1: "starts must begin with 0, never fall, and end with the number of values",
    2: "the columns of a row must ascend and be smaller than the number of columns",
    3: "the gaps of a row must not lead beyond the number of columns",
    4: "the mask of a row must have as many bits as the row has values, and none beyond the number of columns",
}


def check(matrix: Compressed) -> None:
    """Refuse a matrix that would make a kernel read outside of it, or outside of an input of `n_columns` features.

    Raises:
        StateError: what is wrong: dtypes, shapes, starts, or columns.
    """
    _check_tensors(matrix)
    library, argument = native.library(), as_argument(matrix)
    on_cpu = matrix.values.device.type == "cpu"
    wrong = library.pc_what_is_wrong(argument.address) if library and on_cpu else what_is_wrong(matrix)
    if wrong:
        raise StateError(f"a sparse matrix {matrix.n_rows} x {matrix.n_columns} is damaged: {WRONG[wrong]}")


def _check_tensors(matrix: Compressed) -> None:
    if not all(
        t.is_contiguous() for t in (matrix.starts, matrix.indices, matrix.values, matrix.scales) if t is not None
    ):
        raise StateError("starts, indices, values and scales must be contiguous")
    if matrix.starts.dtype != torch.int32 or matrix.starts.ndim != 1 or len(matrix.starts) == 0:
        raise StateError(f"starts must be a vector of int32 with one element or more, not {_kind(matrix.starts)}")
    if matrix.values.dtype not in VALUE_CODES or matrix.values.ndim != 1 or len(matrix.values) >= 1 << 31:
        raise StateError(
            f"values must be a vector of float32, float16 or int8 shorter than 2**31, not {_kind(matrix.values)}"
        )
    if matrix.indices.dtype not in {torch.uint8, torch.uint16}:
        raise StateError(f"indices must be uint16 or uint8, not {_kind(matrix.indices)}")
    shape = matrix.format.index_shape(matrix.n_rows, matrix.n_columns, len(matrix.values))
    if matrix.indices.shape != shape:
        raise StateError(f"{matrix.format.name} indices must have the shape {shape}, not {_kind(matrix.indices)}")
    scales = None if matrix.scales is None else (matrix.scales.dtype, matrix.scales.shape)
    if scales != ((torch.float32, (matrix.n_rows,)) if matrix.values.dtype == torch.int8 else None):
        raise StateError(f"scales must be float32, one for each of the {matrix.n_rows} rows, with int8 values only")
    if matrix.format.max_columns and matrix.n_columns > matrix.format.max_columns:
        raise StateError(f"{matrix.format.name} cannot write {matrix.n_columns} columns")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def what_is_wrong(matrix: Compressed) -> int:
    """The twin of the compiled check: 0, or a key of `WRONG`."""
    starts = matrix.starts.long()
    if starts[0] != 0 or starts[-1] != len(matrix.values) or (starts.diff() < 0).any():
        return 1
    if matrix.format.name == "columns16":
        columns, same_row = matrix.indices.long(), rows_of(matrix).diff() == 0
        sound = (columns < matrix.n_columns).all() and (columns.diff()[same_row] > 0).all()
        return 0 if sound else 2
    if matrix.format.name == "gaps8":
        walked = torch.zeros(matrix.n_rows, dtype=torch.int64, device=starts.device)
        walked.index_add_(0, rows_of(matrix), matrix.indices.long() + 1)
        return 0 if (walked <= matrix.n_columns).all() else 3
    bits = matrix.indices[:, :, None].bitwise_right_shift(torch.arange(8, device=starts.device)).flatten(1) & 1
    counted, clean = bits.sum(1) == starts.diff(), bits[:, matrix.n_columns :] == 0
    return 0 if counted.all() and clean.all() else 4


def as_argument(matrix: Compressed) -> native.Matrix:
    """The matrix as the kernels take it: addresses, which the caller must keep alive and contiguous."""
    return native.Matrix(
        starts=matrix.starts.data_ptr(),
        indices=matrix.indices.data_ptr(),
        values=matrix.values.data_ptr(),
        scales=None if matrix.scales is None else matrix.scales.data_ptr(),
        n_entries=len(matrix.values),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        format=matrix.format.code,
        value_type=VALUE_CODES[matrix.values.dtype],
    )
