"""Sparse matrices on their way into a kernel: what it relies on is checked at every call, which takes no time.

The operators get a matrix as its parts, from wherever it came: a layer, an exported program, a caller. What stands in
them may have changed since anybody looked, in ways that nobody sees: through `.data`, numpy or inference mode, or by
another thread. So a kernel bounds what it reads itself, and reports damage (`native/matrix.h`). What it relies on are
the sizes of the arrays, which are checked here.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.formats.format import Format
from prunecell.sparse.matrix import as_argument, damage, has_its_memory, matrix_on

MOST_KNOWN = 4096  # matrices, of some hundred bytes each


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A matrix whose sizes were checked, as a kernel takes it.

    Attributes:
        address: of the `native.Matrix`; valid as long as this object lives.
        argument: that matrix.
    """

    address: int
    n_rows: int
    n_columns: int
    n_entries: int
    format: Format
    argument: native.Matrix

    def error(self, outcome: int, *, of: str) -> Exception:
        """What to raise where a kernel did not return 0; `of` is what it had no memory for, if that is it."""
        if outcome < 0:
            return MemoryError(f"no memory to {of}")
        return damage(outcome, self.format, self.n_rows, self.n_columns)


# What was checked, by all that the check depends on: whatever has the same addresses and sizes is as good.
_known: dict[tuple[object, ...], Checked] = {}


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
        StateError: the arrays do not fit together, or are not in this process's memory.
        OptionError: no format has this name.
    """
    seen = (  # it is made in every call, so it takes as little time as it can
        n_columns,
        format,
        values.dtype,
        starts.data_ptr(),
        indices.data_ptr(),
        values.data_ptr(),
        starts.shape,
        indices.shape,
        values.shape,
        starts.is_contiguous(),
        indices.is_contiguous(),
        values.is_contiguous(),
        starts.untyped_storage().nbytes(),
        indices.untyped_storage().nbytes(),
        values.untyped_storage().nbytes(),
        None
        if scales is None
        else (scales.data_ptr(), scales.shape, scales.is_contiguous(), scales.untyped_storage().nbytes()),
    )
    return _known.get(seen) or _check_and_remember(seen, starts, indices, values, scales, n_columns, format)


def _check_and_remember(seen: tuple[object, ...], *parts: Any) -> Checked:  # noqa: ANN401 - see Parts
    matrix = matrix_on(torch.device("cpu"), *parts)
    argument = as_argument(matrix)
    found = Checked(
        address=ctypes.addressof(argument),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        n_entries=len(matrix.values),
        format=matrix.format,
        argument=argument,
    )
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[seen] = found
    return found


def address_of_bias(bias: Tensor | None, n_rows: int) -> int | None:
    """Where the bias of `n_rows` outputs lies.

    Raises:
        OptionError: it is not float32, contiguous and one for every row, in this process's memory.
    """
    if bias is None:
        return None
    if bias.dtype != torch.float32 or bias.shape != (n_rows,) or not bias.is_contiguous():
        raise OptionError(f"bias must be {n_rows} float32 in a row, not {bias.dtype} of shape {tuple(bias.shape)}")
    check_input(bias, "bias")
    return bias.data_ptr()


def check_input(tensor: Tensor, name: str) -> None:
    """Refuse a tensor whose elements a kernel cannot read.

    Raises:
        OptionError: it is on another device, or its storage was made too small for it.
    """
    if not tensor.is_cpu:
        raise OptionError(f"{name} must be on cpu, as the rest is, not on {tensor.device}")
    if not has_its_memory(tensor):
        raise OptionError(f"{name} of shape {tuple(tensor.shape)} has lost its memory: its storage was made smaller")
