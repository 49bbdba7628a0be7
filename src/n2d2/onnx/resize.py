"""ONNX's Resize and Upsample: values between the elements of an input, one axis after another."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue, check_choice
from n2d2.onnx.elementwise import Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, ints, is_short, rounded, stands_for_one, to_host

Sizes = tuple[Any, Any, float]
"""Of one axis: how many elements there are, how many there shall be, and the scale between them."""

LARGEST = 2**31
"""A scale is smaller."""

COORDINATES: dict[str, Callable[[Tensor, Sizes], Tensor]] = {
    "half_pixel": lambda i, s: (i + 0.5) / s[2] - 0.5,
    "half_pixel_symmetric": lambda i, s: s[0] / 2 * (1 - s[1] / (s[2] * s[0])) + (i + 0.5) / s[2] - 0.5,
    "pytorch_half_pixel": lambda i, s: (i + 0.5) / s[2] - 0.5 if s[1] > 1 else 0 * i,
    "align_corners": lambda i, s: i * (s[0] - 1) / (s[1] - 1) if s[1] > 1 else 0 * i,
    "asymmetric": lambda i, s: i / s[2],
    "tf_half_pixel_for_nn": lambda i, s: (i + 0.5) / s[2],
}
"""ONNX's `coordinate_transformation_mode` -> the place in the input of each element of the output."""

NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: (x - 0.5).ceil(),
    "round_prefer_ceil": lambda x: (x + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _linear(node: Node, part: Tensor) -> list[Tensor]:  # noqa: ARG001 - the form of the table
    return [1 - part, part]


def _cubic(node: Node, part: Tensor) -> list[Tensor]:
    """Weights of the two elements before and the two behind (Keys, 1981, "Cubic convolution interpolation")."""
    a: float = node["cubic_coeff_a"]

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


BETWEEN: dict[str, Callable[[Node, Tensor], list[Tensor]]] = {"linear": _linear, "cubic": _cubic}
"""ONNX's `mode` -> the weights of the elements around a place that lies `part` behind one of them."""


def _resize(node: Node, x: Tensor, *given: Host | Tensor | None) -> Tensor:
    scales, sizes = [*given, None, None, None][1:3] if node.version >= 11 else (given[0], None)  # noqa: PLR2004 - a version
    axes = list(range(x.dim())) if node["axes"] is None else [axis % x.dim() for axis in node["axes"]]
    for axis, one in zip(axes, _asked(node, x, axes, scales, sizes), strict=True):
        x = _along(node, x, axis, one)
    return x


def _upsample(node: Node, x: Tensor, *scales: Host | Tensor) -> Tensor:
    """Upsample is what Resize was at first."""
    asked = _asked(node, x, range(x.dim()), scales[0] if scales else node["scales"], None)
    for axis, one in enumerate(asked):
        x = _along(node, x, axis, one)
    return x


def _asked(
    node: Node,
    x: Tensor,
    axes: Sequence[int],
    scales: Host | Tensor | Sequence[float] | None,
    sizes: Host | Tensor | None,
) -> list[Sizes]:
    """What each axis becomes, by scales or by sizes."""
    before = [x.shape[axis] for axis in axes]
    factors = [] if scales is None else _numbers(scales)
    after = [] if sizes is None else ints(sizes)
    if len(after or factors) != len(before):
        raise WrongValue(f"{len(after or factors)} scales or sizes are illegal: there must be one for each of {axes}")
    if not after:
        if not all(0 < factor < LARGEST for factor in factors):
            raise WrongValue(f"scales={factors} is illegal: they must be > 0 and < {LARGEST}")
        after = [
            size if factor == 1 else math.floor(_times(size, factor))
            for size, factor in zip(before, factors, strict=True)
        ]
        return list(zip(before, after, factors, strict=True))
    policy = node["keep_aspect_ratio_policy"] or "stretch"
    factors = [1.0 if want == size else _float(want / size) for want, size in zip(after, before, strict=True)]
    if policy != "stretch":
        factor = min(factors) if policy == "not_larger" else max(factors)
        after = [math.floor(_times(size, factor) + 0.5) for size in before]
        factors = [factor] * len(before)
    return list(zip(before, after, factors, strict=True))


def _numbers(values: Host | Tensor | Sequence[float]) -> list[float]:
    host = to_host(values) if isinstance(values, Tensor) else values
    return list(host.numbers if isinstance(host, Host) else host)


def _float(number: Any) -> Any:  # noqa: ANN401 - or what stands for it
    """Scales and places are float32, as ONNX has them."""
    return number if stands_for_one(number) else rounded(float(number))


def _times(size: Any, factor: float) -> Any:  # noqa: ANN401 - as above
    """Where a product must be rounded, a symbol for a size becomes the size of the example."""
    exact = stands_for_one(size) and is_short(factor)
    return size * factor if exact else _float(float(size) * factor)


def _along(node: Node, x: Tensor, axis: int, sizes: Sizes) -> Tensor:
    """Resize one axis."""
    n_in, n_out, scale = sizes
    if scale == 1 and n_in == n_out:
        return x
    mode, transform = node["mode"], node["coordinate_transformation_mode"] or "asymmetric"
    check_choice("mode", mode, ("nearest", *BETWEEN))
    check_choice("coordinate_transformation_mode", transform, COORDINATES)
    if node["antialias"]:
        raise WrongValue("antialias=1 is refused: resize without it")
    places = COORDINATES[transform](torch.arange(n_out, dtype=torch.float32, device=x.device), sizes)
    if mode == "nearest":
        nearest = NEAREST[node["nearest_mode"] or "floor"](places.double())
        return x.index_select(axis, nearest.clamp(0, n_in - 1).long())
    return _weighted(node, x, axis, places)


def _weighted(node: Node, x: Tensor, axis: int, places: Tensor) -> Tensor:
    """Sum the elements around each place, by weight; beyond an end, the last element goes on."""
    size = x.shape[axis]
    if node["mode"] == "linear":
        places = places.clamp(0, size - 1)
    first = places.floor()
    weights = BETWEEN[node["mode"]](node, places - first)
    around = [first.long() + step - (len(weights) // 2 - 1) for step in range(len(weights))]
    if node["exclude_outside"]:
        inside = [((there >= 0) & (there < size)) * weight for there, weight in zip(around, weights, strict=True)]
        weights = [weight / sum(inside) for weight in inside]
    shape = (-1, *(1,) * (x.dim() - 1 - axis))
    parts = [
        x.index_select(axis, there.clamp(0, size - 1)) * weight.to(x.dtype).reshape(shape)
        for there, weight in zip(around, weights, strict=True)
    ]
    return torch.stack(parts).sum(0)


RESIZING: Mapping[str, Operation] = {"Resize": _resize, "Upsample": _upsample}
