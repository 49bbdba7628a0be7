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
    *(torch.clamp, "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "abs", "square", "clamp", "clamp_"),
}
"""Modules, functions and methods of one tensor that compute each number for itself, the same in training."""

COPIES: set[object] = {torch.clone, "clone", "contiguous"}
"""What gives the same numbers, perhaps in another order in memory."""

KEEP_ZERO: set[object] = {
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
}
"""What leaves the zeros of a unit zeros, and may change its other numbers."""

POOLS: dict[object, int] = {
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d), 1),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d), 2),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d), 3),
    **dict.fromkeys((F.max_pool1d, F.avg_pool1d, F.adaptive_max_pool1d, F.adaptive_avg_pool1d), 1),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d), 2),
    **dict.fromkeys((F.max_pool3d, F.avg_pool3d, F.adaptive_max_pool3d, F.adaptive_avg_pool3d), 3),
    **dict.fromkeys((torch.max_pool1d, torch.avg_pool1d, torch.adaptive_avg_pool1d), 1),
    **dict.fromkeys((torch.max_pool2d,), 2),
    **dict.fromkeys((torch.max_pool3d,), 3),
}
"""What pools positions -> how many dimensions these are, the last ones, whatever comes before.

Average pools count padding as zeros, so only zeros are kept.
"""

FLATTEN: set[object] = {nn.Flatten, torch.flatten, "flatten"}
MEAN: set[object] = {torch.mean, "mean"}
VIEW: set[object] = {"view", "reshape", torch.reshape}
CAT: set[object] = {torch.cat, torch.concat}
SUMS: set[object] = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, operator.imul, "add", "add_", "mul"),
    *("sub", "div", torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.minimum),
}
"""Operations of two tensors, number by number; one of fewer dimensions is repeated."""

MIXING: set[object] = {
    *(nn.PReLU, nn.RReLU, nn.Softmax, nn.LogSoftmax, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.AlphaDropout, nn.Upsample),
    *(F.prelu, F.rrelu, F.softmax, F.log_softmax, F.layer_norm, F.group_norm, F.local_response_norm, F.normalize),
    *(F.interpolate, F.batch_norm, F.instance_norm, torch.softmax, torch.log_softmax, "softmax", "log_softmax"),
}
"""Beside the tables above: what gives a tensor of as many dimensions, the batch where it was."""


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


def bound(node: fx.Node, **defaults: Any) -> dict[str, Any] | None:  # noqa: ANN401 - of several types
    """The arguments of an operation behind its tensor, by name.

    Args:
        node: calls a function or a method.
        defaults: of all of them, in order.

    Returns:
        None where others are given.
    """
    given = node.args[1:]
    by_place = dict(zip(defaults, given, strict=False))
    if len(given) > len(defaults) or node.kwargs.keys() - (defaults.keys() - by_place.keys()):
        return None
    return defaults | by_place | node.kwargs


def flattened(node: fx.Node, module: nn.Module | None) -> tuple[int, int] | None:
    """The first and the last dimension that an operation of `FLATTEN` makes one of; None if that is not plain."""
    if isinstance(module, nn.Flatten):
        return module.start_dim, module.end_dim
    given = bound(node, start_dim=0, end_dim=-1) or {}
    dims = tuple(given.values())
    return (dims[0], dims[1]) if dims and all(type(d) is int for d in dims) else None


def averaged(node: fx.Node) -> tuple[tuple[int, ...], bool] | None:
    """The dimensions of a `MEAN`, and whether they stay with one number each; None if that is not plain."""
    given = bound(node, dim=None, keepdim=False)
    dims = listed((given["dim"],)) if given else ()
    if not given or not dims or type(given["keepdim"]) is not bool or not all(type(d) is int for d in dims):
        return None
    return dims, given["keepdim"]


def viewed(node: fx.Node) -> tuple[Any, ...] | None:
    """The sizes, numbers or nodes, that an operation of `VIEW` is given one by one; None if it is given others."""
    sizes = () if node.kwargs else listed(node.args[1:])
    alone = len(sizes) == 1 and isinstance(sizes[0], fx.Node)  # it may be a shape
    return sizes if sizes and not alone and all(type(s) is int or isinstance(s, fx.Node) for s in sizes) else None


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


def is_changed(module: nn.Module) -> bool:
    """Whether a call of it is more than the forward of its class."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))  # noqa: SLF001
