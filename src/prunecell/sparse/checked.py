"""Sparse matrices on their way into a kernel: checked before it sees them, once for every matrix.

The operators get a matrix as its parts, from wherever it came: a layer, an exported program, a caller. A kernel
believes what it reads, so nothing reaches it unchecked; and as a check reads the whole matrix, it is remembered with
the tensors that were checked. It holds as long as they are the same objects over the same memory, which is kept from
being freed meanwhile, and nobody wrote to the starts or the indices; writing through `.data`, through numpy or under
inference mode is not seen. (The values and scales are only multiplied: no value is dangerous.)
"""

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.matrix import Compressed, as_argument, check, matrix_of

_Known = Callable[[], Tensor | None]


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A matrix that was checked, as a kernel takes it.

    Attributes:
        address: of the `native.Matrix`; valid as long as this object lives.
        argument: that matrix.
        tensors: what it is made of: each gives the starts, indices, values and scales (or None), while they live.
        memory: tensors over the same memory, which keep it from being freed and given to another.
        state: in what state the tensors were.
    """

    address: int
    n_rows: int
    n_columns: int
    n_entries: int
    argument: native.Matrix
    tensors: tuple[_Known, _Known, _Known, _Known]
    memory: tuple[Tensor, ...]
    state: tuple[object, ...]


# What was checked, by the identity of its indices. An entry goes when they do, before their number is used again.
_checked: dict[int, Checked] = {}


def checked(
    starts: Tensor,
    indices: Tensor,
    values: Tensor,
    scales: Tensor | None,
    n_columns: int,
    format: str,  # noqa: A002
) -> Checked:
    """The matrix of its parts as a kernel takes it.

    Raises:
        StateError: it would make a kernel read outside of it or of its input.
        OptionError: no format has this name.
    """
    state = (  # all that tells that nothing changed; it is made in every call, so it takes as little time as it can
        n_columns,
        format,
        starts.data_ptr(),
        indices.data_ptr(),
        values.data_ptr(),
        None if scales is None else scales.data_ptr(),
        _version(starts),
        _version(indices),
    )
    known = _checked.get(id(indices))
    if known is not None and known.state == state:
        known_starts, known_indices, known_values, known_scales = known.tensors
        if (
            known_starts() is starts
            and known_indices() is indices
            and known_values() is values
            and known_scales() is scales
        ):
            return known
    return _check_and_remember(matrix_of(starts, indices, values, scales, n_columns, format), state)


def _check_and_remember(matrix: Compressed, state: tuple[object, ...]) -> Checked:
    check(matrix)
    starts, indices, values, scales, *_ = matrix.parts
    key, argument = id(indices), as_argument(matrix)

    def known_by(tensor: Tensor) -> weakref.ref[Tensor]:
        return weakref.ref(tensor, lambda _: _checked.pop(key, None))

    found = Checked(
        address=ctypes.addressof(argument),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        n_entries=len(values),
        argument=argument,
        tensors=(
            known_by(starts),
            known_by(indices),
            known_by(values),
            _nothing if scales is None else known_by(scales),
        ),
        memory=tuple(t.detach() for t in (starts, indices, values, scales) if t is not None),
        state=state,
    )
    _checked[key] = found
    return found


def _nothing() -> None:
    """In place of scales that there are none of."""


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
