"""The operator `prunecell::quantised_linear`: y = x W^T + bias, then max(0, y) where asked, in int8 arithmetic.

W has int8 values and a scale for each row. Each sample x is quantised by itself: its step is s = max |x| / 127, and its
integers are q = x (127 / max |x|), rounded to the nearest, of two to the even one. So y = (q V^T) scale s + bias, where
V are the values. The sum is exact, every other operation is rounded once: the bits are the same in every kernel, in the
twin, on any number of threads and whatever other samples there are. A sample with an infinity or NaN in it gives NaN
everywhere.

Gradients go straight through: they are those of `sparse_linear`, as if nothing had been rounded.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from prunecell import native
from prunecell.errors import OptionError, StateError
from prunecell.sparse.checked import check_memory, checked
from prunecell.sparse.inputs import check_features, check_operands
from prunecell.sparse.linear_op import linear_backward, linear_twin, remember_linear
from prunecell.sparse.matrix import N_PARTS, N_TENSORS, ROWS_AT_ONCE, decompress, dense_rows, matrix_of, matrix_on
from prunecell.sparse.multiply import threads_for
from prunecell.sparse.packed import check_outcome, forms_of
from prunecell.sparse.quads import kernel_for, quads_for
from prunecell.sparse.registry import MATRIX, VALUES, constant, register, register_gradient

LEAST = 2.0**-100
"""A sample of smaller numbers is quantised as if this was its largest, so that its step is no subnormal number."""

MOST = 127  # of the integers
SCALES = VALUES + 1  # where they stand among the parts of a matrix

# In what follows `rest` is the operator's arguments after the first: the parts of the matrix, then the others.


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """The integers of samples, as float32, and their steps.

    Args:
        x: float32, (samples, features).

    >>> integers, steps = quantised(torch.tensor([[1.0, 0.5, -0.1], [0.0, 0.0, 0.0]]))
    >>> integers.tolist()
    [[127.0, 64.0, -13.0], [0.0, 0.0, 0.0]]
    """
    largest = x.abs().amax(1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)
    most = x.new_tensor(MOST)  # a tensor, because torch makes x / 127 and 127 / x of it, and no product
    largest = torch.where(largest.isfinite(), largest.clamp(min=LEAST), torch.nan)
    return (x * (most / largest)).round(), largest / most


def quantised_twin(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    """The same in plain torch: sums of integers are exact in float64 too."""
    _check(x, *rest)
    matrix, (bias, relu) = matrix_on(x.device, *rest[:N_PARTS]), rest[N_PARTS:]
    integers, steps = quantised(x.detach())
    integers, values = integers.nan_to_num().double(), replace(matrix, scales=None)
    sums = [x.new_empty(len(x), 0)]
    for begin in range(0, matrix.n_rows, ROWS_AT_ONCE):
        rows = dense_rows(values, begin, min(begin + ROWS_AT_ONCE, matrix.n_rows))
        sums.append((integers @ rows.t().double()).float())
    y: Tensor = torch.cat(sums, 1) * rest[SCALES] * steps
    if bias is not None:
        y = y + bias
    return y.relu() if relu else y


def _straight_through(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    """The same for torch.func and forward mode, which differentiate plain torch."""
    *parts, relu = rest
    linear = linear_twin(x, *parts, False)  # noqa: FBT003 - the operator's
    y = quantised_twin(x, *parts, False).detach() + (linear - linear.detach())  # noqa: FBT003
    return y.relu() if relu else y


def _on_cpu(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    library = native.library()
    if library is None:
        return quantised_twin(x, *rest)
    tensors, relu = rest[:N_TENSORS], rest[N_PARTS + 1]
    x = x.detach()  # an alias, which keeps the memory of now
    matrix, _memory = checked(*rest[: N_PARTS + 1])
    _check(x, *rest)
    check_memory(x, "x")
    n_samples = len(x)
    forms = forms_of(matrix, tensors, library) if n_samples else None
    form = None if forms is None else quads_for(matrix, forms, n_samples)
    if form is None:
        return quantised_twin(x, *rest)
    x = x.contiguous()
    y = x.new_empty(n_samples, matrix.n_rows)
    samples = x.data_ptr(), matrix.n_columns, n_samples, y.data_ptr()
    team = native.team(threads_for(matrix.n_entries, n_samples))
    check_outcome(kernel_for(library, n_samples)(form.address, *matrix.epilogue, relu, *samples, team))
    return y


def _check(x: Tensor, *rest: Any) -> None:  # noqa: ANN401 - see above
    if x.dtype != torch.float32:
        raise OptionError(f"x must be float32, not {x.dtype}")
    check_operands(x, rest[:N_TENSORS], rest[N_PARTS])
    check_features(x, rest[N_PARTS - 2])
    if x.ndim != 2:  # noqa: PLR2004 - samples, features
        raise OptionError(f"x must have 2 dimensions, not the shape {tuple(x.shape)}")
    if rest[VALUES].dtype != torch.int8:
        raise StateError(f"quantised inputs are multiplied by int8 values only, not by {rest[VALUES].dtype}")


def _in_onnx(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    bias, relu = rest[N_PARTS:]
    integers, steps = quantised(x)
    weight = constant(lambda: decompress(matrix_of(*rest[:N_PARTS])))
    y = F.linear(integers * steps, weight, None if bias is None else bias.float())
    return y.relu() if relu else y


def _fake(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    _check(x, *rest)
    return x.new_empty(x.shape[0], rest[0].shape[0] - 1)


quantised_linear = register(
    f"quantised_linear(Tensor x, {MATRIX}, Tensor? bias, bool relu) -> Tensor",
    twin=quantised_twin,
    fake=_fake,
    compiled=_on_cpu,
    in_onnx=_in_onnx,
    differentiated=_straight_through,
)
register_gradient("quantised_linear", linear_backward, remember=remember_linear)
