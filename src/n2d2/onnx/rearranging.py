"""ONNX's operators that put the elements of a tensor into other places, in torch."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, as_slice, ints, listed, sliced


def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node["axis"])


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


def _top_k(node: Node, x: Tensor, *k: Host | Tensor) -> tuple[Tensor, Tensor]:
    n = ints(k[0])[0] if k else node["k"]
    found = torch.topk(x, n, node["axis"], node["largest"] in (1, None), node["sorted"] in (1, None))
    return found.values, found.indices


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(list(reversed(range(x.dim()))) if node["perm"] is None else node["perm"])


REARRANGING: Mapping[str, Operation] = {
    "Concat": _concat,
    "CumSum": _cumulated,
    "DepthToSpace": _depth_to_space,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
