"""The operator `prunecell::sparse_convolution`: a convolution of 1 to 3 axes with a compressed weight.

    x            float32 (samples, in_channels, *size), contiguous or copied
    the matrix   its five parts (checked.py): a row for every output channel, a column for every (input channel of the
                 group, kernel position)
    bias         float32 (out_channels,) or None
    kernel_size, stride, padding, dilation   one number an axis; the padding is zeros on both sides
    groups       of channels
    relu         whether max(0, .) is taken of the result

It runs the compiled kernel on a CPU and the twin elsewhere, under torch.compile and torch.export too. The gradient for
x is the twin's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad

from prunecell import kernels
from prunecell.errors import OptionError
from prunecell.sparse.checked import N_PARTS, address_of_bias, checked_argument, matrix_of
from prunecell.sparse.formats import Compressed, decompress
from prunecell.sparse.linear_op import ENOUGH_WORK
from prunecell.sparse.registry import MATRIX, register, register_gradient

AXES = 3
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
INPUT_GRADIENTS: dict[int, Any] = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}

_KERNEL = "int[] kernel_size, int[] stride, int[] padding, int[] dilation, int groups"


# In what follows `rest` is the operator's arguments after the first: the five parts of the matrix, then the others.


def _output_size(size: Sequence[int], kernel: Sequence[Sequence[int]]) -> list[int]:
    kernel_size, stride, padding, dilation = kernel
    return [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    ]


def _empty_output(x: Tensor, n_rows: int, kernel: Sequence[Sequence[int]]) -> Tensor:
    return x.new_empty(len(x), n_rows, *_output_size(x.shape[2:], kernel))


def _geometry(x: Tensor, y: Tensor, kernel: Sequence[Sequence[int]], groups: int) -> kernels.Geometry:
    def three(numbers: Sequence[int], missing: int = 1) -> tuple[int, ...]:
        return (missing,) * (AXES - len(numbers)) + tuple(numbers)

    kernel_size, stride, padding, dilation = kernel
    return kernels.Geometry(
        *(groups, x.shape[1], y.shape[1]),
        *(three(x.shape[2:]), three(y.shape[2:]), three(kernel_size), three(stride)),
        *(three(padding, missing=0), three(dilation)),
    )


def _check(x: Tensor, matrix: kernels.Matrix, kernel: Sequence[Sequence[int]], groups: int) -> None:
    kernel_size, stride, padding, dilation = kernel
    n_axes = len(kernel_size)
    n_positions = torch.Size(kernel_size).numel()
    if x.dtype != torch.float32 or x.ndim != n_axes + 2:
        raise OptionError(f"x must be float32 of {n_axes + 2} dimensions, not {x.dtype} of shape {tuple(x.shape)}")
    if groups < 1 or matrix.n_rows % groups or x.shape[1] * n_positions != matrix.n_columns * groups:
        raise OptionError(
            f"{x.shape[1]} channels in {groups} groups, under a kernel of {tuple(kernel_size)}, "
            f"do not fit a matrix {matrix.n_rows} x {matrix.n_columns}"
        )
    if min(*stride, *dilation, *kernel_size) < 1 or min(padding) < 0 or max(map(max, kernel)) >= 1 << 15:
        raise OptionError(f"kernel size, stride, padding, dilation {kernel} are illegal")
    if min(_output_size(x.shape[2:], kernel)) < 1:
        raise OptionError(f"an input of {tuple(x.shape[2:])} is smaller than the kernel {tuple(kernel_size)}")


def _on_cpu(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    library = kernels.library()
    if library is None:
        return convolution_twin(x, *rest)
    bias, *kernel, groups, relu = rest[N_PARTS:]
    matrix = checked_argument(*rest[:N_PARTS])
    _check(x, matrix, kernel, groups)
    bias_address = address_of_bias(bias, matrix.n_rows)
    x = x.contiguous()
    y = _empty_output(x, matrix.n_rows, kernel)
    geometry = _geometry(x, y, kernel, groups)
    n_samples, n_rows = y.shape[:2]

    def compute(samples: tuple[int, int], rows: tuple[int, int]) -> None:
        addresses = x.data_ptr(), y.data_ptr()
        if library.pc_convolution(matrix, bias_address, relu, geometry, *addresses, *samples, *rows):
            raise MemoryError(f"no memory to convolve an input of shape {tuple(x.shape)}")

    work = matrix.n_entries * (y[:, 0].numel() + 15) // 16
    n_threads = kernels.n_threads() if work > ENOUGH_WORK else 1
    if n_samples >= n_threads:
        kernels.in_parallel(lambda *samples: compute(samples, (0, n_rows)), n_samples, n_threads=n_threads)
    else:
        kernels.in_parallel(lambda *rows: compute((0, n_samples), rows), n_rows, n_threads=n_threads)
    return y


def _dense_weight(matrix: Compressed, kernel_size: Sequence[int]) -> Tensor:
    return decompress(matrix).view(matrix.n_rows, -1, *kernel_size)


def convolution_twin(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    """The same in plain torch: the weight is made dense."""
    bias, kernel_size, stride, padding, dilation, groups, relu = rest[N_PARTS:]
    weight = _dense_weight(matrix_of(*rest[:N_PARTS]), kernel_size)
    y = CONVOLUTIONS[len(kernel_size)](x, weight, bias, stride, padding, dilation, groups)
    return y.relu() if relu else y


def _fake(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    return _empty_output(x, len(rest[0]) - 1, rest[N_PARTS + 1 : N_PARTS + 5])


def _gradient_twin(gradient: Tensor, input_shape: Sequence[int], *rest: Any) -> Tensor:  # noqa: ANN401 - see above
    kernel_size, *others = rest[N_PARTS:]
    weight = _dense_weight(matrix_of(*rest[:N_PARTS]), kernel_size)
    result: Tensor = INPUT_GRADIENTS[len(kernel_size)](tuple(input_shape), weight, gradient, *others)
    return result


def _gradient_fake(gradient: Tensor, input_shape: Sequence[int], *_rest: Any) -> Tensor:  # noqa: ANN401 - see above
    return gradient.new_empty(input_shape)


sparse_convolution = register(
    f"sparse_convolution(Tensor x, {MATRIX}, Tensor? bias, {_KERNEL}, bool relu) -> Tensor",
    twin=convolution_twin,
    fake=_fake,
    compiled=_on_cpu,
)
_input_gradient = register(
    f"sparse_convolution_input_gradient(Tensor gradient, SymInt[] input_shape, {MATRIX}, {_KERNEL}) -> Tensor",
    twin=_gradient_twin,
    fake=_gradient_fake,
)


# ---- autograd --------------------------------------------------------------------------------------------------------


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - torch's context
    x, starts, indices, values, scales, ctx.n_columns, _, *ctx.kernel, ctx.relu = inputs
    ctx.input_shape = x.shape
    ctx.save_for_backward(starts, indices, values, scales, output if ctx.relu else None)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's context
    *parts, output = ctx.saved_tensors
    if ctx.relu:
        gradient = gradient * (output > 0)
    return _input_gradient(gradient, ctx.input_shape, *parts, ctx.n_columns, *ctx.kernel), *[None] * 12


register_gradient("sparse_convolution", _backward, remember=_remember)
