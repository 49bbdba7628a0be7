"""The element types of the format: what each is called, and how its bits are seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecell.errors import FormatError, OptionTypeError, quoted
from prunecell.memory import flat

Numbers: TypeAlias = NDArray[Any]
"""A flat array. Its dtype is said where it matters."""


@dataclass(frozen=True, kw_only=True)
class ElementType:
    """One dtype of torch, seen as unsigned words.

    Attributes:
        name: torch's name of it, the one written in a file.
        itemsize: bytes per element.
        word: numpy's unsigned dtype of one word; a complex element is two words.
        number: numpy's dtype of the same meaning, or the word where numpy has none (bfloat16, float8).
        container: safetensors' name of it, None where it has none.
        is_float: whether it is a floating-point or complex type. The sign of such a word is moved from the highest bit
            to the lowest before bytes are split, so that the exponent, which compresses, is alone in the highest byte.
    """

    name: str
    itemsize: int
    word: np.dtype[Any]
    number: np.dtype[Any]
    container: str | None
    is_float: bool

    @property
    def torch(self) -> torch.dtype:
        """The dtype itself."""
        dtype: torch.dtype = getattr(torch, self.name)
        return dtype

    @property
    def words(self) -> int:
        """Words per element: 2 for complex types, else 1."""
        return self.itemsize // self.word.itemsize


# name: bytes per element, word, number, safetensors' name
_ROWS: dict[str, tuple[int, str, str, str | None]] = {
    "bool": (1, "u1", "u1", "BOOL"),
    "uint8": (1, "u1", "u1", "U8"),
    "int8": (1, "u1", "i1", "I8"),
    "uint16": (2, "<u2", "<u2", "U16"),
    "int16": (2, "<u2", "<i2", "I16"),
    "uint32": (4, "<u4", "<u4", "U32"),
    "int32": (4, "<u4", "<i4", "I32"),
    "uint64": (8, "<u8", "<u8", "U64"),
    "int64": (8, "<u8", "<i8", "I64"),
    "float16": (2, "<u2", "<f2", "F16"),
    "bfloat16": (2, "<u2", "<u2", "BF16"),
    "float32": (4, "<u4", "<f4", "F32"),
    "float64": (8, "<u8", "<f8", "F64"),
    "float8_e4m3fn": (1, "u1", "u1", "F8_E4M3"),
    "float8_e5m2": (1, "u1", "u1", "F8_E5M2"),
    "float8_e4m3fnuz": (1, "u1", "u1", "F8_E4M3FNUZ"),
    "float8_e5m2fnuz": (1, "u1", "u1", "F8_E5M2FNUZ"),
    "float8_e8m0fnu": (1, "u1", "u1", None),
    "float4_e2m1fn_x2": (1, "u1", "u1", None),
    "complex64": (8, "<u4", "<f4", "C64"),
    "complex128": (16, "<u8", "<f8", None),
}

ELEMENT_TYPES = {
    name: ElementType(
        name=name,
        itemsize=itemsize,
        word=np.dtype(word),
        number=np.dtype(number),
        container=container,
        is_float=name.startswith(("float", "bfloat", "complex")),
    )
    for name, (itemsize, word, number, container) in _ROWS.items()
    if hasattr(torch, name)  # the youngest float8 types came after torch 2.6
}


def element_type(dtype: torch.dtype) -> ElementType:
    """Find the element type of a torch dtype.

    Raises:
        OptionTypeError: the format has none (quantized types, integers below a byte).

    >>> element_type(torch.bfloat16).container
    'BF16'
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ELEMENT_TYPES:
        raise OptionTypeError(f"dtype {dtype} cannot be stored; legal: {', '.join(ELEMENT_TYPES)}")
    return ELEMENT_TYPES[name]


def element_type_named(name: object) -> ElementType:
    """Find the element type that a file names.

    Raises:
        FormatError: there is none of this name.
    """
    if not isinstance(name, str) or name not in ELEMENT_TYPES:
        raise FormatError(f"unknown dtype {quoted(name)}")
    return ELEMENT_TYPES[name]


def words_of(tensor: Tensor) -> Numbers:
    """View the elements in row-major order as unsigned words; they are copied only if they are not contiguous.

    >>> [hex(word) for word in words_of(torch.tensor([1.0, -0.0]))]
    ['0x3f800000', '0x80000000']
    """
    kind = element_type(tensor.dtype)
    if not tensor.numel():
        return np.empty(0, kind.word)
    elements = flat(tensor.detach().resolve_conj().resolve_neg().cpu())
    words: Numbers = elements.view(torch.uint8).numpy().view(kind.word)
    return words


def words_to_store(tensor: Tensor) -> Numbers:
    """As `words_of`, but a bool is 0 or 1, whatever byte its memory holds: a bool has two values.

    >>> words_to_store(torch.tensor([0, 7, 255], dtype=torch.uint8).view(torch.bool)).tolist()
    [0, 1, 1]
    """
    words = words_of(tensor)
    return np.minimum(words, 1) if tensor.dtype == torch.bool else words


def empty_of(kind: ElementType, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor whose words are to be written, in memory as that of `zeros_of`.

    >>> empty_of(element_type(torch.float16), (2, 1)).shape
    torch.Size([2, 1])
    """
    return _in_numpy(np.empty, kind, shape)


def zeros_of(kind: ElementType, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor of zero words. Where they are not written they take no memory, if the system gives it.

    The memory is numpy's, because numpy asks the system for huge pages: the first write then takes a quarter of the
    time that it takes in torch's memory.

    >>> zeros_of(element_type(torch.float16), (2, 1))
    tensor([[0.],
            [0.]], dtype=torch.float16)
    """
    return _in_numpy(np.zeros, kind, shape)


def _in_numpy(make: Callable[..., Numbers], kind: ElementType, shape: tuple[int, ...]) -> Tensor:
    n_bytes = math.prod(shape) * kind.itemsize
    if not n_bytes:
        return torch.empty(shape, dtype=kind.torch)
    return torch.from_numpy(make(n_bytes, np.uint8)).view(kind.torch).reshape(shape)


def tensor_of(words: Numbers, kind: ElementType) -> Tensor:
    """Copy words into a flat tensor; complex words become the real numbers that they are made of."""
    real = {"complex64": torch.float32, "complex128": torch.float64}.get(kind.name, kind.torch)
    tensor = torch.empty(words.nbytes // real.itemsize, dtype=real)
    words_of(tensor)[:] = words
    return tensor
