"""Host values: sizes of tensors, and what is computed from them, as Python's numbers.

Sizes stay whole numbers, or what stands for them while torch compiles, traces or exports, so that such a network too
takes batches of any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.onnx.graph import Node

LARGEST = 4096
"""Numbers of a host value at most; more than that is a tensor."""


class NotOnHostError(Exception):
    """Host values cannot hold the result of an operator, which is therefore computed with tensors."""


class WithoutValuesError(Exception):
    """The result of an operator hangs on numbers that tensors without values ("meta") do not have."""


Number = Any
"""An int, a float, a bool, or what stands for one: torch's symbol, or a tensor of one number while it traces."""


@dataclass(frozen=True)
class Host:
    """Some numbers, in one dimension; or one number, in none (`single`)."""

    numbers: tuple[Number, ...]
    single: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes that a tensor of these numbers has."""
        return () if self.single else (len(self.numbers),)


def to_host(tensor: Tensor) -> Host:
    """The numbers of a tensor of at most one dimension and LARGEST elements."""
    return Host(tuple(tensor.reshape(-1).tolist()), single=tensor.dim() == 0)


def fits_host(tensor: Tensor) -> bool:
    """Whether a tensor can be a host value."""
    return tensor.dim() <= 1 and tensor.numel() <= LARGEST


def to_tensor(value: Host, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """The tensor of a host value; floats are of `dtype`."""
    kind = dtype if any(isinstance(one, float | torch.SymFloat) for one in value.numbers) else torch.int64
    if value.numbers and all(isinstance(one, bool) for one in value.numbers):
        kind = torch.bool
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
        return [int(one) for one in value.reshape(-1).tolist()]
    return [one if stands_for_one(one) else int(one) for one in value.numbers]


def stands_for_one(number: Number) -> bool:
    """Whether it is no number yet, but what torch puts in its place."""
    return isinstance(number, torch.SymInt | torch.SymFloat | Tensor)


def within_int64(value: Host) -> Host:
    """The same, if its whole numbers are such as ONNX has; Python's grow without end, and take all memory.

    Raises:
        WrongValue: one does not fit 64 bits.
    """
    for one in value.numbers:
        if type(one) is int and not -(2**63) <= one < 2**63:
            raise WrongValue(f"a number of {one.bit_length()} bits is illegal: sizes are whole numbers of 64 bits")
    return value


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
    return value.item() if isinstance(value, Tensor) else value.numbers[0]


def listed(given: Sequence[Host | Tensor | None], attribute: Sequence[int] | None) -> list[Any] | None:
    """What was an attribute at first and is the first of the inputs later; None where it is not given."""
    first = given[0] if given else None
    return ints(first) if first is not None else None if attribute is None else list(attribute)
