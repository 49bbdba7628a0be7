"""Tensors that lie in one memory: what is written to one of them changes another one."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from prunecell.errors import OptionError, StateError

_MOST_WORK = 100_000
"""Of numpy, to find out whether two tensors whose elements alternate have one in common."""


def check_apart(tensors: Mapping[str, Tensor], chosen: Collection[str]) -> None:
    """Refuse tensors whose memory another one of the model has too, and would be changed behind its back.

    One parameter under several names is one tensor, and right. Parts of one buffer that do not overlap are right, too.

    Args:
        tensors: name -> tensor, all that count in the model.
        chosen: the names of those that will be written to.

    Raises:
        OptionError: the message names both.

    >>> flat = torch.zeros(8)
    >>> check_apart({"a": flat[:4], "b": flat[4:]}, ["a"])
    """
    for name in chosen:
        if shares_within(tensors[name]):
            raise OptionError(
                f"the elements of {name!r} share memory, as of an expanded tensor or of overlapping windows: give each"
                " its own by .clone()"
            )
    names = {id(tensor): name for name, tensor in reversed([*tensors.items()])}
    for one, other in _pairs(tensors.values()):
        first, second = sorted((names[id(one)], names[id(other)]), key=lambda name: name not in chosen)
        if first in chosen:
            raise OptionError(
                f"{first!r} and {second!r} are different tensors in the same memory, so none can be changed by itself:"
                " let both names have one parameter (a.weight = b.weight), or give each its own memory by .clone()"
            )


def flat(tensor: Tensor) -> Tensor:
    """All elements in row-major order, (n,), one right behind the other; copied only where they do not lie so.

    A tensor of one element is called contiguous whatever its stride, and is no view of bytes then.

    >>> flat(torch.zeros(2)[::2]).stride()
    (1,)
    """
    elements = tensor.contiguous().flatten()
    return elements.as_strided(elements.shape, (1,))


def laid_out_as(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor, or a copy, whose elements stand in memory in the order of another's: fused optimizers go by that.

    Args:
        tensor: as large as the other.
        other: where its elements leave gaps or share memory, a plain one, as torch makes gradients and moments of it.

    >>> plain, lying = torch.zeros(2, 3), torch.zeros(3, 2).t()
    >>> laid_out_as(plain, lying).stride(), laid_out_as(plain, plain) is plain
    ((1, 2), True)
    """
    if tensor.stride() == other.stride():
        return tensor
    made = torch.empty_like(other, dtype=tensor.dtype, requires_grad=False)
    return tensor if tensor.stride() == made.stride() else made.copy_(tensor)


def check_ties(model: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Refuse values for a model that has one tensor where they are two that differ: one would be lost.

    Args:
        model: name -> tensor; what is tied stands under each of its names.
        given: name -> what the tensor of that name is to become; some may lack. They are cast to the model's dtypes.

    Raises:
        StateError: the message names both.

    >>> weight = torch.zeros(2)
    >>> check_ties({"a": weight, "b": weight}, {"a": torch.ones(2), "b": torch.ones(2)})
    """
    first: dict[int, str] = {}
    for name, tensor in model.items():
        if name not in given:
            continue
        other = first.setdefault(id(tensor), name)
        if other != name and not _alike(given[other], given[name], tensor.dtype):
            raise StateError(
                f"{other!r} and {name!r} are one tensor of the model, and two that differ in what is to be loaded: make"
                " the model without tying them"
            )


def overlapping(tensors: Iterable[Tensor]) -> set[int]:
    """The `id`s of tensors that stand in a list more than once, or share memory with another one, or within themselves.

    >>> flat = torch.zeros(8)
    >>> len(overlapping([flat[:5], flat[4:], flat[6:]])), len(overlapping([flat[:4], flat[4:]]))
    (3, 0)
    """
    given = [*tensors]
    found = {key for key, n in Counter(map(id, given)).items() if n > 1} | {id(t) for t in given if shares_within(t)}
    return found | {id(tensor) for pair in _pairs(given) for tensor in pair}


def shares_within(tensor: Tensor) -> bool:
    """Whether two elements of a tensor lie in one place.

    >>> line = torch.arange(6.0)
    >>> shares_within(line.expand(2, 6)), shares_within(line.unfold(0, 3, 1)), shares_within(line.unfold(0, 3, 3))
    (True, True, False)
    """
    if _span(tensor) is None:
        return False
    sizes = [(stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
    reach = 0
    for stride, size in sorted(sizes):
        if not stride:
            return True
        if stride <= reach:
            break
        reach += (size - 1) * stride
    else:
        return False  # each dimension steps over all smaller ones
    # Two elements in one place differ in some dimension, and may be moved along it until one of them is its first.
    plain = tensor.detach()
    halves = ((plain.narrow(k, 0, 1), plain.narrow(k, 1, n - 1)) for k, n in enumerate(plain.shape) if n > 1)
    return any(_have_one_in_common(first, rest) for first, rest in halves)


def _pairs(tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of different tensors that have an element in common."""
    different = {id(tensor): tensor for tensor in tensors}.values()
    spans = sorted((span for tensor in different if (span := _span(tensor))), key=lambda span: span[:2])
    open_ones: list[tuple[int, int, Tensor]] = []
    for start, end, tensor in spans:
        open_ones = [span for span in open_ones if span[1] > start]
        yield from ((other, tensor) for _, _, other in open_ones if _have_one_in_common(other, tensor))
        open_ones.append((start, end, tensor))


def _span(tensor: Tensor) -> tuple[int, int, Tensor] | None:
    """Where a tensor lies in memory: (first byte, the byte behind its last, itself); None where that is not known."""
    if tensor.layout is not torch.strided or tensor.is_meta or isinstance(tensor, FakeTensor):
        return None
    try:
        start, n = tensor.data_ptr(), tensor.numel()
    except (RuntimeError, ValueError):  # a tensor without memory of its own, or not made yet
        return None
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (start, start + (reach + 1) * tensor.element_size(), tensor) if start and n else None


def _alike(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    if one is other:
        return True
    if one.shape != other.shape:
        return False
    return torch.equal(*(flat(tensor.detach().to(dtype)).view(torch.uint8) for tensor in (one, other)))


class _Bytes:
    """The bytes of a tensor for numpy, which reads none of them: they may be a GPU's."""

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "data": (tensor.data_ptr(), True),
            "shape": (*tensor.shape, size),
            "strides": (*(stride * size for stride in tensor.stride()), 1),
        }


def _have_one_in_common(one: Tensor, other: Tensor) -> bool:
    if one.device != other.device:
        return False
    try:
        return np.shares_memory(np.asarray(_Bytes(one)), np.asarray(_Bytes(other)), max_work=_MOST_WORK)  # type: ignore[arg-type] # any number is legal
    except np.exceptions.TooHardError:
        return True
