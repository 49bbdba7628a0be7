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
from prunecell.sparse.inputs import check_bias
from prunecell.sparse.matrix import as_argument, damage, has_its_memory, matrix_on

MOST_KNOWN = 4096  # matrices, of some hundred bytes each


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A matrix whose sizes were checked, as a kernel takes it.

    Attributes:
        address: of the `native.Matrix`; valid as long as this object lives.
        bias: its address.
        argument: that matrix.
    """

    address: int
    n_rows: int
    n_columns: int
    n_entries: int
    format: Format
    bias: int | None
    argument: native.Matrix

    def error(self, outcome: int, *, of: str) -> Exception:
        """What to raise where a kernel did not return 0; `of` is what it had no memory for, if that is it."""
        if outcome < 0:
            return MemoryError(f"no memory to {of}")
        return damage(outcome, self.format, self.n_rows, self.n_columns)


# What was checked, by all that tells that the check still holds.
_known: dict[tuple[object, ...], Checked] = {}


def checked(
    starts: Tensor,
    indices: Tensor,
    values: Tensor,
    scales: Tensor | None,
    n_columns: int,
    format: str,  # noqa: A002
    bias: Tensor | None = None,
) -> Checked:
    """The matrix of its parts as a kernel takes it, with the bias of its rows.

    Raises:
        StateError: the arrays do not fit together, or are not in this process's memory.
        OptionError: no format has this name; the bias is not float32, one for every row, contiguous and in memory.
    """
    # It is made in every call, so it takes as little time as it can. Where a tensor lies, its length and its storage's
    # make it safe to read. That it is the same object tells that its shape and its type are those that were checked,
    # but an object that is gone leaves its id to the next one: so the type of the values, by which a kernel reads them,
    # is looked at again.
    seen: tuple[object, ...] = (
        n_columns,
        format,
        id(starts),
        id(indices),
        id(values),
        values.dtype,
        starts.data_ptr(),
        indices.data_ptr(),
        values.data_ptr(),
        starts.numel(),
        indices.numel(),
        values.numel(),
        starts.untyped_storage().nbytes(),
        indices.untyped_storage().nbytes(),
        values.untyped_storage().nbytes(),
    )
    if scales is not None:
        seen += id(scales), scales.data_ptr(), scales.numel(), scales.untyped_storage().nbytes()
    if bias is not None:
        seen += "bias", id(bias), bias.data_ptr(), bias.numel(), bias.untyped_storage().nbytes()
    return _known.get(seen) or _check_and_remember(seen, bias, starts, indices, values, scales, n_columns, format)


def _check_and_remember(seen: tuple[object, ...], bias: Tensor | None, *parts: Any) -> Checked:  # noqa: ANN401 - see Parts
    matrix = matrix_on(torch.device("cpu"), *parts)
    argument = as_argument(matrix)
    found = Checked(
        address=ctypes.addressof(argument),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        n_entries=len(matrix.values),
        format=matrix.format,
        bias=_address_of_bias(bias, matrix.n_rows),
        argument=argument,
    )
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[seen] = found
    return found


def _address_of_bias(bias: Tensor | None, n_rows: int) -> int | None:
    if bias is None:
        return None
    check_bias(bias, n_rows, torch.device("cpu"))
    check_memory(bias, "bias")
    return bias.data_ptr()


def check_memory(tensor: Tensor, name: str) -> None:
    """Refuse a tensor whose elements cannot be read.

    Raises:
        OptionError: its storage was made too small for it.
    """
    if not has_its_memory(tensor):
        raise OptionError(f"{name} of shape {tuple(tensor.shape)} has lost its memory: its storage was made smaller")
