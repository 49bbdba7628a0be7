"""Sizes: how many bytes integers take in an archive, by its own coder."""

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.contexts import grid_of, write_contexts
from prunecell.quantization.prices import Image

ENTRY = 11
"""Bytes of an archive for each tensor, beside its numbers: a name, a shape, a step; about."""
_LARGEST = 2**31 - 1


def n_bytes_of(integers: Tensor, image: Image | None = None) -> int:
    """The bytes of the integers alone; where the coder has no place for them, four for each.

    Args:
        integers: (...) whole numbers in any dtype.
        image: what the columns come from.

    >>> n_bytes_of(torch.zeros(100, 100)), n_bytes_of(torch.eye(100))
    (0, 95)
    """
    if not bool(integers.any()):
        return 0
    grid = grid_of(tuple(integers.shape), image[1] if image else 0)
    if grid is None or not float(integers.abs().max()) <= _LARGEST:
        return 4 * integers.numel()
    numbers = integers.detach().to("cpu", torch.int32).contiguous().numpy().ravel()
    data = write_contexts(np.ascontiguousarray(numbers), grid)
    return 4 * integers.numel() if data is None else len(data)
