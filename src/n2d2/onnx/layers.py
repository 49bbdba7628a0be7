"""ONNX's convolutions, pools, products of matrices and normalizations, in torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host
from n2d2.onnx.windows import Pads, Windows

CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVOLVE_BACK: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
LARGEST: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEAN: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def of_dims(table: Mapping[int, Callable[..., Tensor]], n_dims: int) -> Callable[..., Tensor]:
    """What a table has for this many dimensions."""
    if n_dims not in table:
        raise WrongValue(f"{n_dims} dimensions of a window are illegal; legal: {', '.join(map(str, table))}")
    return table[n_dims]


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the last dimensions, (before, after) of each."""
    flat = [pad for pair in reversed(pads) for pad in pair]
    return F.pad(x, flat, value=value) if any(isinstance(pad, torch.SymInt) or pad for pad in flat) else x


# ---- convolutions


def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    windows = Windows.of(node, node["kernel_shape"] or weight.shape[2:])
    if windows.sizes != tuple(weight.shape[2:]):
        raise WrongValue(f"kernel_shape={windows.sizes} is illegal for weights of {tuple(weight.shape)}")
    x = padded(x, windows.padding(x.shape[2:]))
    convolve = of_dims(CONVOLVE, len(windows.sizes))
    return convolve(x, weight, bias, windows.strides, 0, windows.dilations, node["group"])


def _conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    windows = Windows.of(node, node["kernel_shape"] or weight.shape[2:])
    convolve = of_dims(CONVOLVE_BACK, len(windows.sizes))
    whole = convolve(x, weight, None, windows.strides, 0, 0, node["group"], windows.dilations)
    y = padded(whole, cut(node, windows, whole.shape[2:], x.shape[2:]))
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.dim() - 2))


def cut(node: Node, windows: Windows, whole: Sequence[Any], came: Sequence[Any]) -> Pads:
    """What is cut off the whole output of a transposed convolution, as pads below 0.

    Args:
        node: has `output_padding`, which is added behind, and perhaps `output_shape`.
        windows: its windows.
        whole: sizes of the output of all inputs, none of it cut off.
        came: sizes of the input.
    """
    more = node["output_padding"] or (0,) * len(whole)
    asked = node["output_shape"] and node["output_shape"][-len(whole) :]
    if not asked and windows.pads is not None:
        return [(-before, n - after) for (before, after), n in zip(windows.pads, more, strict=True)]
    wanted = asked or [size * stride for size, stride in zip(came, windows.strides, strict=True)]
    totals = [size + n - want for size, n, want in zip(whole, more, wanted, strict=True)]
    before = [total - total // 2 if windows.auto != "SAME_UPPER" else total // 2 for total in totals]
    return [(-one, n - (total - one)) for one, n, total in zip(before, more, totals, strict=True)]


# ---- pools


def _max_pool(node: Node, x: Tensor) -> Tensor:
    windows = Windows.of(node, node["kernel_shape"])
    pool = of_dims(LARGEST, len(windows.sizes))
    even = windows.even
    if even is not None and all(2 * pad <= size for pad, size in zip(even, windows.sizes, strict=True)):
        return pool(x, windows.sizes, windows.strides, even, windows.dilations)
    x = padded(x, windows.covered(x.shape[2:]), -math.inf)
    return pool(x, windows.sizes, windows.strides, 0, windows.dilations)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    windows, count_pads = Windows.of(node, node["kernel_shape"]), bool(node["count_include_pad"])
    even, apart = windows.even, any(dilation > 1 for dilation in windows.dilations)
    if even is not None and not apart and all(2 * pad <= n for pad, n in zip(even, windows.sizes, strict=True)):
        pool = of_dims(MEAN, len(windows.sizes))
        return pool(x, windows.sizes, windows.strides, even, count_include_pad=count_pads)
    asked, covered = windows.padding(x.shape[2:]), windows.covered(x.shape[2:])
    ones = padded(torch.ones_like(x[:1, :1]), asked, float(count_pads))
    missing = [(0, there[1] - want[1]) for there, want in zip(covered, asked, strict=True)]
    return _sums(padded(x, covered), windows) / _sums(padded(ones, missing), windows)


def _lp_pool(node: Node, x: Tensor) -> Tensor:
    windows, p = Windows.of(node, node["kernel_shape"]), node["p"]
    return torch.pow(_sums(padded(x.abs() ** p, windows.covered(x.shape[2:])), windows), 1 / p)


def _sums(x: Tensor, windows: Windows) -> Tensor:
    """The sum of each window that is full, by a convolution with ones."""
    channels = x.shape[1]
    ones = torch.ones(channels, 1, *windows.sizes, dtype=x.dtype, device=x.device)
    return of_dims(CONVOLVE, len(windows.sizes))(x, ones, None, windows.strides, 0, windows.dilations, channels)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


# ---- products


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (a.T if node["transA"] else a), (b.T if node["transB"] else b)
    product = a @ b
    product = product if node["alpha"] == 1 else node["alpha"] * product
    return product if c is None else product + (c if node["beta"] == 1 else node["beta"] * c)


def _einsum(node: Node, *inputs: Tensor) -> Tensor:
    return torch.einsum(node["equation"], *inputs)


# ---- normalizations


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=node["epsilon"])


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, _spatial(x), correction=0, keepdim=True)
    shape = (-1, *(1,) * (x.dim() - 2))
    return (x - mean) / torch.sqrt(variance + node["epsilon"]) * scale.reshape(shape) + bias.reshape(shape)


