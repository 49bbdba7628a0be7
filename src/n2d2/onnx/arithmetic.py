"""Arithmetic on shapes: ONNX's operators on host values, with Python's numbers."""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce

import torch
from torch import Tensor

from n2d2.onnx.graph import Node
from n2d2.onnx.host import LARGEST, Host, NotOnHostError, Number, as_slice, ints, sliced, stands_for_one

# ---- element by element


def _each(function: Callable[..., Number]) -> Callable[..., Host]:
    """Apply a function of numbers to all elements; one number is taken for each of the others."""

    def apply(_: Node, *values: Host) -> Host:
        n = max(len(value.numbers) for value in values)
        if any(len(value.numbers) not in (1, n) for value in values):
            raise ValueError(f"{[len(value.numbers) for value in values]} numbers do not go together")
        columns = [value.numbers * n if len(value.numbers) == 1 else value.numbers for value in values]
        return Host(tuple(map(function, *columns)), single=all(value.single for value in values))

    return apply


def _all(function: Callable[[Number, Number], Number]) -> Callable[..., Host]:
    """Apply a function of two numbers to any number of values, one after another."""
    apply = _each(function)
    return lambda node, *values: reduce(partial(apply, node), values)


def _divided(a: Number, b: Number) -> Number:
    """Whole numbers are divided as in C: towards zero."""
    if isinstance(a, float | torch.SymFloat) or isinstance(b, float | torch.SymFloat):
        return a / b
    if stands_for_one(a) or stands_for_one(b):
        return a // b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _smaller(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(*_tensors(a, b))
    return torch.sym_min(a, b)  # type: ignore[no-untyped-call] # torch's


def _larger(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(*_tensors(a, b))
    return torch.sym_max(a, b)  # type: ignore[no-untyped-call] # torch's


def _tensors(*numbers: Number) -> list[Tensor]:
    return [torch.as_tensor(one) for one in numbers]


def _floor(number: Number) -> Number:
    return number.floor() if isinstance(number, Tensor) else float(math.floor(number))


def _ceil(number: Number) -> Number:
    return number.ceil() if isinstance(number, Tensor) else float(math.ceil(number))


def _compared(function: Callable[[Number, Number], Number]) -> Callable[..., Host]:
    """Compare numbers; of what stands for one, the answer is that of the example at hand."""
    return _each(lambda a, b: bool(function(a, b)))


def _cast(node: Node, value: Host) -> Host:
    kind = node["to"]
    if kind not in CASTS:
        raise NotOnHostError  # no number: the operator refuses it
    return Host(tuple(map(CASTS[kind], value.numbers)), value.single)


def _to_float(number: Number) -> Number:
    if isinstance(number, Tensor):
        return number.to(torch.get_default_dtype())
    return torch.sym_float(number)  # type: ignore[no-untyped-call] # torch's


def _to_int(number: Number) -> Number:
    if isinstance(number, Tensor):
        return number.long()
    return torch.sym_int(number)  # type: ignore[no-untyped-call] # torch's


CASTS: dict[int, Callable[[Number], Number]] = {
    **dict.fromkeys((1, 10, 11, 16), _to_float),
    **dict.fromkeys((2, 3, 4, 5, 6, 7, 12, 13), _to_int),
    9: bool,
}
"""ONNX's number of a type -> what makes such a number."""


# ---- other places; what would have two dimensions or more is left to tensors


def _shape(node: Node, x: Tensor | Host) -> Host:
    return Host(tuple(x.shape)[slice(node["start"] or 0, node["end"])])


def _size(_: Node, x: Tensor | Host) -> Host:
    return Host((math.prod(x.shape),), single=True)


def _gather(_: Node, value: Host, indices: Host) -> Host:
    if value.single:
        raise ValueError("there is no axis to gather along")
    return Host(tuple(value.numbers[i] for i in ints(indices)), indices.single)


def _axes(node: Node, given: Sequence[Host]) -> list[int] | None:
    if node["axes"] is not None:
        return list(node["axes"])
    return ints(given[0]) if given else None


def _unsqueeze(node: Node, value: Host, *axes: Host) -> Host:
    if not value.single or _axes(node, axes) not in ([0], [-1]):
        raise NotOnHostError
    return Host(value.numbers)


def _squeeze(node: Node, value: Host, *axes: Host) -> Host:
    if value.shape != (1,) or _axes(node, axes) not in ([0], [-1], None):
        raise NotOnHostError
    return Host(value.numbers, single=True)


def _concat(_: Node, *values: Host) -> Host:
    if any(value.single for value in values):
        raise ValueError("there is no axis to concatenate along")
    return Host(tuple(one for value in values for one in value.numbers))


def _reshape(_: Node, value: Host, shape: Host) -> Host:
    asked = ints(shape)
    if asked not in ([-1], [len(value.numbers)], []) or (not asked and len(value.numbers) != 1):
        raise NotOnHostError
    return Host(value.numbers, single=not asked)


def _slice(node: Node, value: Host, *given: Host) -> Host:
    starts, ends, _, steps = sliced(node, given)
    numbers = value.numbers
    for start, end, step in zip(starts, ends, steps, strict=True):
        numbers = numbers[as_slice(start, end, step, len(numbers))]
    return Host(numbers)


def _reduced(function: Callable[[Sequence[Number]], Number]) -> Callable[..., Host]:
    def reduce_(node: Node, value: Host, *axes: Host) -> Host:
        if value.single or _axes(node, axes) not in ([0], [-1], None):
            raise NotOnHostError
        return Host((function(value.numbers),), single=not node["keepdims"])

    return reduce_


def _constant_of_shape(node: Node, shape: Host) -> Host:
    sizes = ints(shape)
    if len(sizes) > 1 or any(stands_for_one(one) for one in sizes) or math.prod(sizes) > LARGEST:
        raise NotOnHostError
    value = 0.0 if node["value"] is None else node["value"].numbers[0]
    return Host((value,) * math.prod(sizes), single=not sizes)


HOST: dict[str, Callable[..., Host]] = {
    "Add": _each(lambda a, b: a + b),
    "And": _each(lambda a, b: bool(a) and bool(b)),
    "Cast": _cast,
    "Ceil": _each(_ceil),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _each(_divided),
    "Equal": _compared(lambda a, b: a == b),
    "Floor": _each(_floor),
    "Gather": _gather,
    "Greater": _compared(lambda a, b: a > b),
    "GreaterOrEqual": _compared(lambda a, b: a >= b),
    "Identity": lambda _, value: value,
    "Less": _compared(lambda a, b: a < b),
    "LessOrEqual": _compared(lambda a, b: a <= b),
    "Max": _all(_larger),
    "Min": _all(_smaller),
    "Mod": _each(lambda a, b: a % b),
    "Mul": _each(lambda a, b: a * b),
    "Neg": _each(lambda a: -a),
    "Not": _each(lambda a: not a),
    "Or": _each(lambda a, b: bool(a) or bool(b)),
    "ReduceMax": _reduced(lambda values: reduce(_larger, values)),
    "ReduceMin": _reduced(lambda values: reduce(_smaller, values)),
    "ReduceProd": _reduced(math.prod),
    "ReduceSum": _reduced(sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(lambda a, b: a - b),
    "Unsqueeze": _unsqueeze,
    "Where": _each(lambda condition, a, b: a if condition else b),
}
"""Operators on host values; what is not here, or raises NotOnHostError, is computed with tensors."""

OF_SHAPES: dict[str, Callable[..., Host]] = {"Shape": _shape, "Size": _size}
"""Operators that make host values of tensors."""
