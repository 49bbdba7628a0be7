"""Whole numbers, most of them zero, as one stream: by the compiled coder, or by its twin in Python.

The numbers are coded one by one under contexts: how many of the row and of the column were not zero so far, and what
stands to the left and above. Rows and columns of zeros cost a flag.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prunecell import native
from prunecell.codecs.contexts_twin import Decoder, Encoder, Model
from prunecell.codecs.dtypes import Numbers
from prunecell.errors import FormatError

MOST_COLUMNS = 1 << 22
MOST_NUMBERS = 1 << 36
NO_ROWS: Numbers = np.empty(0, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A tensor as rows of pictures: `rows` x (`planes`, `height`, `width`), all of them at least 1."""

    rows: int
    planes: int
    height: int
    width: int

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return self.planes * self.height * self.width


def grid_of(shape: tuple[int, ...], side: int = 0) -> Grid | None:
    """See a tensor as rows of pictures: those of a convolution, or of one pixel; None where the coder has no place.

    Args:
        shape: of the tensor. One of one dimension is a row, and a number is one of one number.
        side: of a matrix: its columns are square pictures with so many pixels a side. It must divide them.

    >>> grid_of((6, 3, 5, 5)), grid_of((10, 98), side=7)
    (Grid(rows=6, planes=3, height=5, width=5), Grid(rows=10, planes=2, height=7, width=7))
    """
    shape = shape if len(shape) > 1 else (1, *shape)
    rows, columns = shape[0], math.prod(shape[1:])
    height, width = (side, side) if side else (shape[-2] if len(shape) > 3 else 1, shape[-1] if len(shape) > 2 else 1)  # noqa: PLR2004
    if height * width == 1:
        width = columns  # no pictures: what stands to the left is the column before
    if not 0 < columns <= MOST_COLUMNS or not 0 < rows * columns <= MOST_NUMBERS or columns % (height * width):
        return None
    return Grid(rows=rows, planes=columns // (height * width), height=height, width=width)


def square_side(n_columns: int, n_planes: int) -> int:
    """Guess pictures from a number: the side of so many square ones, of 2 x 2 at least; 0 if there are none such.

    >>> square_side(784, 1), square_side(800, 50), square_side(300, 1)
    (28, 4, 0)
    """
    side = math.isqrt(n_columns // n_planes)
    return side if side > 1 and n_planes * side**2 == n_columns else 0


class RowReader(Protocol):
    """Gives the numbers back, some rows at a time."""

    def read(self, n_rows: int) -> Numbers:
        """Return the numbers of the next rows, int32.

        Raises:
            FormatError: the stream ends before.
        """

    def finish(self) -> None:
        """Raise FormatError if anything is left over, or the numbers are not as many as were told."""


def write_contexts(numbers: Numbers, grid: Grid, above: Numbers = NO_ROWS) -> bytes | None:
    """Write a tensor that is not all zero; None if its bytes were more than those of the numbers.

    Args:
        numbers: int32, contiguous, above -2^31.
        grid: how they are seen.
        above: uint8, 1 for each row of another tensor that is not zero, of which each feeds as many columns of this
            one, one after the other; or empty.
    """
    if (library := native.library()) is None:
        return _write_by_twin(numbers, grid, above)
    form, memory = _prepared(library, grid, int(np.count_nonzero(numbers)))
    data, n_bytes = np.empty(numbers.nbytes, np.uint8), ctypes.c_int64()
    library.pc_write_contexts(
        *(form.address, numbers.ctypes.data, above.ctypes.data, len(above), memory.ctypes.data),
        *(data.ctypes.data, len(data), ctypes.addressof(n_bytes)),
    )
    return data[: n_bytes.value].tobytes() if n_bytes.value <= len(data) else None


def _write_by_twin(numbers: Numbers, grid: Grid, above: Numbers) -> bytes | None:
    alive = numbers.reshape(grid.rows, grid.columns) != 0
    model = Model(encoder := Encoder(), grid.rows, grid.planes, grid.height, grid.width, int(alive.sum()))
    model.code_rows(alive.any(1).tolist())
    model.code_columns(alive.any(0).tolist(), above.tolist())
    for start in range(0, len(numbers), grid.columns):
        model.code_row(numbers[start : start + grid.columns].tolist())
    data = encoder.finish()
    return data if len(data) <= numbers.nbytes else None


def _prepared(library: ctypes.CDLL, grid: Grid, count: int) -> tuple[native.Grid, Numbers]:
    """What the compiled coder takes: the grid, and memory to work in."""
    form, n_bytes = native.Grid(grid.rows, count, grid.planes, grid.height, grid.width), ctypes.c_int64()
    library.pc_context_memory(form.address, ctypes.addressof(n_bytes))
    return form, np.empty(-(-n_bytes.value // 8), np.uint64)


def read_row_flags(data: bytes, grid: Grid) -> Numbers:
    """Read which rows of a tensor are not zero: uint8, 0 or 1; nothing else of the stream is looked at."""
    if (library := native.library()) is None:
        model = Model(Decoder(data), grid.rows, grid.planes, grid.height, grid.width, 1)
        return np.array(model.code_rows([0] * grid.rows), np.uint8)
    form, memory = _prepared(library, grid, 1)
    rows: Numbers = np.empty(grid.rows, np.uint8)
    library.pc_open_contexts(form.address, data, len(data), None, 0, memory.ctypes.data, rows.ctypes.data)
    return rows


def open_contexts(data: bytes, grid: Grid, count: int, above: Numbers = NO_ROWS) -> RowReader:
    """Open what `write_contexts` wrote.

    Args:
        data: the stream.
        grid: as it was when it was written.
        count: how many of the numbers are not zero.
        above: as it was when it was written.
    """
    library = native.library()
    if library is None:
        return _TwinReader(data, grid, count, above)
    return _NativeReader(library, data, grid, count, above)


def _check_end(left: int, found: int, count: int) -> None:
    if left > 0:
        raise FormatError("a stream of contexts is too long")
    if found != count:
        raise FormatError(f"{found} numbers that are not zero, where there must be {count}")


class _NativeReader:
    def __init__(self, library: ctypes.CDLL, data: bytes, grid: Grid, count: int, above: Numbers) -> None:
        self._library, self._data, self._grid, self._count = library, data, grid, count
        self._left, self._found = ctypes.c_int64(), ctypes.c_int64()
        form, self._memory = _prepared(library, grid, count)
        library.pc_open_contexts(
            *(form.address, data, len(data), above.ctypes.data, len(above), self._memory.ctypes.data, None)
        )

    def read(self, n_rows: int) -> Numbers:
        numbers: Numbers = np.empty(n_rows * self._grid.columns, np.int32)
        self._library.pc_read_contexts(
            *(self._memory.ctypes.data, n_rows, numbers.ctypes.data),
            *(ctypes.addressof(self._left), ctypes.addressof(self._found)),
        )
        if self._left.value < -4:  # noqa: PLR2004 - so many bytes are read ahead
            raise FormatError("a stream of contexts ends early")
        return numbers

    def finish(self) -> None:
        _check_end(self._left.value, self._found.value, self._count)


class _TwinReader:
    def __init__(self, data: bytes, grid: Grid, count: int, above: Numbers) -> None:
        self._decoder, self._grid, self._count = Decoder(data), grid, count
        self._model = Model(self._decoder, grid.rows, grid.planes, grid.height, grid.width, count)
        self._model.code_rows([0] * grid.rows)
        self._model.code_columns([0] * grid.columns, above.tolist())

    def read(self, n_rows: int) -> Numbers:
        rows = []
        for _ in range(n_rows):
            self._model.code_row(row := [0] * self._grid.columns)
            if self._decoder.is_cut:
                raise FormatError("a stream of contexts ends early")
            rows.append(row)
        return np.array(rows, np.int32).reshape(-1)

    def finish(self) -> None:
        _check_end(self._decoder.left, self._model.n_coded, self._count)
