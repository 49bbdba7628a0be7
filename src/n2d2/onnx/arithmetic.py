"""Arithmetic on shapes: ONNX's operators on host values, with Python's numbers."""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

import torch
from torch import Tensor

from n2d2.onnx.dtypes import type_of
from n2d2.onnx.graph import Node
from n2d2.onnx.host import (
    FLOAT,
    LARGEST,
    Host,
    NotOnHostError,
    Number,
    as_slice,
    fitting,
    ints,
    is_short,
    sliced,
    stands_for_one,
)

# ---- element by element


def _each(function: Callable[..., Number], kind: torch.dtype | None = None, *, free: int = 0) -> Callable[..., Host]:
    """Apply a function of numbers to all elements; one number is taken for each of the others.

    Args:
        function: of numbers.
        kind: the type of what it gives; without one, that of what it takes.
        free: how many of the first values may be of another type.
    """

    def apply(_: Node, *values: Host) -> Host:
        n = max(len(value.numbers) for value in values)
        if any(len(value.numbers) not in (1, n) for value in values) or not n:
            raise NotOnHostError
        if any(value.kind != values[-1].kind for value in values[free:]):
            raise NotOnHostError
        columns = [value.numbers * n if len(value.numbers) == 1 else value.numbers for value in values]
        single = all(value.single for value in values)
        return Host(tuple(map(function, *columns)), single, kind or values[-1].kind)

    return apply


def _all(function: Callable[[Number, Number], Number]) -> Callable[..., Host]:
    """Apply a function of two numbers to any number of values, one after another."""
    apply = _each(function)
    return lambda node, *values: reduce(partial(apply, node), values)


def _arithmetic(function: Callable[[Number, Number], Number]) -> Callable[[Number, Number], Number]:
    """A sum, a difference or a product, in which torch's symbols stay as long as nothing is rounded."""

    def apply(a: Number, b: Number) -> Number:
        exact = all(stands_for_one(one) or is_short(one) for one in (a, b))
        return _settled(function(a, b), exact=exact)

    return apply


def _settled(number: Number, *, exact: bool) -> Number:
    """A symbol cannot be rounded as a float of the file is; if that matters, it becomes the number of the example."""
    return number if exact or not isinstance(number, torch.SymFloat) else float(number)


def _divided(a: Number, b: Number) -> Number:
    """Whole numbers are divided as in C: towards zero."""
    if _is_float(a) or _is_float(b):
        if b == 0:
            raise NotOnHostError
        return _settled(a / b, exact=isinstance(b, float) and abs(math.frexp(b)[0]) == 0.5)  # noqa: PLR2004 - a power of two
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.div(*_tensors(a, b), rounding_mode="trunc")
    quotient = a // b
    return quotient + 1 if (a < 0) != (b < 0) and quotient * b != a else quotient


def _is_float(number: Number) -> bool:
    if isinstance(number, Tensor):
        return number.is_floating_point()
    return isinstance(number, float | torch.SymFloat)


def _mod(node: Node, a: Host, b: Host) -> Host:
    """The rest has the sign of `b`, and with `fmod` that of `a`."""
    return _each(_rest_of_a if node["fmod"] else _rest_of_b)(node, a, b)


def _rest_of_b(a: Number, b: Number) -> Number:
    if isinstance(a, torch.SymFloat) or isinstance(b, torch.SymFloat) or (isinstance(b, float) and b == 0):
        raise NotOnHostError
    return a % b


