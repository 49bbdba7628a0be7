"""Cells that scale each place of their input by what all its channels have there. N2D2 has them in INI files only."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from n2d2.cells.cell import Cell
from n2d2.error_handler import check_choice
from n2d2.fields import Check
from prunecell.checks import check_count, check_number

_ADDED = 1e-6
"""To the sum of squares, so that a place of zeros stays zero."""


class Normalize(Cell):
    """Each place scaled to the Euclidean norm 1: x / sqrt(sum over the channels of x^2 + 1e-6).

    Args:
        config: name, norm ("L2" alone), back_propagate.

    >>> import torch
    >>> Normalize()(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"norm": "L2"}
    CHECKS: ClassVar[Mapping[str, Check]] = {"norm": partial(check_choice, legal=("L2",))}

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, ...), unchanged in shape."""
        x = self.joined(inputs)
        return self.activated(x / (x.square().sum(1, keepdim=True) + _ADDED).sqrt())


class LRN(Cell):
    """Local response normalization (Krizhevsky 2012): x_i / (k + alpha sum of x_j^2)^beta.

    j runs over the channels from i - n // 2 to i + n // 2, as far as there are any.

    Args:
        config: name, n (>= 1), alpha, beta and k (>= 0), back_propagate.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "n": partial(check_count, low=1),
        **dict.fromkeys(("alpha", "beta", "k"), partial(check_number, low=0)),
    }

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, ...), unchanged in shape."""
        x, options = self.joined(inputs), self.options
        size = options["n"] // 2 * 2 + 1
        alpha = options["alpha"] * size  # torch takes the mean, not the sum
        wide = x[..., None] if x.dim() == 2 else x  # noqa: PLR2004
        made = F.local_response_norm(wide, size, alpha, options["beta"], options["k"])
        return self.activated(made.reshape(x.shape))
