"""Arithmetic on shapes: what an ONNX file computes from the sizes of tensors, with Python's numbers.

Sizes stay whole numbers, or torch's symbols for them, so a network that is compiled or exported still takes batches of
any size. A host value is a numpy array of objects: int, float, bool or a symbol.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.onnx.graph import Node

Host = np.ndarray[Any, np.dtype[np.object_]]

LARGEST = 4096
"""Elements of a host value at most; a larger one is a tensor."""


def boxed(values: Any) -> Host:  # noqa: ANN401 - numbers or symbols, nested or not
    """A host value of a number, or of a list of numbers."""
    if isinstance(values, np.ndarray):
        return values.astype(object)
    if not isinstance(values, list | tuple):
        one = np.empty((), object)
        one[()] = values
        return one
    made = np.empty(len(values), object)
    made[:] = values
    return made


def to_host(tensor: Tensor) -> Host:
    """The numbers of a tensor."""
    made: Host = tensor.detach().cpu().double().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()
    return made.astype(object)


def to_tensor(value: Host, like: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The tensor of a host value, on the device of `like`; floats are of `dtype`."""
    device = None if like is None else like.device
    flat = list(value.reshape(-1))
    if any(isinstance(one, torch.SymInt | torch.SymFloat) for one in flat):
        kind = dtype if _is_float(value) else torch.int64
        return torch.stack([torch.full((), one, dtype=kind, device=device) for one in flat]).reshape(value.shape)
    kind = torch.bool if flat and all(isinstance(one, bool) for one in flat) else torch.int64
    return torch.tensor(flat, dtype=dtype if _is_float(value) else kind, device=device).reshape(value.shape)


def ints(value: Host | Tensor) -> list[Any]:
    """Whole numbers, or symbols for them, out of a value of at most one dimension."""
    if math.prod(value.shape) > LARGEST:
        raise WrongValue(f"{math.prod(value.shape)} sizes or axes are illegal: more than {LARGEST}")
    host = to_host(value) if isinstance(value, Tensor) else value
    return [one if isinstance(one, torch.SymInt) else int(one) for one in host.reshape(-1)]


def _is_float(value: Host) -> bool:
    return any(isinstance(one, float | torch.SymFloat) for one in value.reshape(-1))


def _each(function: Callable[..., Any]) -> Callable[..., Host]:
    """Apply a function of numbers to all elements, as numpy broadcasts."""
    return lambda _, *values: boxed(np.frompyfunc(function, len(values), 1)(*values))


def _all(function: Callable[..., Any]) -> Callable[..., Host]:
    """Apply a function of two numbers to any number of values, one after another."""
    apply = np.frompyfunc(function, 2, 1)
    return lambda _, *values: boxed(reduce(apply, values))


def _divided(a: Any, b: Any) -> Any:  # noqa: ANN401 - numbers or symbols
    """Whole numbers are divided as in C: towards zero."""
    if isinstance(a, float | torch.SymFloat) or isinstance(b, float | torch.SymFloat):
        return a / b
    if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
        return a // b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _smaller(a: Any, b: Any) -> Any:  # noqa: ANN401
    return torch.sym_min(a, b)


def _larger(a: Any, b: Any) -> Any:  # noqa: ANN401
    return torch.sym_max(a, b)


CASTS: dict[int, Callable[[Any], Any]] = {
    **dict.fromkeys((1, 10, 11, 16), torch.sym_float),
    **dict.fromkeys((2, 3, 4, 5, 6, 7, 12, 13), torch.sym_int),
    9: bool,
}
"""ONNX's number of a type -> what makes such a number."""


def _cast(node: Node, value: Host) -> Host:
    kind = node["to"]
    if kind not in CASTS:
        raise KeyError(kind)  # no number: the operator refuses it by name
    return boxed(np.frompyfunc(CASTS[kind], 1, 1)(value))


def _shape(node: Node, x: Tensor | Host) -> Host:
    sizes = list(x.shape)
    return boxed(sizes[slice(node["start"] or 0, node["end"])])


def _size(_: Node, x: Tensor | Host) -> Host:
    return boxed(math.prod(x.shape))


def _gather(node: Node, value: Host, indices: Host) -> Host:
    return boxed(np.take(value, indices.astype(np.int64), axis=node["axis"] or 0))


