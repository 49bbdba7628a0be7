"""Prices: how many bits the integers of a tensor take, and what a change of one costs, in closed form.

The coder that is thought of codes a flag for zero, a sign, and the magnitude in unary. It has learned how often a
weight of a row, a column or a kernel is no zero, and how the magnitudes go on. A tensor is seen as (rows, inputs,
positions): a kernel is what belongs to one row and one input.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Image = tuple[int, int, int]
"""(channels, height, width) that the columns of a matrix come from."""

_LINES, _KERNEL = 0.7, 0.35
"""How far the densities of rows and columns, and of kernels, are believed."""
_RAREST, _OFTENEST = 1e-4, 0.9
_MOST_OFTEN = 1 - 2**-32
"""How often a magnitude goes on at most: of huge ones the quotient would be 1, and the price of their end infinite."""
_CHEAPEST = 0.5
"""Bits that a weight costs at least, so that no price pulls away from zero."""
FLAG_BITS, GROWTH_BITS = 4.0, 1.5
"""Of vectors: bits of a weight that is no zero, and bits times the magnitude for a magnitude that is one larger."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """The prices of a matrix or kernel, as they were when they were taken.

    A weight that is a step away from zero costs clamp(row + column + kernel, low, high) bits; each further step costs
    `growth` bits more.

    Attributes:
        rows: (rows, 1, 1).
        columns: (1, inputs, positions).
        kernels: (rows, inputs, 1), or None where a kernel has one position.
    """

    rows: Tensor
    columns: Tensor
    kernels: Tensor | None
    low: float
    high: float
    growth: float

    @classmethod
    def of(cls, integers: Tensor, image: Image | None) -> "Prices":
        """The prices of these integers.

        Args:
            integers: (rows, ...) whole numbers in any dtype, not empty.
            image: what the columns come from; the densities of neighbouring pixels are then averaged.
        """
        q = _as_kernels(integers)
        n_rows, n_inputs, n_positions = q.shape
        lives = (q != 0).float()
        n_lives, total = float(lives.sum()), float(q.abs().sum(dtype=torch.float64))
        density = (n_lives + 1) / (q.numel() + 10)
        goes_on = min((total - n_lives + 1) / (total + 2), _MOST_OFTEN)
        rows = (lives.sum((1, 2)) + 4 * density) / (n_inputs * n_positions + 4)
        columns = (_smooth(lives.sum(0), image) + 4 * density) / (n_rows + 4)
        once = 1 - math.log2(1 - goes_on)  # the sign, and the end of the magnitude
        of_rows = _bits_against(density) + _LINES * _bits(rows / density) + once
        kernels = None
        if n_positions > 1:
            kernels = _KERNEL * _bits((lives.sum(2, keepdim=True) + 2 * density) / (n_positions + 2))
            of_rows = of_rows - _KERNEL * _bits(rows)
        return cls(
            rows=of_rows.view(-1, 1, 1),
            columns=(_LINES * _bits(columns / density)).unsqueeze(0),
            kernels=kernels,
            low=max(_CHEAPEST, _bits_against(_OFTENEST) + once),
            high=_bits_against(_RAREST) + once,
            growth=-math.log2(goes_on),
        )

    def slope(self, latents: Tensor, *, only_growth: bool) -> Tensor:
        """The derivative of the bits, by the latents: in bits a step, of the latents' shape and dtype.

        Args:
            latents: weights in units of their step.
            only_growth: whether what is less than one step away from zero is free, because zeros are fixed.
        """
        far = latents.abs() >= 1
        near = 0.0 if only_growth else self._of_one().to(latents.dtype).view_as(latents)
        return torch.where(far, self.growth, near) * latents.sign()

    def _of_one(self) -> Tensor:
        price = self.rows + self.columns
        return (price if self.kernels is None else price + self.kernels).clamp_(self.low, self.high)


def vector_slope(latents: Tensor, *, only_growth: bool) -> Tensor:
    """See `Prices.slope`: the same for a vector, such as a bias, whose integers are few and large.

    >>> vector_slope(torch.tensor([0.2, -3.0]), only_growth=False)
    tensor([ 4.0000, -0.5000])
    """
    size = latents.abs()
    near = torch.zeros_like(size) if only_growth else torch.full_like(size, FLAG_BITS)
    return torch.where(size < 1, near, GROWTH_BITS / size) * latents.sign()


def _as_kernels(tensor: Tensor) -> Tensor:
    """(rows, inputs, positions)."""
    return tensor.reshape(*tensor.shape[:2], -1)


def _bits(share: Tensor) -> Tensor:
    return -torch.log2(share)


def _bits_against(density: float) -> float:
    """How many bits more one of that density takes than none."""
    return math.log2((1 - density) / density)


def _smooth(counts: Tensor, image: Image | None) -> Tensor:
    """The mean over each pixel and its neighbours; (inputs, positions)."""
    if image is None:
        return counts
    pixels = counts.reshape(-1, 1, *image[1:])
    return F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False).view_as(counts)
