"""What a sparse layer was at its last call: whether it still is, so that what was made for it serves again.

A layer goes the short way to the kernels where nobody sees more than its result: plain tensors of its own dtype on a
CPU, no gradients, modes, tracers or compilers. Everywhere else it calls its operator.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Checked, Memory, check_memory, checked
from prunecell.sparse.inputs import COMPUTED, code_of, may_autocast
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
        *("_bias", "_memory", "_parts", "_seen", "_place_of_bias", "_seen_of_scales"),
        *("bias", "calls", "library", "n_columns", "n_entries", "n_rows", "scales"),
    )

    def __init__(self, layer: Layer, library: ctypes.CDLL) -> None:
        self.library, self._parts, self._bias = library, layer.parts, layer.bias
        starts, indices, values, scales, self.n_columns, _ = self._parts
        tensors = starts, indices, values, scales, self._bias
        self._memory = [None if tensor is None else tensor.untyped_storage() for tensor in tensors]
        self.n_rows = len(starts) - 1
        self._seen = _seen(starts), _seen(indices), _seen(values)
        self._seen_of_scales = None if scales is None else _seen(scales)
        self._place_of_bias = None if self._bias is None else _place(self._bias)  # a kernel reads it as it is
        self.scales = None if scales is None else scales.clone()
        self.bias, self.n_entries = None if self._bias is None else self._bias.data_ptr(), len(values)
        self.calls: dict[Any, Any] = {}

    def holds(self, layer: Layer, dtype: torch.dtype) -> bool:
        """Whether a layer is what this one was, and goes the short way with inputs of a dtype.

        The tensors must be the same, where and what they were, and as often changed as torch counts.
        """
        buffers, (starts, indices, values, scales, *_) = layer._buffers, self._parts  # noqa: SLF001 - torch's
        bias = self._bias
        if (
            buffers["values"] is not values
            or buffers["indices"] is not indices
            or buffers["starts"] is not starts
            or buffers["scales"] is not scales
            or layer._parameters.get("bias", layer) is not bias  # noqa: SLF001 - torch's
            or layer.dtype is not dtype
            or self.library is not native.library()
            or values.is_neg()
            or (scales is not None and _seen(scales) != self._seen_of_scales)
        ):
            return False
        if bias is not None:
            place = bias.data_ptr(), bias.dtype, bias.ndim, bias.numel(), bias.is_contiguous()
            n_bytes = bias.untyped_storage().nbytes()
            if place != self._place_of_bias or n_bytes < bias.itemsize * (bias.storage_offset() + self.n_rows):
                return False
            if bias.is_neg() or (bias.requires_grad and torch.is_grad_enabled()):
                return False
        s, i, v = starts, indices, values  # what follows is as _seen has it, whose calls would take longer than torch's
        of_starts, of_indices, of_values = self._seen
        return (
            (s._version, s.data_ptr(), s.dtype, s.ndim, s.numel(), s.is_contiguous()) == of_starts  # noqa: SLF001
            and (i._version, i.data_ptr(), i.dtype, i.ndim, i.numel(), i.is_contiguous()) == of_indices  # noqa: SLF001
            and (v._version, v.data_ptr(), v.dtype, v.ndim, v.numel(), v.is_contiguous()) == of_values  # noqa: SLF001
        )

    @property
    def epilogue(self) -> tuple[int | None, int | None, int]:
        """What happens to a sum, as a kernel takes it, without a ReLU."""
        return None if self.scales is None else self.scales.data_ptr(), self.bias, code_of(self._bias)

    def packed(self, make: Callable[[Forms, Checked], Form | None]) -> Form | None:
        """A packed form; None where the matrix cannot be packed, or is not what it was.

        Raises:
            StateError, OptionError: the layer has parts or a bias that no kernel takes.
        """
        matrix, _memory = checked(*(*self._parts, self._bias))
        forms = forms_of(matrix, self._parts[:N_TENSORS], self.library)
        return None if forms is None or matrix.bias != self.bias else make(forms, matrix)


def ready_of(layer: Layer, library: ctypes.CDLL, dtype: torch.dtype) -> Ready | None:
    """What a layer is now, which it keeps in its `_ready`; None where that cannot serve inputs of a dtype."""
    ready: Ready | None = layer._ready  # noqa: SLF001 - see above
    if ready is not None and ready.holds(layer, dtype):
        return ready
    if not can_be_ready(layer):
        return None
    ready = layer._ready = Ready(layer, library)  # noqa: SLF001
    return ready if ready.holds(layer, dtype) else None  # else another thread changes it


def _place(t: Tensor) -> tuple[object, ...]:
    """Where a tensor lies, and as what: it may become another one in its place."""
    return t.data_ptr(), t.dtype, t.ndim, t.numel(), t.is_contiguous()


def _seen(t: Tensor) -> tuple[object, ...]:
    """The same, and how often it was changed."""
    return (t._version, *_place(t))  # noqa: SLF001 - as autograd asks for it


def takes(x: Tensor) -> bool:
    """Whether a layer may go the short way with x, if it holds what it was."""
    return is_plain_input(x) and x.dtype in COMPUTED and not may_autocast()


def can_be_ready(layer: Layer) -> bool:
    """Whether a layer can go the short way: kernels read a copy of its matrix, of which torch counts the changes."""
    parts = [part for part in layer.parts[:N_TENSORS] if part is not None]
    return (
        layer.format.is_packed
        and "bias" in layer._parameters  # noqa: SLF001 - torch's; a program may have put something in its place
        and layer.dtype in COMPUTED
        and all(part.is_cpu and not part.is_inference() for part in parts)
        and are_plain_parts(layer.values, layer.bias)
    )


def address_of(x: Tensor, keep: Memory) -> int:
    """Where a contiguous tensor lies; `keep` gets its memory.

    Raises:
        OptionError: its storage was made too small for it.
    """
    size = x.itemsize
    memory, offset = x.untyped_storage(), size * x.storage_offset()
    if memory.nbytes() < offset + size * x.numel():
        check_memory(x, "x")
    keep.append(memory)
    return int(memory.data_ptr() + offset)
