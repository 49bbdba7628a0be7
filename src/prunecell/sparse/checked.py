"""Compressed matrices on their way into a kernel: checked before it sees them, once for every set of tensors.

The operators get a matrix as its five parts, (starts, indices, values, scales, n_columns), from wherever it came: a
layer, an exported program, a caller. A kernel believes what it reads, so nothing reaches it unchecked; and as a check
reads the whole matrix, it is remembered until one of the tensors is written to, moved, or gone.
"""

import weakref
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from prunecell import kernels
from prunecell.errors import OptionError
from prunecell.sparse.formats import Compressed, as_argument, check

N_PARTS = 5


@dataclass(frozen=True, eq=False)
class _Checked:
    """The tensors of a matrix, their state when it was checked, and the matrix as a kernel takes it."""

    tensors: tuple[weakref.ref[Tensor], ...]
    state: tuple[int, ...]
    argument: kernels.Matrix


# By the identity of the values. An entry goes when its tensor does.
_checked: dict[int, _Checked] = {}


def matrix_of(starts: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, n_columns: int) -> Compressed:
    """The matrix of five parts."""
    return Compressed(starts=starts, indices=indices, values=values, scales=scales, n_columns=n_columns)


def parts_of(matrix: Compressed) -> tuple[Tensor, Tensor, Tensor, Tensor | None, int]:
    """The five parts of a matrix, as the operators take them."""
    return matrix.starts, matrix.indices, matrix.values, matrix.scales, matrix.n_columns


def checked_argument(*parts: Any) -> kernels.Matrix:  # noqa: ANN401 - the parts, as the operators got them
    """The matrix of five parts as a kernel takes it, valid as long as its tensors live.

    Raises:
        StateError: it would make a kernel read outside of it or of its input.
    """
    *tensors, n_columns = parts
    if tensors[3] is None:
        del tensors[3]
    key, state = id(parts[2]), _state(tensors, n_columns)
    known = _checked.get(key)
    if known and known.state == state and all(ref() is t for ref, t in zip(known.tensors, tensors, strict=True)):
        return known.argument
    matrix = matrix_of(*parts)
    check(matrix)
    refs = tuple(weakref.ref(t, lambda _: _checked.pop(key, None)) for t in tensors)
    _checked[key] = _Checked(refs, state, as_argument(matrix))
    return _checked[key].argument


def _state(tensors: list[Tensor], n_columns: int) -> tuple[int, ...]:
    """What must be as it was when the matrix was checked: where the tensors lie, how often they were written to."""
    versions = [0 if t.is_inference() else t._version for t in tensors]  # noqa: SLF001 - it has no public name
    return (n_columns, *versions, *[t.data_ptr() for t in tensors])


def address_of_bias(bias: Tensor | None, n_rows: int) -> int | None:
    """Where the bias of `n_rows` outputs lies.

    Raises:
        OptionError: it is not float32, contiguous and one for every row.
    """
    if bias is None:
        return None
    if str(bias.dtype) != "torch.float32" or bias.shape != (n_rows,) or not bias.is_contiguous():
        raise OptionError(f"bias must be {n_rows} float32 in a row, not {bias.dtype} of shape {tuple(bias.shape)}")
    return bias.data_ptr()
