"""Sparse matrices on their way into a kernel: what it relies on is checked at every call, which takes no time.

The operators get a matrix as its parts, from wherever it came: a layer, an exported program, a caller. What stands in
them may have changed since anybody looked, in ways that nobody sees: through `.data`, numpy or inference mode, or by
another thread. So a kernel bounds what it reads itself, and reports damage (`native/matrix.h`). What it relies on are
the sizes of the arrays, which are checked here.

Of a matrix whose format is packed the kernels read a copy instead (`packed.py`).
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.formats.format import Format
from prunecell.sparse.inputs import check_bias, code_of
from prunecell.sparse.matrix import N_TENSORS, as_argument, damage, has_its_memory, matrix_on

MOST_KNOWN = 4096  # matrices, of some hundred bytes each

_Seen = tuple[object, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A matrix whose sizes were checked, as a kernel takes it.

    Attributes:
        address: of the `native.Matrix`; valid as long as this object lives.
        bias: its address.
        bias_type: the code of its type; as for float32 where there is none.
        argument: that matrix.
        scales: of its rows, where the values are scaled.
        key: all that tells that the matrix is still this one; None where kernels read it as it is stored.
    """

    address: int
    n_rows: int
    n_columns: int
    n_entries: int
    format: Format
    bias: int | None
    bias_type: int
    argument: native.Matrix
    scales: int | None
    key: _Seen | None

    @property
    def epilogue(self) -> tuple[int | None, int | None, int]:
        """What happens to a sum, as a kernel takes it, without a ReLU."""
        return self.scales, self.bias, self.bias_type

    def error(self, outcome: int, *, of: str) -> Exception:
        """What to raise where a kernel did not return 0; `of` is what it had no memory for, if that is it."""
        if outcome < 0:
            return MemoryError(f"no memory to {of}")
        return damage(outcome, self.format, self.n_rows, self.n_columns)


Memory = list[torch.UntypedStorage]
"""Of a matrix and its bias."""

# What was checked, by all that tells that the check still holds.
_known: dict[_Seen, Checked] = {}


def checked(
    starts: Tensor,
    indices: Tensor,
    values: Tensor,
    scales: Tensor | None,
    n_columns: int,
    format: str,  # noqa: A002
    bias: Tensor | None = None,
) -> tuple[Checked, Memory]:
    """The matrix of its parts as a kernel takes it, with the bias of its rows, and their memory.

    The caller keeps the memory while the kernel runs: another thread may give a tensor other memory meanwhile, which
    would free this one.

    Raises:
        StateError: the arrays do not fit together, or are not in this process's memory.
        OptionError: no format has this name; the bias is of a dtype that no kernel takes, or not one for every row,
            contiguous and in memory.
    """
    tensors = starts, indices, values, scales, bias
    seen, memory = _seen(tensors, tensors, n_columns, format)
    known = _known.get(seen)
    if known is not None:
        return known, memory
    now = tuple(None if t is None else t.detach() for t in tensors)  # nobody can give these other memory
    seen, memory = _seen(tensors, now, n_columns, format)
    found = _looked_at(*now[:N_TENSORS], n_columns, format, bias=now[N_TENSORS], seen=seen)
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    _known[seen] = found
    return found, memory


def _seen(
    objects: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    n_columns: int,
    format: str,  # noqa: A002
) -> tuple[_Seen, Memory]:
    """All that tells that a check still holds, and the memory of the tensors.

    It is made in every call, so it takes as little time as it can. Where a tensor lies, its length and its storage's
    make it safe to read. Another tensor may come to lie there, so what it is counts too.

    Args:
        objects: starts, indices, values, scales and bias, as the operator got them.
        tensors: the same, or aliases of them.
        n_columns: of the matrix.
        format: the name of its format.
    """
    seen: list[object] = [n_columns, format]
    memory = []
    for item, tensor in zip(objects, tensors, strict=True):
        if tensor is None:
            seen.append(None)
            continue
        storage = tensor.untyped_storage()
        memory.append(storage)
        place = storage.data_ptr(), storage.nbytes(), tensor.storage_offset(), tensor.numel()
        seen.append((id(item), tensor.dtype, tensor.ndim, tensor.is_contiguous(), *place))
    return tuple(seen), memory


def _looked_at(*parts: Any, bias: Tensor | None, seen: _Seen) -> Checked:  # noqa: ANN401 - see Parts
    matrix = matrix_on(torch.device("cpu"), *parts)
    argument = as_argument(matrix)
    return Checked(
        address=ctypes.addressof(argument),
        n_rows=matrix.n_rows,
        n_columns=matrix.n_columns,
        n_entries=len(matrix.values),
        format=matrix.format,
        bias=_address_of_bias(bias, matrix.n_rows),
        bias_type=code_of(bias),
        argument=argument,
        scales=argument.scales,
        key=seen[:-1] if matrix.format.is_packed and matrix.n_rows and matrix.n_columns else None,
    )


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
