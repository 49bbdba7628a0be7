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
from prunecell.sparse.registry import is_plain

Layer = Any
"""A SparseLinear or SparseConvolution."""


class Ready:
    """A layer as it was. It does not hold the layer, which holds it.

    Attributes:
        library: of the kernels.
        n_rows, n_columns, n_entries: of the matrix.
        bias: its address.
        scales: a copy of our own.
        calls: what was made for calls, by what tells them apart; see those who call.
    """

    __slots__ = (
        *("_bias", "_parts", "_places", "_versions"),
        *("bias", "calls", "library", "n_columns", "n_entries", "n_rows", "scales"),
    )

    def __init__(self, layer: Layer, library: ctypes.CDLL) -> None:
        self.library, self._parts, self._bias = library, layer.parts, layer.bias
        starts, indices, values, scales, self.n_columns, _ = self._parts
        self.n_rows = len(starts) - 1
        self._places = _place(starts), _place(indices), _place(values), _place(scales), _place(self._bias)
        self._versions = starts._version, indices._version, values._version, _version(scales)  # noqa: SLF001
        self.scales = None if scales is None else scales.clone()
        self.bias, self.n_entries = None if self._bias is None else self._bias.data_ptr(), len(values)
        self.calls: dict[Any, Any] = {}

    def holds(self, layer: Layer, keep: Memory) -> bool:
        """Whether a layer is what this one was; `keep` gets the memory of its bias, which a kernel reads.

        The tensors must be the same, where and what they were, and as often changed as torch counts.
        """
        buffers, (starts, indices, values, scales, *_) = layer._buffers, self._parts  # noqa: SLF001 - torch's
        bias = self._bias
        if (
            buffers["values"] is not values
            or buffers["indices"] is not indices
            or buffers["starts"] is not starts
            or buffers["scales"] is not scales
            or layer._parameters["bias"] is not bias  # noqa: SLF001 - torch's
            or self.library is not native.library()
        ):
            return False
        if bias is not None:  # another thread may give it other memory at any time
            keep.append(memory := bias.untyped_storage())
            offset = 4 * bias.storage_offset()
            if memory.data_ptr() + offset != self.bias or memory.nbytes() < offset + 4 * self.n_rows:
                return False
        places = _place(starts), _place(indices), _place(values), _place(scales), _place(bias)
        versions = starts._version, indices._version, values._version, _version(scales)  # noqa: SLF001
        return places == self._places and versions == self._versions

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


def ready_of(layer: Layer, library: ctypes.CDLL, keep: Memory) -> Ready | None:
    """What a layer is now, which it keeps in its `_ready`; None where that cannot serve. `keep`: see `Ready.holds`."""
    ready: Ready | None = layer._ready  # noqa: SLF001 - see above
    if ready is not None and ready.holds(layer, keep):
        return ready
    if not can_be_packed(layer):
        return None
    ready = layer._ready = Ready(layer, library)  # noqa: SLF001
    return ready if ready.holds(layer, keep) else None  # else another thread changes it


def _place(tensor: Tensor | None) -> tuple[object, ...]:
    """Where a tensor lies, and as what: another may come to lie at the same address."""
    if tensor is None:
        return ()
    return tensor.data_ptr(), tensor.dtype, tensor.ndim, tensor.numel(), tensor.is_contiguous()


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version  # noqa: SLF001 - as autograd asks for it


def takes(x: Tensor, layer: Layer) -> bool:
    """Whether the layer may go the short way with x."""
    return (
        type(x) is Tensor
        and x.dtype is torch.float32
        and layer.dtype is torch.float32
        and not may_autocast()
        and is_plain(x, layer._buffers["values"], layer._parameters["bias"])  # noqa: SLF001 - torch's
    )


def can_be_packed(layer: Layer) -> bool:
    """Whether the kernels read a copy of the matrix, and torch counts its changes."""
    return layer.format.is_packed and not any(t is not None and t.is_inference() for t in layer.parts[:N_TENSORS])


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
