"""Compressed matrices on their way into a kernel: checked before it sees them, once for every set of tensors.

The operators get a matrix as its five parts, (starts, indices, values, scales, n_columns), from wherever it came: a
layer, an exported program, a caller. A kernel believes what it reads, so nothing reaches it unchecked; and as a check
reads the whole matrix, it is remembered until a tensor is gone or lies elsewhere, or the starts or indices were written
to. (The values and scales are only multiplied: no value of theirs is dangerous.)
"""

import ctypes
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.formats import Compressed, as_argument, check

N_PARTS = 5


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A matrix that was checked, as a kernel takes it.

    Attributes:
        address: of the `native.Matrix`; valid as long as the matrix's tensors live.
        argument: that matrix.
        tensors, state: what it is made of, and in what state that was.
    """

    address: int
    n_rows: int
    n_columns: int
    n_entries: int
    argument: native.Matrix
    tensors: tuple[weakref.ref[Tensor], ...]
    state: tuple[int, ...]


# By the identity of the indices. An entry goes when they do.
_checked: dict[int, Checked] = {}


def matrix_of(starts: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, n_columns: int) -> Compressed:
    """The matrix of five parts."""
    return Compressed(starts=starts, indices=indices, values=values, scales=scales, n_columns=n_columns)


def parts_of(matrix: Compressed) -> tuple[Tensor, Tensor, Tensor, Tensor | None, int]:
    """The five parts of a matrix, as the operators take them."""
    return matrix.starts, matrix.indices, matrix.values, matrix.scales, matrix.n_columns


def checked(starts: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, n_columns: int) -> Checked:
    """The matrix of five parts as a kernel takes it.

    Raises:
        StateError: it would make a kernel read outside of it or of its input.
    """
    state = (
        n_columns,
        starts.data_ptr(),
        indices.data_ptr(),
        values.data_ptr(),
        0 if scales is None else scales.data_ptr(),
        _version(starts),
        _version(indices),
    )
    known = _checked.get(id(indices))
    if known and known.state == state:
        known_starts, known_indices, known_values = known.tensors
        if known_starts() is starts and known_indices() is indices and known_values() is values:
            return known
    return _check_and_remember(matrix_of(starts, indices, values, scales, n_columns), state)


def _check_and_remember(matrix: Compressed, state: tuple[int, ...]) -> Checked:
    check(matrix)
    key, argument = id(matrix.indices), as_argument(matrix)
    indices = weakref.ref(matrix.indices, lambda _: _checked.pop(key, None))
    _checked[key] = Checked(
        address=ctypes.addressof(argument),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        n_entries=len(matrix.values),
        argument=argument,
        tensors=(weakref.ref(matrix.starts), indices, weakref.ref(matrix.values)),
        state=state,
    )
    return _checked[key]


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; nobody counts for those made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - it has no public name


def address_of_bias(bias: Tensor | None, n_rows: int) -> int | None:
    """Where the bias of `n_rows` outputs lies.

    Raises:
        OptionError: it is not float32, contiguous and one for every row.
    """
    if bias is None:
        return None
    if bias.dtype != torch.float32 or bias.shape != (n_rows,) or not bias.is_contiguous():
        raise OptionError(f"bias must be {n_rows} float32 in a row, not {bias.dtype} of shape {tuple(bias.shape)}")
    return bias.data_ptr()