def _axes(node: Node, given: Sequence[Host]) -> tuple[int, ...] | None:
    axes = node["axes"] if node["axes"] is not None else ints(given[0]) if given else None
    return None if axes is None else tuple(axes)


def _unsqueeze(node: Node, value: Host, *axes: Host) -> Host:
    return np.expand_dims(value, _axes(node, axes) or ())


def _squeeze(node: Node, value: Host, *axes: Host) -> Host:
    return np.squeeze(value, _axes(node, axes))


def _concat(node: Node, *values: Host) -> Host:
    return np.concatenate(values, axis=node["axis"])


def _reshape(_: Node, value: Host, shape: Host) -> Host:
    return value.reshape(ints(shape))


def _slice(node: Node, value: Host, *given: Host) -> Host:
    starts, ends, axes, steps = sliced(node, given)
    index = [slice(None)] * value.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = as_slice(start, end, step, value.shape[axis])
    return value[tuple(index)]


def sliced(node: Node, given: Sequence[Host | Tensor | None]) -> tuple[list[int], ...]:
    """Starts, ends, axes and steps of a Slice, which are attributes at first and inputs later."""
    read = [None if one is None else ints(one) for one in given] or [node["starts"], node["ends"], node["axes"]]
    starts, ends, axes, steps = [*read, None, None][:4]
    if starts is None or ends is None:
        raise ValueError("a Slice must have starts and ends")
    return starts, ends, list(range(len(starts))) if axes is None else axes, steps or [1] * len(starts)


def as_slice(start: Any, end: Any, step: int, size: Any) -> slice:  # noqa: ANN401 - numbers or symbols
    """Python's slice of ONNX's start and end, which may lie far outside."""
    if step > 0:
        return slice(start, end, step)
    first = start + size if start < 0 else start
    last = end + size if end < 0 else end
    first, last = min(first, size - 1), max(last, -1)
    return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0, step)


def _reduced(function: Callable[[Sequence[Any]], Any]) -> Callable[..., Host]:
    def reduce_(node: Node, value: Host, *axes: Host) -> Host:
        over = _axes(node, axes)
        if value.ndim != 1 or over not in (None, (0,), (-1,), ()):
            raise NotImplementedError
        whole = boxed(function(list(value)))
        return whole.reshape(1) if node["keepdims"] else whole

    return reduce_


def _constant_of_shape(node: Node, shape: Host) -> Host:
    sizes = ints(shape)
    if len(sizes) > 1 or any(isinstance(one, torch.SymInt) for one in sizes) or math.prod(sizes) > LARGEST:
        raise NotImplementedError
    value = 0.0 if node["value"] is None else node["value"].reshape(-1)[0].item()
    return boxed([value] * sizes[0]) if sizes else boxed(value)


def _where(_: Node, condition: Host, a: Host, b: Host) -> Host:
    return boxed(np.where(condition.astype(bool), a, b))


HOST: dict[str, Callable[..., Host]] = {
    "Add": _each(lambda a, b: a + b),
    "And": _each(lambda a, b: a and b),
    "Cast": _cast,
    "Ceil": _each(math.ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _each(_divided),
    "Equal": _each(lambda a, b: a == b),
    "Floor": _each(math.floor),
    "Gather": _gather,
    "Greater": _each(lambda a, b: a > b),
    "GreaterOrEqual": _each(lambda a, b: a >= b),
    "Identity": lambda _, value: value,
    "Less": _each(lambda a, b: a < b),
    "LessOrEqual": _each(lambda a, b: a <= b),
    "Max": _all(_larger),
    "Min": _all(_smaller),
    "Mod": _each(lambda a, b: a % b),
    "Mul": _each(lambda a, b: a * b),
    "Neg": _each(lambda a: -a),
    "Not": _each(lambda a: not a),
    "Or": _each(lambda a, b: a or b),
    "ReduceMax": _reduced(lambda values: reduce(_larger, values)),
    "ReduceMin": _reduced(lambda values: reduce(_smaller, values)),
    "ReduceProd": _reduced(math.prod),
    "ReduceSum": _reduced(sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(lambda a, b: a - b),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""Operators on host values; what is not here, or raises NotImplementedError, is computed with tensors."""

OF_SHAPES: dict[str, Callable[..., Host]] = {"Shape": _shape, "Size": _size}
"""Operators that make host values of tensors."""
