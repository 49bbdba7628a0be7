"""Tensors that lie in one memory: what is written to one of them changes another one."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from prunecell.errors import OptionError

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
        if _is_expanded(tensors[name]):
            raise OptionError(
                f"the elements of {name!r} share memory, as of an expanded tensor: give each its own by .clone()"
            )
    names = {id(tensor): name for name, tensor in reversed([*tensors.items()])}
    for one, other in _pairs(tensors.values()):
        first, second = sorted((names[id(one)], names[id(other)]), key=lambda name: name not in chosen)
        if first in chosen:
            raise OptionError(
                f"{first!r} and {second!r} are different tensors in the same memory, so none can be changed by itself:"
                " let both names have one parameter (a.weight = b.weight), or give each its own memory by .clone()"
            )


def overlapping(tensors: Iterable[Tensor]) -> set[int]:
    """The `id`s of tensors that stand in a list more than once, or share memory with another one, or within themselves.

    >>> flat = torch.zeros(8)
    >>> len(overlapping([flat[:5], flat[4:], flat[6:]])), len(overlapping([flat[:4], flat[4:]]))
    (3, 0)
    """
    given = [*tensors]
    found = {key for key, n in Counter(map(id, given)).items() if n > 1} | {id(t) for t in given if _is_expanded(t)}
    return found | {id(tensor) for pair in _pairs(given) for tensor in pair}


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


def _is_expanded(tensor: Tensor) -> bool:
    strides = tensor.stride() if _span(tensor) else ()
    return any(size > 1 and not stride for size, stride in zip(tensor.shape, strides, strict=False))


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
