"""ONNX's operators that make one value of many, in torch."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, listed

Reduction = Callable[[Tensor, list[int], bool], Tensor]
"""(x, axes, whether these stay as sizes of 1) -> the values."""


def _reduce(function: Reduction) -> Operation:
    """Axes are an attribute at first and an input later; without them it is all, or none if the file says so."""

    def reduce_(node: Node, x: Tensor, *axes: Host | Tensor | None) -> Tensor:
        over = listed(axes, node["axes"])
        if not over:
            if node["noop_with_empty_axes"]:
                return x
            over = list(range(x.dim()))
        return function(x, over, bool(node["keepdims"]))

    return reduce_


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - the form of the table
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _largest(node: Node, x: Tensor) -> Tensor:
    axis, size = node["axis"], x.shape[node["axis"]]
    if node["select_last_index"]:
        from_behind: Tensor = x.flip(axis).argmax(axis, keepdim=bool(node["keepdims"]))
        return torch.sub(size - 1, from_behind)
    return x.argmax(axis, keepdim=bool(node["keepdims"]))


def _smallest(node: Node, x: Tensor) -> Tensor:
    return _largest(node, -x)


REDUCTIONS: Mapping[str, Operation] = {
    "ArgMax": _largest,
    "ArgMin": _smallest,
    "ReduceL1": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype)),
    "ReduceL2": _reduce(lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype).sqrt()),
    "ReduceLogSum": _reduce(lambda x, axes, keep: x.sum(axes, keep).log()),
    "ReduceLogSumExp": _reduce(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype)),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype)),
}
