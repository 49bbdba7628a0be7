"""ONNX's operators that work on each element by itself, in torch."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host

Operation = Callable[..., Any]
"""(node, *inputs) -> the output, or a tuple of outputs; None stands for an optional input that is not given."""


def plain(function: Callable[..., Any]) -> Operation:
    """An operator that has no attributes."""
    return lambda _, *inputs: function(*inputs)


def _over_all(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """Apply a function of two tensors to any number of them, one after another."""
    return lambda _, *inputs: reduce(function, inputs)


def _divide(_: Node, a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node["fmod"] else torch.remainder(a, b)


def _power(_: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b).to(a.dtype)


def _clip(node: Node, x: Tensor, *limits: Tensor | Host | None) -> Tensor:
    """Limits are attributes before version 11 of the operators, then inputs; the upper one goes before the lower."""
    low, high = [*limits, None, None][:2] if node.version >= 11 else (node["min"], node["max"])  # noqa: PLR2004 - a version
    low, high = (one.numbers[0] if isinstance(one, Host) else one for one in (low, high))
    return x if low is None and high is None else torch.clamp(x, low, high)


def _prelu(_: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node["approximate"])


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node["alpha"] * x + node["beta"], 0, 1)


def _selu(node: Node, x: Tensor) -> Tensor:
    return node["gamma"] * torch.where(x > 0, x, node["alpha"] * torch.expm1(x.clamp_max(0)))  # type: ignore[no-any-return]


def _shrink(node: Node, x: Tensor) -> Tensor:
    bias, limit = node["bias"], node["lambd"]
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


def _is_inf(node: Node, x: Tensor) -> Tensor:
    negative = torch.isneginf(x) if node["detect_negative"] else torch.zeros_like(x, dtype=torch.bool)
    return negative | torch.isposinf(x) if node["detect_positive"] else negative


def _where(_: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.bool(), a, b)


def _round(_: Node, x: Tensor) -> Tensor:
    return torch.round(x)


ELEMENTWISE: Mapping[str, Operation] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "Ceil": plain(torch.ceil),
    "Celu": lambda node, x: F.celu(x, node["alpha"]),
    "Clip": _clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": _divide,
    "Elu": lambda node, x: F.elu(x, node["alpha"]),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": _gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": plain(F.hardswish),
    "Identity": plain(lambda x: x),
    "IsInf": _is_inf,
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node["alpha"]),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": _over_all(torch.maximum),
    "Mean": lambda _, *inputs: reduce(torch.add, inputs) / len(inputs),
    "Min": _over_all(torch.minimum),
    "Mish": plain(F.mish),
    "Mod": _mod,
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Round": _round,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Softplus": plain(lambda x: F.softplus(x, threshold=30)),
    "Softsign": plain(F.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": _over_all(torch.add),
    "Swish": lambda node, x: x * torch.sigmoid(node["alpha"] * x),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": lambda node, x: torch.where(x > node["alpha"], x, torch.zeros_like(x)),
    "Where": _where,
    "Xor": plain(torch.logical_xor),
}
