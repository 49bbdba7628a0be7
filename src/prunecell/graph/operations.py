"""What operations of a graph do to the units that pass them.

The tables hold classes of modules, functions, and names of methods.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

ELEMENTWISE: set[object] = {
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Softsign, nn.LogSigmoid, nn.Sigmoid, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
    *(F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.softsign),
    *(F.logsigmoid, F.sigmoid, F.tanh, F.tanhshrink, F.softshrink, F.hardshrink, F.threshold, F.hardtanh),
    *(F.hardsigmoid, F.hardswish, torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.abs, torch.square),
    *(torch.clamp, torch.clone),
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "abs", "square", "clamp", "clamp_", "clone"),
    "contiguous",
}
"""Modules, functions and methods of one tensor that compute each number for itself, the same in training."""

KEEP_ZERO: set[object] = {
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
}
"""What leaves the zeros of a unit zeros, and may change its other numbers."""

POOLS: set[object] = {
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, torch.avg_pool1d),
    *(torch.adaptive_avg_pool1d, torch.adaptive_max_pool1d),
}
"""What pools the positions of each channel for itself. Average pools count padding as zeros, so only zeros are kept."""

FLATTEN: set[object] = {nn.Flatten, torch.flatten, "flatten"}
MEAN: set[object] = {torch.mean, "mean"}
VIEW: set[object] = {"view", "reshape", torch.reshape}


def is_size(node: fx.Node) -> bool:
    """Whether a node gives the shape of a tensor, or numbers of it."""
    if node.op == "call_method":
        return node.target in {"size", "dim", "numel"}
    return node.op == "call_function" and node.target is getattr and node.args[1] in {"shape", "ndim"}


def is_batch_of(size: object, node: object) -> bool:
    """Whether a number is `node.size(0)` or `node.shape[0]`."""
    if not isinstance(size, fx.Node):
        return False
    if size.op == "call_method":
        return size.target == "size" and size.args == (node, 0)
    taken = size.args[0] if size.target is operator.getitem and size.args[1] == 0 else None
    return isinstance(taken, fx.Node) and is_size(taken) and taken.args[0] is node


def gives_indices(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a pool gives a second tensor."""
    return bool(getattr(module, "return_indices", False) or node.kwargs.get("return_indices", False))


def function_of(node: fx.Node) -> Callable[[Tensor], Tensor]:
    """The operation of a node, as a function of its tensor alone."""
    rest, named = node.args[1:], node.kwargs
    if node.op == "call_method":
        return lambda x: getattr(x, str(node.target))(*rest, **named)
    target: Any = node.target
    return lambda x: target(x, *rest, **named)


def called(node: fx.Node) -> str:
    """What a node is called in a message."""
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def what_of(node: fx.Node, module: nn.Module | None) -> object:
    """What the tables of this file call an operation: a class, a function, or the name of a method."""
    return node.target if module is None else type(module)


def listed(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes or dimensions that were given one by one, or as one list."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an operation writes to the tensor that it takes."""
    named = called(node).endswith("_") and module is None
    return named or bool(getattr(module, "inplace", False) or node.kwargs.get("inplace", False))