def _rest_of_a(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.fmod(*_tensors(a, b))
    rest = _rest_of_b(a, b)
    if isinstance(a, float):
        return math.fmod(a, b)
    return rest - b if (a < 0) != (b < 0) and rest != 0 else rest


def _smaller(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(*_tensors(a, b))
    return torch.sym_min(a, b)  # type: ignore[no-untyped-call] # torch's


def _larger(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(*_tensors(a, b))
    return torch.sym_max(a, b)  # type: ignore[no-untyped-call] # torch's


def _tensors(a: Number, b: Number) -> list[Tensor]:
    kind = a.dtype if isinstance(a, Tensor) else b.dtype
    return [torch.as_tensor(one, dtype=kind) for one in (a, b)]


def _floor(number: Number) -> Number:
    return number.floor() if isinstance(number, Tensor) else _as_float(math.floor(number))


def _ceil(number: Number) -> Number:
    return number.ceil() if isinstance(number, Tensor) else _as_float(math.ceil(number))


def _as_float(number: Number) -> Number:
    return torch.sym_float(number)  # type: ignore[no-untyped-call] # torch's


def _compared(function: Callable[[Number, Number], Number]) -> Callable[..., Host]:
    """Compare numbers; of what stands for one, the answer is that of the example at hand."""
    return _each(lambda a, b: bool(function(a, b)), torch.bool)


def _cast(node: Node, value: Host) -> Host:
    return _of_kind(value, type_of(node["to"]))


def _cast_like(_: Node, value: Host, like: Host) -> Host:
    return _of_kind(value, like.kind)


def _of_kind(value: Host, kind: torch.dtype) -> Host:
    kind = FLOAT if kind.is_floating_point else kind
    return Host(tuple(_as(one, kind) for one in value.numbers), value.single, kind)


def _as(number: Number, kind: torch.dtype) -> Number:
    if isinstance(number, Tensor):
        return number.to(kind)
    if kind is torch.bool:
        return bool(number)
    if not kind.is_floating_point:
        return torch.sym_int(number)  # type: ignore[no-untyped-call] # torch's
    if isinstance(number, int) and abs(number) > 2**53:
        raise NotOnHostError  # it would be rounded twice
    return _as_float(number)


# ---- other places; what would have two dimensions or more is left to tensors


def _shape(node: Node, x: Tensor | Host) -> Host:
    return Host(tuple(x.shape)[slice(node["start"] or 0, node["end"])])


def _size(_: Node, x: Tensor | Host) -> Host:
    return Host((math.prod(x.shape),), single=True)


def _gather(node: Node, value: Host, indices: Host) -> Host:
    if value.single or node["axis"] not in ONLY:
        raise NotOnHostError
    return value.of((value.numbers[i] for i in ints(indices)), single=indices.single)


ONLY = (0, -1)
"""The axis of a value of one dimension."""


def _axes(node: Node, given: Sequence[Host]) -> list[int] | None:
    if node["axes"] is not None:
        return list(node["axes"])
    return ints(given[0]) if given else None


def _unsqueeze(node: Node, value: Host, *axes: Host) -> Host:
    if not value.single or _axes(node, axes) not in ([0], [-1]):
        raise NotOnHostError
    return value.of(value.numbers)


def _squeeze(node: Node, value: Host, *axes: Host) -> Host:
    if value.shape != (1,) or _axes(node, axes) not in ([0], [-1], None):
        raise NotOnHostError
    return value.of(value.numbers, single=True)


def _concat(node: Node, *values: Host) -> Host:
    first = values[0]
    if node["axis"] not in ONLY or any(value.single or value.kind != first.kind for value in values):
        raise NotOnHostError
    return first.of(one for value in values for one in value.numbers)


def _reshape(_: Node, value: Host, shape: Host) -> Host:
    asked = ints(shape)
    if asked not in ([-1], [len(value.numbers)], []) or (not asked and len(value.numbers) != 1):
        raise NotOnHostError
    return value.of(value.numbers, single=not asked)


def _slice(node: Node, value: Host, *given: Host) -> Host:
    starts, ends, axes, steps = sliced(node, given)
    if value.single or any(axis not in ONLY for axis in axes):
        raise NotOnHostError
    numbers = value.numbers
    for start, end, step in zip(starts, ends, steps, strict=True):
        numbers = numbers[as_slice(start, end, step, len(numbers))]
    return value.of(numbers)


def _reduced(function: Callable[[Sequence[Number]], Number], *, rounds: bool = False) -> Callable[..., Host]:
    """Make one number of all; where a function `rounds`, floats are left to tensors, whose order is their own."""

    def reduce_(node: Node, value: Host, *axes: Host) -> Host:
        over = _axes(node, axes) or None
        if over is None and node["noop_with_empty_axes"]:
            return value
        if value.single or not value.numbers or over not in ([0], [-1], None):
            raise NotOnHostError
        if rounds and value.kind.is_floating_point:
            raise NotOnHostError
        return value.of((function(value.numbers),), single=not node["keepdims"])

    return reduce_


def _constant_of_shape(node: Node, shape: Host) -> Host:
    sizes = ints(shape)
    if len(sizes) > 1 or any(stands_for_one(one) for one in sizes) or math.prod(sizes) > LARGEST:
        raise NotOnHostError
    value = Host((0.0,), kind=FLOAT) if node["value"] is None else node["value"]
    return value.of(value.numbers * math.prod(sizes), single=not sizes)


HOST: dict[str, Callable[..., Host]] = {
    "Add": _each(_arithmetic(operator.add)),
    "And": _each(lambda a, b: bool(a) and bool(b), torch.bool),
    "Cast": _cast,
    "CastLike": _cast_like,
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
    "Mod": _mod,
    "Mul": _each(_arithmetic(operator.mul)),
    "Neg": _each(lambda a: -a),
    "Not": _each(lambda a: not a, torch.bool),
    "Or": _each(lambda a, b: bool(a) or bool(b), torch.bool),
    "ReduceMax": _reduced(lambda values: reduce(_larger, values)),
    "ReduceMin": _reduced(lambda values: reduce(_smaller, values)),
    "ReduceProd": _reduced(math.prod, rounds=True),
    "ReduceSum": _reduced(sum, rounds=True),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(_arithmetic(operator.sub)),
    "Unsqueeze": _unsqueeze,
    "Where": _each(lambda condition, a, b: a if condition else b, free=1),
}
"""Operators on host values. What is not here, or raises NotOnHostError, is computed with tensors."""

OF_SHAPES: dict[str, Callable[..., Host]] = {"Shape": _shape, "Size": _size}
"""Operators that make host values of tensors."""


def on_host(node: Node, values: Sequence[Host]) -> Host:
    """What an operator of HOST gives: the same numbers, of the same type, as with tensors.

    Raises:
        NotOnHostError: it must be computed with tensors.
        WrongValue: a size that is computed does not fit 64 bits.
    """
    return fitting(HOST[node.op](node, *map(fitting, values)))
