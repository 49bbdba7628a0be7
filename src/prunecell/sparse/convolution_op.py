"""The operator `prunecell::sparse_convolution`: a convolution of 1 to 3 axes with a compressed weight.

    x            float32, bfloat16 or float16 (samples, in_channels, *size), contiguous or copied
    the matrix   its parts (matrix.py): a row for every output channel, a column for every (input channel of the
                 group, kernel position)
    bias         of such a dtype too, (out_channels,), or None
    kernel_size, stride, padding, dilation   one number an axis; the padding is zeros on both sides
    groups       of channels
    relu         whether max(0, .) is taken of the result
    y            of the dtype of x; what is computed in float32 is rounded once

It runs the compiled kernel on a CPU and the twin elsewhere, under torch.compile and torch.export too. The gradients for
x and the bias are the twin's.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad

from prunecell import native
from prunecell.errors import OptionError
from prunecell.sparse.checked import check_memory, checked
from prunecell.sparse.convolve import Convolution
from prunecell.sparse.inputs import COMPUTED, check_operands, code_of
from prunecell.sparse.matrix import N_PARTS, N_TENSORS, Compressed, decompress, matrix_of, matrix_on
from prunecell.sparse.multiply import threads_for
from prunecell.sparse.packed import forms_of
from prunecell.sparse.registry import MATRIX, before_relu, constant, register, register_gradient

AXES = 3
LARGEST = 1 << 15  # kernel size, stride, padding or dilation
LARGEST_AXIS = 1 << 30  # elements along an axis of the input
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
INPUT_GRADIENTS: dict[int, Any] = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}

_KERNEL = "int[] kernel_size, int[] stride, int[] padding, int[] dilation, int groups"


# In what follows `rest` is the operator's arguments after the first: the parts of the matrix, then the others.


def _output_size(size: Sequence[int], kernel: Sequence[Sequence[int]]) -> list[int]:
    kernel_size, stride, padding, dilation = kernel
    return [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    ]


def _check_kernel(kernel: Sequence[Sequence[int]]) -> None:
    """Refuse kernel size, stride, padding and dilation that make no convolution.

    Raises:
        OptionError: one of them has not a number for every axis, or an illegal one.
    """
    kernel_size, stride, padding, dilation = map(tuple, kernel)
    named = f"kernel_size={kernel_size}, stride={stride}, padding={padding}, dilation={dilation}"
    n_axes = len(kernel_size)
    if not 1 <= n_axes <= AXES or any(len(numbers) != n_axes for numbers in kernel):
        raise OptionError(f"{named} are illegal: each must have one number an axis, for 1 to {AXES} axes")
    if min(*stride, *dilation, *kernel_size) < 1 or min(padding) < 0 or max(map(max, kernel)) > LARGEST:
        raise OptionError(
            f"{named} are illegal: padding must be in [0, {LARGEST}], the others must be in [1, {LARGEST}]"
        )


def _output_size_of_fitting(
    shape: Sequence[int], n_rows: int, n_columns: int, kernel: Sequence[Sequence[int]], groups: int
) -> list[int]:
    """The size of the output.

    Raises:
        OptionError: input, matrix and kernel do not fit together.
    """
    _check_kernel(kernel)
    kernel_size = tuple(kernel[0])
    n_axes, n_positions = len(kernel_size), math.prod(kernel_size)
    if len(shape) != n_axes + 2:
        raise OptionError(f"x must have {n_axes + 2} dimensions, not the shape {tuple(shape)}")
    if groups < 1 or n_rows < 1 or n_rows % groups or shape[1] * n_positions != n_columns * groups:
        raise OptionError(
            f"{shape[1]} channels in {groups} groups, under a kernel of {kernel_size}, "
            f"do not fit a matrix {n_rows} x {n_columns}"
        )
    if max(shape[1:]) > LARGEST_AXIS:
        raise OptionError(f"an input of {tuple(shape)} is too large: at most {LARGEST_AXIS} along an axis")
    out = _output_size(shape[2:], kernel)
    if min(out) < 1:
        raise OptionError(f"an input of {tuple(shape[2:])} is smaller than the kernel {kernel_size}")
    if min(shape[2:]) < 1 and shape[0] > 0:  # as torch has it, whatever the padding is
        raise OptionError(f"an input of {tuple(shape)} has samples without elements")
    return out


@functools.lru_cache(maxsize=256)
def geometry_of(
    shape: torch.Size,
    n_rows: int,
    n_columns: int,
    *kernel_and_groups: Any,  # noqa: ANN401 - see above
) -> tuple[native.Geometry, list[int]]:
    """The convolution as a kernel takes it, checked, and the size of its output.

    Raises:
        OptionError: input, matrix and kernel do not fit together.
    """
    *kernel, groups = kernel_and_groups
    out = _output_size_of_fitting(shape, n_rows, n_columns, kernel, groups)
    kernel_size, stride, padding, dilation = kernel

    def three(numbers: Sequence[int], missing: int = 1) -> tuple[int, ...]:
        return (missing,) * (AXES - len(kernel_size)) + tuple(numbers)

    geometry = native.Geometry(
        *(groups, shape[1], n_rows),
        *(three(shape[2:]), three(out), three(kernel_size)),
        *(three(stride), three(padding, missing=0), three(dilation)),
    )
    return geometry, out


def _on_cpu(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    library = native.library()
    if library is None:
        return convolution_twin(x, *rest)
    starts, indices, values, scales, n_columns, format_name, bias, *kernel, groups, relu = rest
    x = x.detach()  # an alias, which keeps the memory of now
    matrix, _memory = checked(starts, indices, values, scales, n_columns, format_name, bias)
    if x.dtype not in COMPUTED or not x.is_cpu:
        check_operands(x, rest[:N_TENSORS], bias)
    check_memory(x, "x")
    n_samples, n_rows = x.shape[0], matrix.n_rows
    geometry, out = geometry_of(x.shape, n_rows, matrix.n_columns, *map(tuple, kernel), groups)
    x = x.contiguous()
    y = x.new_empty(n_samples, n_rows, *out)
    n_threads = threads_for(matrix.n_entries, n_samples * math.prod(out))
    call = Convolution(library, matrix, geometry, n_samples, n_threads)
    forms = forms_of(matrix, (starts, indices, values, scales), library)
    if forms is not None and (blocked := call.blocked(forms)):
        where = code_of(x), x.data_ptr(), y.data_ptr(), n_samples
        blocked.run(library, (*matrix.epilogue, relu, *where), n_threads)
    elif n_samples:
        call.as_stored(x, y, relu=relu)
    return y


def _dense_weight(matrix: Compressed, kernel_size: Sequence[int]) -> Tensor:
    return decompress(matrix).view(matrix.n_rows, -1, *kernel_size)


def _checked_output_size(x: Tensor, *rest: Any) -> list[int]:  # noqa: ANN401 - see above
    starts, n_columns, (bias, *kernel, groups, _) = rest[0], rest[N_PARTS - 2], rest[N_PARTS:]
    check_operands(x, rest[:N_TENSORS], bias)
    return _output_size_of_fitting(x.shape, starts.shape[0] - 1, n_columns, kernel, groups)


def convolution_twin(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    """The same in plain torch: the weight is made dense."""
    _checked_output_size(x, *rest)
    bias, kernel_size, stride, padding, dilation, groups, relu = rest[N_PARTS:]
    weight = _dense_weight(matrix_on(x.device, *rest[:N_PARTS]), kernel_size)
    y = _convolved(x, weight, bias, stride, padding, dilation, groups)
    return y.relu() if relu else y


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, *others: Any) -> Tensor:  # noqa: ANN401 - see above
    """The convolution in float32, rounded to the dtype of x."""
    y: Tensor = CONVOLUTIONS[weight.ndim - 2](x.float(), weight, None if bias is None else bias.float(), *others)
    return y.to(x.dtype, copy=weight.ndim == 3)  # noqa: PLR2004 - of one axis it is a view, which nobody may write to


def _in_onnx(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    bias, kernel_size, *others, relu = rest[N_PARTS:]
    weight = constant(lambda: _dense_weight(matrix_of(*rest[:N_PARTS]), kernel_size))
    y = _convolved(x, weight, bias, *others)
    return y.relu() if relu else y


def _fake(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    return x.new_empty(x.shape[0], rest[0].shape[0] - 1, *_checked_output_size(x, *rest))


def _check_gradient(gradient: Tensor, input_shape: Sequence[int], *rest: Any) -> None:  # noqa: ANN401 - see above
    check_operands(gradient, rest[:N_TENSORS], None, name="gradient")
    n_rows, n_columns, (*kernel, groups) = rest[0].shape[0] - 1, rest[N_PARTS - 2], rest[N_PARTS:]
    shape = input_shape[0], n_rows, *_output_size_of_fitting(input_shape, n_rows, n_columns, kernel, groups)
    if gradient.shape != shape:
        raise OptionError(f"gradient must have the shape {shape}, not {tuple(gradient.shape)}")


def _gradient_twin(gradient: Tensor, input_shape: Sequence[int], *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    _check_gradient(gradient, input_shape, *rest)
    kernel_size, *others = rest[N_PARTS:]
    weight = _dense_weight(matrix_on(gradient.device, *rest[:N_PARTS]), kernel_size)
    result: Tensor = INPUT_GRADIENTS[len(kernel_size)](tuple(input_shape), weight, gradient.float(), *others)
    return result.to(gradient.dtype)


def _gradient_fake(gradient: Tensor, input_shape: Sequence[int], *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    _check_gradient(gradient, input_shape, *rest)
    return gradient.new_empty(input_shape)


sparse_convolution = register(
    f"sparse_convolution(Tensor x, {MATRIX}, Tensor? bias, {_KERNEL}, bool relu) -> Tensor",
    twin=convolution_twin,
    fake=_fake,
    compiled=_on_cpu,
    in_onnx=_in_onnx,
)
_input_gradient = register(
    f"sparse_convolution_input_gradient(Tensor gradient, SymInt[] input_shape, {MATRIX}, {_KERNEL}) -> Tensor",
    twin=_gradient_twin,
    fake=_gradient_fake,
)


# ---- autograd --------------------------------------------------------------------------------------------------------


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - torch's context
    x, starts, indices, values, scales, ctx.n_columns, ctx.format, bias, *ctx.kernel, ctx.relu = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.input_shape = x.shape
    ctx.save_for_backward(starts, indices, values, scales, output if ctx.relu else None)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
    *parts, output = ctx.saved_tensors
    gradient = before_relu(gradient, output)
    of_x, of_bias = (ctx.needs_input_grad[i] for i in (0, N_PARTS + 1))
    return (
        _input_gradient(gradient, ctx.input_shape, *parts, ctx.n_columns, ctx.format, *ctx.kernel) if of_x else None,
        *[None] * N_PARTS,
        gradient.transpose(0, 1).flatten(1).sum(1, dtype=torch.float32).to(ctx.bias_dtype) if of_bias else None,
        *[None] * (len(ctx.kernel) + 1),
    )


register_gradient("sparse_convolution", _backward, remember=_remember)
