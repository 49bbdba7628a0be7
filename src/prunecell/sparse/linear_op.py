"""The operator `prunecell::sparse_linear`: y = x W^T + bias with a compressed W, then max(0, y) where asked.

    x              float32, bfloat16 or float16 (samples, n_columns), in rows or feature-major: x.t() contiguous
    the matrix     its parts (matrix.py)
    bias           of such a dtype too, (n_rows,), or None
    relu           whether max(0, .) is taken of the result
    y              of the dtype of x; what is computed in float32 is rounded once

It runs the compiled kernel on a CPU and the twin elsewhere, under torch.compile and torch.export too. The gradients for
x and the bias are the twin's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.checked import check_memory, checked
from prunecell.sparse.inputs import COMPUTED, check_features, check_operands, code_of
from prunecell.sparse.matrix import N_PARTS, N_TENSORS, ROWS_AT_ONCE, decompress, dense_rows, matrix_of, matrix_on
from prunecell.sparse.multiply import Activations, Product, multiply
from prunecell.sparse.packed import forms_of
from prunecell.sparse.registry import MATRIX, before_relu, constant, register, register_gradient

# In what follows `rest` is the operator's arguments after the first: the parts of the matrix, then the others.


def _on_cpu(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    library = native.library()
    if library is None:
        return linear_twin(x, *rest)
    starts, indices, values, scales, n_columns, format_name, bias, relu = rest
    x = x.detach()  # an alias, which keeps the memory of now
    matrix, _memory = checked(starts, indices, values, scales, n_columns, format_name, bias)
    n_rows, shape, strides = matrix.n_rows, x.shape, x.stride()
    if x.dtype not in COMPUTED or not x.is_cpu or len(shape) != 2 or shape[1] != n_columns:  # noqa: PLR2004
        _check(x, *rest)
    n_samples, n_bytes = shape[0], x.untyped_storage().nbytes()
    if strides != (n_columns, 1) and strides != (1, n_samples):  # noqa: PLR1714 - a set takes longer
        check_memory(x, "x")
        x = x.contiguous()
        strides = n_columns, 1
    elif n_bytes < x.itemsize * (x.storage_offset() + n_samples * n_columns):
        check_memory(x, "x")
    y = x.new_empty(n_samples, n_rows)
    if not n_samples or not n_rows:
        return y
    forms = forms_of(matrix, (starts, indices, values, scales), library)
    from_x = Activations(x.data_ptr(), strides[1], strides[0])
    multiply(Product(library, matrix, from_x, y.data_ptr(), code_of(x), n_samples, relu), forms)
    return y


def _check(x: Tensor, *rest: Any) -> None:  # noqa: ANN401 - see above
    check_operands(x, rest[:N_TENSORS], rest[N_PARTS])
    check_features(x, rest[N_PARTS - 2])
    if x.ndim != 2:  # noqa: PLR2004 - samples, features
        raise OptionError(f"x must have 2 dimensions, not the shape {tuple(x.shape)}")


def linear_twin(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    """The same in plain torch: some rows of the matrix at a time are made dense."""
    _check(x, *rest)
    matrix, (bias, relu) = matrix_on(x.device, *rest[:N_PARTS]), rest[N_PARTS:]
    wide = x.float()
    y = wide.new_empty(x.shape[0], matrix.n_rows)
    for begin in range(0, matrix.n_rows, ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, matrix.n_rows)
        y[:, begin:end] = wide @ dense_rows(matrix, begin, end).t()
    if bias is not None:
        y += bias
    return (y.relu_() if relu else y).to(x.dtype)


def _in_onnx(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    bias, relu = rest[N_PARTS:]
    weight = constant(lambda: decompress(matrix_of(*rest[:N_PARTS])))
    y = F.linear(x.float(), weight, None if bias is None else bias.float()).to(x.dtype)
    return y.relu() if relu else y


def _fake(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    _check(x, *rest)
    return x.new_empty(x.shape[0], rest[0].shape[0] - 1)


def _check_gradient(gradient: Tensor, *parts: Any) -> None:  # noqa: ANN401 - see above
    check_operands(gradient, parts[:N_TENSORS], None, name="gradient")
    n_rows = parts[0].shape[0] - 1
    if gradient.ndim != 2 or gradient.shape[1] != n_rows:  # noqa: PLR2004 - samples, rows
        raise OptionError(f"gradient must have the shape (samples, {n_rows}), not {tuple(gradient.shape)}")


def _gradient_twin(gradient: Tensor, *parts: Any) -> Tensor:  # noqa: ANN401 - see above
    _check_gradient(gradient, *parts)
    matrix, wide = matrix_on(gradient.device, *parts), gradient.float()
    result = wide.new_zeros(gradient.shape[0], matrix.n_columns)
    for begin in range(0, matrix.n_rows, ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, matrix.n_rows)
        result += wide[:, begin:end] @ dense_rows(matrix, begin, end)
    return result.to(gradient.dtype)


def _gradient_fake(gradient: Tensor, *parts: Any) -> Tensor:  # noqa: ANN401 - see above
    _check_gradient(gradient, *parts)
    return gradient.new_empty(gradient.shape[0], parts[-2])


sparse_linear = register(
    f"sparse_linear(Tensor x, {MATRIX}, Tensor? bias, bool relu) -> Tensor",
    twin=linear_twin,
    fake=_fake,
    compiled=_on_cpu,
    in_onnx=_in_onnx,
)
_input_gradient = register(
    f"sparse_linear_input_gradient(Tensor gradient, {MATRIX}) -> Tensor", twin=_gradient_twin, fake=_gradient_fake
)


# ---- autograd --------------------------------------------------------------------------------------------------------


def remember_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - torch's context
    """Keep what the gradients need."""
    _, starts, indices, values, scales, ctx.n_columns, ctx.format, bias, ctx.relu = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(starts, indices, values, scales, output if ctx.relu else None)


def linear_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
    """The gradients for x and the bias."""
    *parts, output = ctx.saved_tensors
    gradient = before_relu(gradient, output)
    of_x, of_bias = (ctx.needs_input_grad[i] for i in (0, N_PARTS + 1))
    return (
        _input_gradient(gradient, *parts, ctx.n_columns, ctx.format) if of_x else None,
        *[None] * N_PARTS,
        gradient.sum(0, dtype=torch.float32).to(ctx.bias_dtype) if of_bias else None,
        None,
    )


register_gradient("sparse_linear", linear_backward, remember=remember_linear)
