"""ONNX's operators that put elements into other places or other types, in torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, as_slice, ints, sliced

LARGEST = 2**28
"""Elements at most of a tensor that an operator makes by a size alone: 1 GB of float32."""

TYPES: dict[int, torch.dtype] = {
    2: torch.uint8,
    3: torch.int8,
    4: torch.int32,  # uint16
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    12: torch.int64,  # uint32
    13: torch.int64,  # uint64
}
"""ONNX's number of a type -> torch's. Floats of all sizes are N2D2's `default_datatype`, as the weights are."""

FLOATS = (1, 10, 11, 16)


def type_of(number: int) -> torch.dtype:
    """The torch type of ONNX's number of a type."""
    if number not in FLOATS and number not in TYPES:
        raise WrongValue(f"ONNX's type {number} is refused: numbers and truth values can be computed with")
    return dtype() if number in FLOATS else TYPES[number]


def sized(sizes: Sequence[Any]) -> list[Any]:
    """These sizes, if a tensor of them is not absurdly large."""
    if math.prod([one for one in sizes if isinstance(one, int)]) > LARGEST:
        raise WrongValue(f"a tensor of {' x '.join(map(str, sizes))} is refused: more than {LARGEST} elements")
    return list(sizes)


def number(value: Host | Tensor) -> Any:  # noqa: ANN401 - or what stands for it
    """The only number of a value."""
    return value.item() if isinstance(value, Tensor) else value.numbers[0]


def listed(given: Sequence[Host | Tensor | None], attribute: Sequence[int] | None) -> list[Any] | None:
    """What was an attribute at first and is the first of the inputs later; None where it is not given."""
    first = given[0] if given else None
    return ints(first) if first is not None else None if attribute is None else list(attribute)


def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(type_of(node["to"]))


def _cast_like(_: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node["axis"])


def _constant_of_shape(node: Node, shape: Host | Tensor, device: torch.device | None) -> Tensor:
    value = 0.0 if node["value"] is None else number(node["value"])
    sizes = sized(ints(shape))
    kind = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else dtype()
    if value in (0, 1):  # torch's tracer knows no torch.full of truth values
        return (torch.ones if value else torch.zeros)(sizes, dtype=kind, device=device)
    return torch.full(sizes, value, dtype=kind, device=device)


def _cumulated(node: Node, x: Tensor, axis: Host | Tensor) -> Tensor:
    along = ints(axis)[0]
    turned = x.flip(along) if node["reverse"] else x
    total = turned.cumsum(along)
    if node["exclusive"]:
        total = total - turned
    return total.flip(along) if node["reverse"] else total


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, *sizes = x.shape
    block = node["blocksize"]
    if node["mode"] == "CRD":
        return F.pixel_shuffle(x, block)
    y = x.reshape(n, block, block, c // block**2, *sizes)
    return y.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, sizes[0] * block, sizes[1] * block)


def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    block = node["blocksize"]
    y = x.reshape(n, c, height // block, block, width // block, block)
    return y.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, height // block, width // block)


def _expand(_: Node, x: Tensor, shape: Host | Tensor) -> Tensor:
    sizes = ints(shape)
    n = max(len(sizes), x.dim())
    mine = [1] * (n - x.dim()) + list(x.shape)
    asked = [1] * (n - len(sizes)) + sizes
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(mine, asked, strict=True)])


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node["axis"] + x.dim() if node["axis"] < 0 else node["axis"]
    if axis == 1 and x.dim() > 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node["axis"] + x.dim() if node["axis"] < 0 else node["axis"]
    if not 0 <= axis < x.dim():
        raise WrongValue(f"axis={node['axis']} is illegal for {x.dim()} dimensions")
    size = x.shape[axis]
    where = indices.long()
    where = torch.where(where < 0, where + size, where)
    return x.index_select(axis, where.reshape(-1)).reshape((*x.shape[:axis], *where.shape, *x.shape[axis + 1 :]))


def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    size = x.shape[node["axis"]]
    where = indices.long()
    return x.gather(node["axis"], torch.where(where < 0, where + size, where))


