"""ONNX's operators that make elements: of other types, around those that there are, or of numbers alone; in torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.dtypes import type_of
from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, ints, listed, number

LARGEST = 2**28
"""Elements at most of a tensor that an operator makes by a size alone: 1 GB of float32."""


def sized(sizes: Sequence[Any]) -> list[Any]:
    """These sizes, if a tensor of them is not absurdly large."""
    if math.prod([one for one in sizes if isinstance(one, int)]) > LARGEST:
        raise WrongValue(f"a tensor of {' x '.join(map(str, sizes))} is refused: more than {LARGEST} elements")
    return list(sizes)


def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(type_of(node["to"]))


def _cast_like(_: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def _constant_of_shape(node: Node, shape: Host | Tensor, device: torch.device | None) -> Tensor:
    value = 0.0 if node["value"] is None else number(node["value"])
    kind = dtype() if isinstance(value, float) else node["value"].kind
    sizes = sized(ints(shape))
    if value in (0, 1):  # torch's tracer knows no torch.full of truth values
        return (torch.ones if value else torch.zeros)(sizes, dtype=kind, device=device)
    return torch.full(sizes, value, dtype=kind, device=device)


def _expand(_: Node, x: Tensor, shape: Host | Tensor) -> Tensor:
    sizes = ints(shape)
    n = max(len(sizes), x.dim())
    mine = [1] * (n - x.dim()) + list(x.shape)
    asked = [1] * (n - len(sizes)) + sizes
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(mine, asked, strict=True)])


def _one_hot(node: Node, indices: Tensor, depth: Host | Tensor, values: Tensor) -> Tensor:
    n = sized(ints(depth))[0]
    places = torch.arange(n, device=indices.device)
    axis = node["axis"] + indices.dim() + 1 if node["axis"] < 0 else node["axis"]
    where = indices.long()
    where = torch.where(where < 0, where + n, where)
    hot = where.unsqueeze(axis) == places.reshape(-1, *(1,) * (indices.dim() - axis))
    return torch.where(hot, values[1], values[0])


def _pad(node: Node, x: Tensor, *given: Host | Tensor | None) -> Tensor:
    """Pads, the value and the axes are attributes at first and inputs later; negative pads cut off."""
    pads = listed(given, node["pads"]) or []
    value = node["value"] if len(given) < 2 or given[1] is None else number(given[1])  # noqa: PLR2004 - the second input
    axes = ints(given[2]) if len(given) > 2 and given[2] is not None else list(range(x.dim()))  # noqa: PLR2004
    if len(pads) != 2 * len(axes) or not all(-x.dim() <= axis < x.dim() for axis in axes):
        raise WrongValue(f"pads={pads} of axes {axes} is illegal: there must be two for each of {x.dim()} dimensions")
    ends = {axis % x.dim(): pair for axis, pair in zip(axes, zip(pads, pads[len(axes) :], strict=False), strict=True)}
    mode = node["mode"]
    if mode == "constant":
        flat = [pad for axis in reversed(range(x.dim())) for pad in ends.get(axis, (0, 0))]
        return F.pad(x, flat, value=value or 0)
    for axis, (before, after) in ends.items():
        if before or after:
            x = x.index_select(axis, _mirrored(x.shape[axis], before, after, mode, x.device))
    return x


def _mirrored(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """The places that stand along an axis that is padded by what is there."""
    places = torch.arange(-before, size + after, device=device)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places.remainder(size)
    if mode == "reflect" and size > 1:
        there = places.remainder(2 * (size - 1))
        return torch.minimum(there, 2 * (size - 1) - there)
    raise WrongValue(f"mode={mode!r} is illegal; legal: constant, edge, reflect of more than one element, wrap")


def _range(
    _: Node, start: Host | Tensor, limit: Host | Tensor, delta: Host | Tensor, device: torch.device | None
) -> Tensor:
    first, end, step = number(start), number(limit), number(delta)
    if step == 0:
        raise WrongValue("delta=0 is illegal")
    if isinstance(end, int | float):
        sized([max(0, math.ceil((end - first) / step))])
    kind = start.kind if isinstance(start, Host) else start.dtype
    kind = dtype() if kind.is_floating_point else kind
    return torch.arange(first, end, step, dtype=kind, device=device)


def _tile(_: Node, x: Tensor, repeats: Host | Tensor) -> Tensor:
    times = ints(repeats)
    if len(times) != x.dim():
        raise WrongValue(f"repeats={times} is illegal for {x.dim()} dimensions")
    return x.repeat(times)


def _trilu(node: Node, x: Tensor, *k: Host | Tensor | None) -> Tensor:
    diagonal = (listed(k, None) or [0])[0]
    return torch.triu(x, diagonal) if node["upper"] else torch.tril(x, diagonal)


OTHERS: Mapping[str, Operation] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Expand": _expand,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Tile": _tile,
    "Trilu": _trilu,
}

MAKING: Mapping[str, Operation] = {"ConstantOfShape": _constant_of_shape, "Range": _range}
"""Operators that make tensors of numbers alone; they take the device last."""
