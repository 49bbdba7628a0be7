"""What a sparse layer was at its last call: whether it still is, so that what was made for it serves again.

A layer goes the short way to the kernels where nobody sees more than its result: plain float32 tensors on a CPU, no
gradients, modes, tracers or compilers. Everywhere else it calls its operator.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Checked, Memory, check_memory, checked
from prunecell.sparse.inputs import may_autocast
from prunecell.sparse.matrix import N_TENSORS
from prunecell.sparse.packed import Form, Forms, forms_of
from prunecell.sparse.registry import are_plain_parts, is_plain_input

Layer = Any
"""A SparseLinear or SparseConvolution."""


class Ready:
    """A layer as it was. It does not hold the layer, which holds it.

    It holds the memory of all tensors, so nothing else comes to lie there.

    Attributes:
        library: of the kernels.
        n_rows, n_columns, n_entries: of the matrix.
        bias: its address.
        scales: a copy of our own.
        calls: what was made for calls, by what tells them apart; see those who call.
    """

    __slots__ = (
        *("_bias", "_memory", "_parts", "_place_of_bias", "_places", "_versions"),
        *("bias", "calls", "library", "n_columns", "n_entries", "n_rows", "scales"),
    )

    def __init__(self, layer: Layer, library: ctypes.CDLL) -> None:
        self.library, self._parts, self._bias = library, layer.parts, layer.bias
        starts, indices, values, scales, self.n_columns, _ = self._parts
        tensors = starts, indices, values, scales, self._bias
        self._memory = [None if tensor is None else tensor.untyped_storage() for tensor in tensors]
        self.n_rows = len(starts) - 1
        self._places = _places(starts, indices, values)
        self._place_of_bias = None if self._bias is None else _place(self._bias)
        self._versions = starts._version, indices._version, values._version, _of_scales(scales)  # noqa: SLF001
        self.scales = None if scales is None else scales.clone()
        self.bias, self.n_entries = None if self._bias is None else self._bias.data_ptr(), len(values)
        self.calls: dict[Any, Any] = {}

    def holds(self, layer: Layer) -> bool:
        """Whether a layer is what this one was, and goes the short way.

        The tensors must be the same, where and what they were, and as often changed as torch counts.
        """
        buffers, (starts, indices, values, scales, *_) = layer._buffers, self._parts  # noqa: SLF001 - torch's
        bias = self._bias
        return (
            buffers["values"] is values
            and buffers["indices"] is indices
            and buffers["starts"] is starts
            and buffers["scales"] is scales
            and layer._parameters["bias"] is bias  # noqa: SLF001 - torch's
            and layer.dtype is torch.float32
            and self.library is native.library()
            and (bias is None or (_place(bias) == self._place_of_bias and self._has_its_bias(bias)))
            and (starts._version, indices._version, values._version, _of_scales(scales)) == self._versions  # noqa: SLF001
            and _places(starts, indices, values) == self._places
            and are_plain_parts(values, bias)
        )

    def _has_its_bias(self, bias: Tensor) -> bool:
        """Whether the memory, which a kernel reads, was not made smaller."""
        return bias.untyped_storage().nbytes() >= 4 * (bias.storage_offset() + self.n_rows)

    @property
    def epilogue(self) -> tuple[int | None, int | None]:
        """The addresses of scales and bias, as a kernel takes them."""
        return None if self.scales is None else self.scales.data_ptr(), self.bias

    def packed(self, make: Callable[[Forms, Checked], Form | None]) -> Form | None:
        """A packed form; None where the matrix cannot be packed, or is not what it was.

        Raises:
            StateError, OptionError: the layer has parts or a bias that no kernel takes.
        """
        matrix, _memory = checked(*(*self._parts, self._bias))
        forms = forms_of(matrix, self._parts[:N_TENSORS], self.library)
        return None if forms is None or matrix.bias != self.bias else make(forms, matrix)


# Where tensors lie, and as what: another may come to lie at the same address, and the same one become another there.


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.ndim, tensor.numel(), tensor.is_contiguous()


def _places(a: Tensor, b: Tensor, c: Tensor) -> tuple[object, ...]:
    """Of three at once, as a call of Python takes longer than one of torch."""
    return (
        *(a.data_ptr(), a.dtype, a.ndim, a.numel(), a.is_contiguous()),
        *(b.data_ptr(), b.dtype, b.ndim, b.numel(), b.is_contiguous()),
        *(c.data_ptr(), c.dtype, c.ndim, c.numel(), c.is_contiguous()),
    )


def _of_scales(scales: Tensor | None) -> tuple[object, ...] | None:
    return None if scales is None else (scales._version, *_place(scales))  # noqa: SLF001 - as autograd asks for it


def takes(x: Tensor) -> bool:
    """Whether a layer may go the short way with x, if it holds what it was."""
    return is_plain_input(x) and x.dtype is torch.float32 and not may_autocast()


def can_be_ready(layer: Layer) -> bool:
    """Whether a layer can go the short way: kernels read a copy of its matrix, of which torch counts the changes."""
    parts = [part for part in layer.parts[:N_TENSORS] if part is not None]
    return (
        layer.format.is_packed
        and layer.dtype is torch.float32
        and all(part.is_cpu and not part.is_inference() for part in parts)
        and are_plain_parts(layer.values, layer.bias)
    )


def address_of(x: Tensor, keep: Memory) -> int:
    """Where a contiguous tensor lies; `keep` gets its memory.

    Raises:
        OptionError: its storage was made too small for it.
    """
    memory, offset = x.untyped_storage(), 4 * x.storage_offset()
    if memory.nbytes() < offset + 4 * x.numel():
        check_memory(x, "x")
    keep.append(memory)
    return int(memory.data_ptr() + offset)
