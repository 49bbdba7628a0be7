"""The short way of a sparse linear layer with quantised inputs to the kernels.

What a call needs is made at the first one and kept, as long as the layer is what it was (ready.py).
"""

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Memory, check_memory
from prunecell.sparse.packed import Form
from prunecell.sparse.quads import FEW, multiply_quantised, quads_for
from prunecell.sparse.ready import Layer, Ready, address_of, ready_of, takes
from prunecell.sparse.values import INT8


def quantised_shortly(layer: Layer, x: Tensor, *, relu: bool) -> Tensor | None:
    """What a SparseLinear with int8 activations gives; None where it must call its operator.

    Args:
        layer: that keeps what it was in its `_ready`.
        x: of any kind.
        relu: whether max(0, .) is taken of the result.
    """
    if torch.compiler.is_compiling() or not takes(x, layer) or (library := native.library()) is None:
        return None
    n_columns: int = layer.in_features
    if x.ndim == 0 or x.shape[-1] != n_columns or x.numel() == 0:
        return None
    keep: Memory = []
    ready = ready_of(layer, library, keep)
    if ready is None:
        return None
    n_samples = x.numel() // n_columns
    key = n_samples <= FEW, native.n_threads()
    form: Form | None = ready.calls.get(key) or _made(layer, ready, n_samples)
    if form is None:
        return None
    ready.calls[key] = form
    if not x.is_contiguous():
        check_memory(x, "x")
        x = x.contiguous()
    at = address_of(x, keep)
    y = x.new_empty((*x.shape[:-1], ready.n_rows))
    samples = at, n_columns, n_samples, y.data_ptr()
    multiply_quantised(library, form, (*ready.epilogue, relu), samples, ready.n_entries)
    return y


def _made(layer: Layer, ready: Ready, n_samples: int) -> Form | None:
    """The packed form for so many samples; None where there is none."""
    if layer.values.dtype != INT8.dtype:
        return None
    return ready.packed(lambda forms, matrix: quads_for(matrix, forms, n_samples))