def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = list(range(node["axis"] % x.dim(), x.dim()))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + node["epsilon"]) * scale
    return y if bias is None else y + bias


def _rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node["axis"] % x.dim(), x.dim()))
    return x / torch.sqrt(x.square().mean(axes, keepdim=True) + node["epsilon"]) * scale


def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before version 21, scale and bias are one for each group, then one for each channel."""
    groups, channels = node["num_groups"], x.shape[1]
    if scale.shape[0] != channels:
        scale, bias = (one.repeat_interleave(channels // groups) for one in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node["epsilon"])


def _lp_norm(node: Node, x: Tensor) -> Tensor:
    norm = x.norm(node["p"], node["axis"], keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


def _mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, node["axes"], correction=0, keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-9)


def _local_response_norm(node: Node, x: Tensor) -> Tensor:
    """Of an even number of channels, one more stands behind than before (torch has it the other way round)."""
    size = node["size"]
    squares = x.square().flatten(2).transpose(1, 2)
    squares = F.pad(squares, ((size - 1) // 2, size // 2)).unfold(2, size, 1).sum(-1)
    squares = squares.transpose(1, 2).reshape(x.shape)
    return x / (node["bias"] + node["alpha"] / size * squares) ** node["beta"]  # type: ignore[no-any-return]


def along(node: Node, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function along the axis of a Softmax or its kin; before version 13, along all axes from there on."""
    if node.version >= 13:  # noqa: PLR2004 - a version
        return function(x, node["axis"])
    axis = node["axis"] % x.dim()
    rows = x.reshape(*x.shape[:axis], -1) if axis else x.reshape(-1)
    return function(rows, -1).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


def _dropout(node: Node, x: Tensor, *_: Tensor | Host | None) -> tuple[Tensor, Tensor]:  # noqa: ARG001 - in testing
    return x, torch.ones_like(x, dtype=torch.bool)


LAYERS: Mapping[str, Operation] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(_spatial(x), keepdim=True),
    "GlobalLpPool": lambda node, x: (x.abs() ** node["p"]).sum(_spatial(x), keepdim=True) ** (1 / node["p"]),
    "GlobalMaxPool": lambda _, x: x.amax(_spatial(x), keepdim=True),
    "GroupNormalization": _group_norm,
    "Hardmax": lambda node, x: along(node, x, _hardmax),
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": lambda node, x: along(node, x, torch.log_softmax),
    "LpNormalization": _lp_norm,
    "LpPool": _lp_pool,
    "MatMul": lambda _, a, b: torch.matmul(a, b),
    "MaxPool": _max_pool,
    "MeanVarianceNormalization": _mean_variance_norm,
    "RMSNormalization": _rms_norm,
    "Softmax": lambda node, x: along(node, x, torch.softmax),
}