def _one_hot(node: Node, indices: Tensor, depth: Host | Tensor, values: Tensor) -> Tensor:
    n = sized(ints(depth))[0]
    places = torch.arange(n, device=indices.device)
    axis = node["axis"] + indices.dim() + 1 if node["axis"] < 0 else node["axis"]
    hot = torch.remainder(indices.long(), n).unsqueeze(axis) == places.reshape(-1, *(1,) * (indices.dim() - axis))
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
    kind = dtype() if any(isinstance(one, float) for one in (first, end, step)) else torch.int64
    return torch.arange(first, end, step, dtype=kind, device=device)


def _reshape(node: Node, x: Tensor, *shape: Host | Tensor) -> Tensor:
    asked = listed(shape, node["shape"]) or []
    if not node["allowzero"]:
        if any(isinstance(n, int) and n == 0 for n in asked[x.dim() :]):
            raise WrongValue(f"shape={asked} is illegal: its 0 stands for a size that {x.dim()} dimensions do not have")
        asked = [x.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(asked)]
    return x.reshape(asked)


def _slice(node: Node, x: Tensor, *given: Host | Tensor | None) -> Tensor:
    for start, end, axis, step in zip(*sliced(node, given), strict=True):
        if not step:
            raise WrongValue("steps=0 is illegal")
        size = x.shape[axis]
        cut = as_slice(start, end, step, size)
        if step > 0:
            x = x[(*(slice(None),) * (axis % x.dim()), cut)]
        else:
            places = range(*cut.indices(size)) or range(0)
            x = x.index_select(axis, torch.arange(places.start, places.stop, places.step, device=x.device))
    return x


def _split(node: Node, x: Tensor, *sizes: Host | Tensor | None) -> tuple[Tensor, ...]:
    asked, axis, n = listed(sizes, node["split"]), node["axis"], len(node.outputs)
    if asked is None:
        each = -(-x.shape[axis] // n)
        asked = [min(each, x.shape[axis] - i * each) for i in range(n)]
    return torch.split(x, asked, axis)


def _squeeze(node: Node, x: Tensor, *axes: Host | Tensor) -> Tensor:
    over = listed(axes, node["axes"])
    if over is None:
        return x.squeeze()
    if any(isinstance(x.shape[axis], int) and x.shape[axis] != 1 for axis in over):
        raise WrongValue(f"axes={over} is illegal for sizes {tuple(x.shape)}: only a size of 1 is squeezed")
    return x.squeeze(tuple(over))


def _unsqueeze(node: Node, x: Tensor, *axes: Host | Tensor) -> Tensor:
    over = listed(axes, node["axes"]) or []
    for axis in sorted(axis + x.dim() + len(over) if axis < 0 else axis for axis in over):
        x = x.unsqueeze(axis)
    return x


def _tile(_: Node, x: Tensor, repeats: Host | Tensor) -> Tensor:
    times = ints(repeats)
    if len(times) != x.dim():
        raise WrongValue(f"repeats={times} is illegal for {x.dim()} dimensions")
    return x.repeat(times)


def _top_k(node: Node, x: Tensor, *k: Host | Tensor) -> tuple[Tensor, Tensor]:
    n = ints(k[0])[0] if k else node["k"]
    found = torch.topk(x, n, node["axis"], node["largest"] in (1, None), node["sorted"] in (1, None))
    return found.values, found.indices


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(list(reversed(range(x.dim()))) if node["perm"] is None else node["perm"])


def _trilu(node: Node, x: Tensor, *k: Host | Tensor | None) -> Tensor:
    diagonal = (listed(k, None) or [0])[0]
    return torch.triu(x, diagonal) if node["upper"] else torch.tril(x, diagonal)


REARRANGING: Mapping[str, Operation] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _concat,
    "CumSum": _cumulated,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}

MAKING: Mapping[str, Operation] = {"ConstantOfShape": _constant_of_shape, "Range": _range}
"""Operators that make tensors of numbers alone; they take the device last."""
