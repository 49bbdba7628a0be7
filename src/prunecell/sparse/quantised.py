"""The short way of a sparse linear layer with quantised inputs to the kernels.

What a call needs is made at the first one and kept, as long as the layer is what it was (ready.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Memory, check_memory
from prunecell.sparse.multiply import threads_for
from prunecell.sparse.packed import Form, check_outcome
from prunecell.sparse.quads import FEW, kernel_for, quads_for
from prunecell.sparse.ready import Layer, Ready, address_of, ready_of, takes
from prunecell.sparse.values import INT8


def quantised_shortly(layer: Layer, x: Tensor, *, relu: bool) -> Tensor | None:
    """What a SparseLinear with int8 activations gives; None where it must call its operator.

    Args:
        layer: that keeps what it was in its `_ready`.
        x: of any kind.
        relu: whether max(0, .) is taken of the result.
    """
    if not takes(x) or x.dtype is not torch.float32 or (library := native.library()) is None:
        return None
    n_columns: int = layer.in_features
    if x.ndim == 0 or x.shape[-1] != n_columns or x.numel() == 0:
        return None
    ready = ready_of(layer, library, x.dtype)
    if ready is None:
        return None
    n_samples = x.numel() // n_columns
    key = n_samples <= FEW, native.n_threads()
    call: _Call | None = ready.calls.get(key) or _made(layer, ready, n_samples)
    if call is None:
        return None
    ready.calls[key] = call
    if not x.is_contiguous():
        check_memory(x, "x")
        x = x.contiguous()
    keep: Memory = []
    at = address_of(x, keep)
    y = x.new_empty((*x.shape[:-1], ready.n_rows))
    team = native.team(threads_for(ready.n_entries, n_samples))
    check_outcome(call.kernel(*call.matrix, relu, at, n_columns, n_samples, y.data_ptr(), team))
    return y


class _Call(NamedTuple):
    """What calls with few samples or with many need."""

    form: Form
    kernel: Callable[..., int]
    matrix: tuple[int | None, ...]  # as the kernel takes it


def _made(layer: Layer, ready: Ready, n_samples: int) -> _Call | None:
    """What calls with so many samples need; None where the layer must call its operator."""
    if layer.values.dtype != INT8.dtype:
        return None
    form = ready.packed(lambda forms, matrix: quads_for(matrix, forms, n_samples))
    if form is None:
        return None
    return _Call(form, kernel_for(ready.library, n_samples), (form.address, *ready.epilogue))
