"""A sparse matrix as it is stored: its parts, how it is read back, and what is checked before a kernel reads it.

A matrix keeps its non-zero entries row by row, columns ascending. Its format says how their columns are written, its
value type how their values are.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import StateError
from prunecell.sparse.formats import format_named
from prunecell.sparse.formats.format import Format, Where
from prunecell.sparse.values import VALUES_OF

ROWS_AT_ONCE = 256  # that the twins make dense
WRONG_STARTS, WRONG_INDICES = 1, 2  # what_is_wrong; the format's code is added to the second
STARTS_RULE = "starts must begin with 0, never fall, and end with the number of values"
LARGEST = (1 << 31) - 1  # rows, columns or entries

Parts = tuple[Tensor, Tensor, Tensor, Tensor | None, int, str]
"""(starts, indices, values, scales, n_columns, the format's name): a matrix as torch's operators take it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """A sparse matrix of shape (n_rows, n_columns).

    Attributes:
        starts: int32, n_rows + 1: the entries [starts[r], starts[r + 1]) are row r's.
        indices: where the entries are, as the format writes it.
        values: n_entries: float32, float16, bfloat16 or int8.
        scales: float32, n_rows, that a row's values are multiplied by; with int8 values only, else None.
        n_columns: how many there are.
        format: how the columns are written.
    """

    starts: Tensor
    indices: Tensor
    values: Tensor
    scales: Tensor | None
    n_columns: int
    format: Format

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def where(self) -> Where:
        """Where the entries are."""
        return Where(starts=self.starts, indices=self.indices, n_columns=self.n_columns)

    @property
    def n_bytes(self) -> int:
        """The memory that it takes."""
        return sum(t.nbytes for t in (self.starts, self.indices, self.values, self.scales) if t is not None)

    @property
    def parts(self) -> Parts:
        """The matrix as the operators take it."""
        return self.starts, self.indices, self.values, self.scales, self.n_columns, self.format.name


def matrix_of(
    starts: Tensor,
    indices: Tensor,
    values: Tensor,
    scales: Tensor | None,
    n_columns: int,
    format: str,  # noqa: A002
) -> Compressed:
    """The matrix of its parts.

    Raises:
        UnknownNameError: no format has this name.
    """
    return Compressed(
        starts=starts, indices=indices, values=values, scales=scales, n_columns=n_columns, format=format_named(format)
    )


def matrix_on(device: torch.device, *parts: Any) -> Compressed:  # noqa: ANN401 - see Parts
    """The matrix of its parts, whose sizes are checked, on the device of an input.

    Raises:
        UnknownNameError: no format has this name.
        StateError: the parts do not fit together, or are on another device.
    """
    matrix = matrix_of(*parts)
    check_sizes(matrix)
    if matrix.values.device != device:
        raise StateError(
            f"the sparse matrix is on {matrix.values.device}, its input on {device}: move one to the other"
        )
    return matrix


N_PARTS = len(fields(Compressed))
N_TENSORS = 4  # the first of them


# ---- reading back: the slow twins of the decoders --------------------------------------------------------------------


def dense_rows(matrix: Compressed, begin: int, end: int) -> Tensor:
    """Rows [begin, end) as a dense float32 tensor (end - begin, n_columns); the sizes of the parts are right.

    Raises:
        StateError: an index leads outside of the matrix.
    """
    rows = rows_between(matrix, begin, end)
    ascending = rows.format.is_sound(rows.where)
    if not ascending and not _only_out_of_order(rows):
        raise damage(WRONG_INDICES + matrix.format.code, matrix.format, matrix.n_rows, matrix.n_columns)
    dense = torch.zeros(end - begin, matrix.n_columns, device=rows.values.device)
    at = rows.where.rows, rows.format.columns(rows.where)
    dense.index_put_(at, rows.values.float(), accumulate=not ascending)
    return dense if rows.scales is None else dense * rows.scales[:, None]


def rows_between(matrix: Compressed, begin: int, end: int) -> Compressed:
    """Rows [begin, end) as a matrix of their own that shares memory with this one (but for `starts`).

    Raises:
        StateError: their starts are wrong.
    """
    starts = matrix.starts[begin : end + 1].clone()  # what is checked is what is used
    _check_starts(starts, matrix, begin, end)
    entries = slice(int(starts[0]), int(starts[-1]))
    return Compressed(
        starts=starts - starts[0],
        indices=matrix.indices[begin:end] if matrix.indices.ndim > 1 else matrix.indices[entries],
        values=matrix.values[entries],
        scales=None if matrix.scales is None else matrix.scales[begin:end],
        n_columns=matrix.n_columns,
        format=matrix.format,
    )


def _check_starts(starts: Tensor, matrix: Compressed, begin: int, end: int) -> None:
    n_entries = len(matrix.values)
    inside = (begin > 0 or starts[0] == 0) & (starts[0] >= 0) & (starts[-1] <= n_entries)
    whole = end < matrix.n_rows or bool(starts[-1] == n_entries)
    if not (whole and bool(inside & (starts.diff() >= 0).all())):
        raise damage(WRONG_STARTS, matrix.format, matrix.n_rows, matrix.n_columns)


def _only_out_of_order(rows: Compressed) -> bool:
    """Whether every entry has a column all the same. Kernels do not look at the order: equal columns add up."""
    if rows.indices.ndim > 1:
        return False
    columns = rows.format.columns(rows.where)
    return bool(((columns >= 0) & (columns < rows.n_columns)).all())


def decompress(matrix: Compressed) -> Tensor:
    """The whole matrix as a dense float32 tensor (n_rows, n_columns).

    Raises:
        StateError: the matrix is damaged.

    >>> matrix = Compressed(starts=torch.tensor([0, 1, 3], dtype=torch.int32), scales=None, n_columns=4,
    ...     indices=torch.tensor([2, 0, 2], dtype=torch.uint8), values=torch.tensor([1.0, 2.0, 3.0]),
    ...     format=format_named("gaps8"))
    >>> decompress(matrix)
    tensor([[0., 0., 1., 0.],
            [2., 0., 0., 3.]])
    """
    check_sizes(matrix)
    return dense_rows(matrix, 0, matrix.n_rows)


# ---- checking --------------------------------------------------------------------------------------------------------


def check(matrix: Compressed) -> None:
    """Refuse a matrix that is not what `compress` could have written.

    Raises:
        StateError: what is wrong: dtypes, shapes, starts, or columns.
    """
    check_sizes(matrix)
    library, on_cpu = native.library(), matrix.values.device.type == "cpu"
    argument = as_argument(matrix)  # it must live as long as its address is used
    wrong = library.pc_what_is_wrong(argument.address) if library and on_cpu else what_is_wrong(matrix)
    if wrong:
        raise damage(wrong, matrix.format, matrix.n_rows, matrix.n_columns)


def damage(wrong: int, format: Format, n_rows: int, n_columns: int) -> StateError:  # noqa: A002
    """The error for what `what_is_wrong` says, or a kernel."""
    rule = STARTS_RULE if wrong == WRONG_STARTS else format.rule
    return StateError(f"a sparse matrix {n_rows} x {n_columns} is damaged: {rule}")


def has_its_memory(tensor: Tensor) -> bool:
    """Whether the storage of a tensor holds all its elements: who resizes a storage takes memory from its tensors."""
    last = tensor.storage_offset()
    for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if n == 0:
            return True
        last += (n - 1) * stride
    return bool(tensor.untyped_storage().nbytes() >= (last + 1) * tensor.element_size()) or tensor.is_meta


def check_sizes(matrix: Compressed) -> None:
    """Refuse parts that do not fit together; what stands in them is not looked at, so it takes no time.

    Raises:
        StateError: what is wrong: dtypes, shapes, numbers of rows, columns or entries, memory, devices.
    """
    starts, indices, values, scales = matrix.starts, matrix.indices, matrix.values, matrix.scales
    parts = [t for t in (starts, indices, values, scales) if t is not None]
    if not all(t.is_contiguous() for t in parts):
        raise StateError("starts, indices, values and scales must be contiguous")
    if starts.dtype != torch.int32 or starts.ndim != 1 or not 1 <= len(starts) <= LARGEST:
        raise StateError(f"starts must be a vector of int32 with 1 to 2**31 - 1 elements, not {_kind(starts)}")
    if values.dtype not in VALUES_OF or values.ndim != 1 or len(values) > LARGEST:
        legal = ", ".join(str(dtype).removeprefix("torch.") for dtype in VALUES_OF)
        raise StateError(f"values must be a vector of {legal}, shorter than 2**31, not {_kind(values)}")
    if not 0 <= matrix.n_columns <= LARGEST:
        raise StateError(f"n_columns={matrix.n_columns} is illegal: it must be in [0, {LARGEST}]")
    if matrix.format.max_columns is not None and matrix.n_columns > matrix.format.max_columns:
        raise StateError(f"{matrix.format.name} cannot write {matrix.n_columns} columns")
    shape = matrix.format.index_shape(matrix.n_rows, matrix.n_columns, len(values))
    if indices.dtype != matrix.format.index_dtype or indices.shape != shape:
        wanted = f"{str(matrix.format.index_dtype).removeprefix('torch.')} of shape {shape}"
        raise StateError(f"the indices of {matrix.format.name} must be {wanted}, not {_kind(indices)}")
    given = None if scales is None else (scales.dtype, scales.shape)
    if given != ((torch.float32, (matrix.n_rows,)) if VALUES_OF[values.dtype].is_scaled else None):
        raise StateError(f"scales must be float32, one for each of the {matrix.n_rows} rows, with int8 values only")
    if len({t.device for t in parts}) > 1 or not all(has_its_memory(t) for t in parts):
        raise StateError("starts, indices, values and scales must be on one device, in storages that hold all of them")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def what_is_wrong(matrix: Compressed) -> int:
    """The twin of the compiled check: 0, 1 where the starts are wrong, 2 + the format's code where the indices are."""
    starts = matrix.starts.long()
    if starts[0] != 0 or starts[-1] != len(matrix.values) or (starts.diff() < 0).any():
        return WRONG_STARTS
    return 0 if matrix.format.is_sound(matrix.where) else WRONG_INDICES + matrix.format.code


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
        value_type=VALUES_OF[matrix.values.dtype].code,
    )
