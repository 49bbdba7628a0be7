"""How the values of a sparse matrix are stored: float32, float16, bfloat16, or int8 times one float32 scale a row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.errors import OptionError, UnknownNameError, nearest, quoted

MAX_INT8 = 127


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """One way to store values.

    Attributes:
        name: by which users call it.
        code: by which the kernels do (`native/values.h`).
        dtype: of the stored values.
        is_scaled: whether each row has a scale that its values are multiplied by.
    """

    name: str
    code: int
    dtype: torch.dtype
    is_scaled: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.dtype.itemsize

    def stored(self, values: Tensor, scales: Tensor | None) -> Tensor:
        """Values as they are stored.

        Args:
            values: (any,) floats, or integers that are stored so already.
            scales: of each one's row, where they are scaled.

        Raises:
            OptionError: a finite value is too large for the type.
        """
        if values.dtype == self.dtype:
            return values
        if scales is not None:
            return (values.float() / scales).round().clamp(-MAX_INT8, MAX_INT8).to(self.dtype)
        narrow = values.to(self.dtype)
        if bool((narrow.isinf() & values.isfinite()).any()):
            largest = float(values.abs().max())
            most = torch.finfo(self.dtype).max
            raise OptionError(f"values={self.name!r} is illegal for a weight of {largest:.6g}: at most {most:.6g} fits")
        return narrow


FP32 = ValueType(name="fp32", code=0, dtype=torch.float32)
FP16 = ValueType(name="fp16", code=1, dtype=torch.float16)
INT8 = ValueType(name="int8", code=2, dtype=torch.int8, is_scaled=True)
BF16 = ValueType(name="bf16", code=3, dtype=torch.bfloat16)
VALUES = {values.name: values for values in (FP32, FP16, BF16, INT8)}
VALUES_OF = {values.dtype: values for values in VALUES.values()}
"""The dtype of stored values -> how they are stored."""

EXACT = "exact"
"""The wish for values as they are: of the dtype of their weight."""


def check_values_wish(values: str) -> None:
    """Refuse a wish that is none.

    Raises:
        UnknownNameError: it is neither "exact" nor the name of a value type.
    """
    if not isinstance(values, str) or values not in (EXACT, *VALUES):
        raise UnknownNameError(f"values={quoted(values)} is illegal{nearest(values, (EXACT, *VALUES))}")


def values_for(wish: str, dtype: torch.dtype) -> ValueType:
    """How the values of a weight are stored: as wished, or "exact", in its own dtype; float64 becomes float32.

    Raises:
        UnknownNameError: the wish is neither "exact" nor the name of a value type.

    >>> values_for("exact", torch.bfloat16).name, values_for("int8", torch.bfloat16).name
    ('bf16', 'int8')
    """
    check_values_wish(wish)
    if wish != EXACT:
        return VALUES[wish]
    return next((values for values in VALUES.values() if values.dtype == dtype and not values.is_scaled), FP32)


def scales_of(largest: Tensor) -> Tensor:
    """The scales of rows by their largest magnitudes, float32 (n_rows,); rows of zeros have 1."""
    scales = largest / MAX_INT8
    return torch.where(scales > 0, scales, 1.0)
