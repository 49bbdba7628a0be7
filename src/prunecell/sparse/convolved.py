"""The short way of a sparse convolution to the kernels: what a call needs is made at the first one of its shape.

It is kept as long as the layer is what it was (ready.py).
"""

import math
from typing import Any, NamedTuple

from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Memory
from prunecell.sparse.convolution_op import geometry_of
from prunecell.sparse.convolve import Blocked, Convolution
from prunecell.sparse.inputs import code_of
from prunecell.sparse.multiply import threads_for
from prunecell.sparse.ready import Layer, Ready, address_of, ready_of, takes

MOST_SHAPES = 16


class _Call(NamedTuple):
    """What calls with inputs of one shape need."""

    blocked: Blocked
    shape: tuple[int, ...]  # of the output
    n_threads: int


def convolved(layer: Layer, x: Tensor, kernel: tuple[Any, ...], *, relu: bool) -> Tensor | None:
    """What a SparseConvolution gives; None where it must call its operator.

    Args:
        layer: that keeps what it was in its `_ready`.
        x: of any kind.
        kernel: kernel size, stride, padding, dilation and groups.
        relu: whether max(0, .) is taken of the result.
    """
    if not takes(x) or not channels_first(x) or (library := native.library()) is None:
        return None
    ready = ready_of(layer, library, x.dtype)
    if ready is None:
        return None
    key = x.shape, native.n_threads(), *map(tuple, kernel[:-1]), kernel[-1]
    call = ready.calls.get(key) or _made(ready, x, kernel)
    if call is None:
        return None
    ready.calls[key] = call
    keep: Memory = []
    at, n_samples = address_of(x, keep), x.shape[0]
    y = x.new_empty(*call.shape)
    call.blocked.run(library, (*ready.epilogue, relu, code_of(x), at, y.data_ptr(), n_samples), call.n_threads)
    return y


def channels_first(x: Tensor) -> bool:
    """Whether pictures lie in memory in the order of their dimensions, and could not be said to lie otherwise."""
    return x.is_contiguous() and x.ndim >= 3 and x.stride(1) > x.stride(-1)  # noqa: PLR2004 - samples, channels, size


def _made(ready: Ready, x: Tensor, kernel: tuple[Any, ...]) -> _Call | None:
    """What calls with inputs like x need; None where the matrix is read as it is stored.

    Raises:
        StateError, OptionError: the layer has parts or a bias that no kernel takes, or x does not fit.
    """
    geometry, out = geometry_of(x.shape, ready.n_rows, ready.n_columns, *map(tuple, kernel[:-1]), kernel[-1])
    n_samples = x.shape[0]
    n_threads = threads_for(ready.n_entries, n_samples * math.prod(out))
    found: list[Blocked] = []

    def pack(forms: Any, matrix: Any) -> Any:  # noqa: ANN401 - see Ready.packed
        blocked = Convolution(ready.library, matrix, geometry, n_samples, n_threads).blocked(forms)
        found.extend([blocked] if blocked else [])
        return blocked and blocked.form

    ready.packed(pack)
    if len(ready.calls) >= MOST_SHAPES:
        ready.calls.clear()
    return _Call(found[0], (n_samples, ready.n_rows, *out), n_threads) if found else None
