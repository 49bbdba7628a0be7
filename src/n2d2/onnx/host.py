"""Host values: sizes of tensors, and what is computed from them, as Python's numbers.

Sizes stay whole numbers, or what stands for them while torch compiles, traces or exports, so that such a network too
takes batches of any size.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.onnx.graph import Node

LARGEST = 4096
"""Numbers of a host value at most; more than that is a tensor."""


FLOAT = torch.float32
"""The type of floats here, as files have them where sizes are computed, whatever `default_datatype` says."""


class NotOnHostError(Exception):
    """Host values cannot hold the result of an operator, which is therefore computed with tensors."""


class WithoutValuesError(WrongValue):
    """The result of an operator hangs on numbers that tensors without values ("meta") do not have."""


Number = Any
"""An int, a float, a bool, or what stands for one: torch's symbol, or a tensor of one number while it traces."""


@dataclass(frozen=True)
class Host:
    """Some numbers, in one dimension; or one number, in none (`single`); `kind` is the type of their tensor."""

    numbers: tuple[Number, ...]
    single: bool = False
    kind: torch.dtype = torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes that a tensor of these numbers has."""
        return () if self.single else (len(self.numbers),)

    def of(self, numbers: Iterable[Number], *, single: bool = False) -> "Host":
        """Other numbers of the same type."""
        return Host(tuple(numbers), single, self.kind)


def to_host(tensor: Tensor) -> Host:
    """The numbers of a tensor of at most one dimension and LARGEST elements."""
    return Host(tuple(_listed(tensor)), tensor.dim() == 0, FLOAT if tensor.is_floating_point() else tensor.dtype)


def _listed(tensor: Tensor) -> list[Number]:
    if tensor.is_meta:
        raise WithoutValuesError
    return tensor.reshape(-1).tolist()


def fits_host(tensor: Tensor) -> bool:
    """Whether a tensor can be a host value."""
    return tensor.dim() <= 1 and tensor.numel() <= LARGEST


def to_tensor(value: Host, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """The tensor of a host value; floats are of `dtype`."""
    kind = dtype if value.kind.is_floating_point else value.kind
    if not any(stands_for_one(one) for one in value.numbers):
        return torch.tensor(value.numbers, dtype=kind, device=device).reshape(value.shape)
    parts = [
        one if isinstance(one, Tensor) else torch.full((), one, dtype=kind, device=device) for one in value.numbers
    ]
    return torch.stack([part.to(device=device, dtype=kind) for part in parts]).reshape(value.shape)


def ints(value: Host | Tensor) -> list[Any]:
    """Whole numbers, or what stands for them, out of a value of at most one dimension."""
    if isinstance(value, Tensor):
        if value.numel() > LARGEST:
            raise WrongValue(f"{value.numel()} sizes or axes are illegal: more than {LARGEST}")
        return [int(one) for one in _listed(value)]
    return [one if stands_for_one(one) else int(one) for one in value.numbers]


def stands_for_one(number: Number) -> bool:
    """Whether it is no number yet, but what torch puts in its place."""
    return isinstance(number, torch.SymInt | torch.SymFloat | Tensor)


def is_short(number: Number) -> bool:
    """Whether a number has so few bits behind the point that its sums and products with sizes are exact."""
    return bool(math.floor(number * 256) == number * 256)


def rounded(number: float) -> float:
    """The float32 that is next to a number; of two, the even one.

    Raises:
        NotOnHostError: it is not finite, or becomes so.
    """
    if not abs(number) < math.inf:  # torch compiles this, and no math.isfinite
        raise NotOnHostError
    if abs(number) < 2**16 and is_short(number):
        return number  # so it stays a symbol while torch compiles
    step = max(math.frexp(number)[1], -125) - 24  # 24 bits; 2**-126 is the smallest number that has them all
    near = math.ldexp(round(math.ldexp(number, -step)), step) if number else number
    if abs(near) >= 2.0**128:
        raise NotOnHostError
    return near


def fitting(value: Host) -> Host:
    """The same as numbers of their type: floats are rounded. What stands for a number is left as it is.

    Raises:
        NotOnHostError: one does not fit, so it wraps around, or is infinite or none; or it is no truth value.
        WrongValue: one does not fit 64 bits. Python's numbers grow without end, and take all memory.
    """
    return value.of((_fitting(one, value.kind) for one in value.numbers), single=value.single)


def _fitting(one: Number, kind: torch.dtype) -> Number:
    if stands_for_one(one):
        return one
    if kind.is_floating_point:
        return rounded(one)
    if kind is torch.bool:
        if not isinstance(one, bool):
            raise NotOnHostError
    elif not torch.iinfo(kind).min <= one <= torch.iinfo(kind).max:
        if kind is torch.int64:
            raise WrongValue(f"a number of {one.bit_length()} bits is illegal: sizes are whole numbers of 64 bits")
        raise NotOnHostError
    return one


def sliced(node: Node, given: Sequence[Host | Tensor | None]) -> tuple[list[int], ...]:
    """Starts, ends, axes and steps of a Slice, which are attributes at first and inputs later."""
    read = [None if one is None else ints(one) for one in given] or [node["starts"], node["ends"], node["axes"]]
    starts, ends, axes, steps = [*read, None, None][:4]
    if starts is None or ends is None:
        raise ValueError("a Slice must have starts and ends")
    return starts, ends, list(range(len(starts))) if axes is None else axes, steps or [1] * len(starts)


def as_slice(start: Number, end: Number, step: int, size: Number) -> slice:
    """Python's slice of ONNX's start and end, which may lie far outside."""
    if step > 0:
        return slice(start, end, step)
    first = start + size if start < 0 else start
    last = end + size if end < 0 else end
    first, last = min(first, size - 1), max(last, -1)
    return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0, step)


def number(value: Host | Tensor) -> Any:  # noqa: ANN401 - or what stands for it
    """The only number of a value."""
    return _listed(value)[0] if isinstance(value, Tensor) else value.numbers[0]


def listed(given: Sequence[Host | Tensor | None], attribute: Sequence[int] | None) -> list[Any] | None:
    """What was an attribute at first and is the first of the inputs later; None where it is not given."""
    first = given[0] if given else None
    return ints(first) if first is not None else None if attribute is None else list(attribute)
