"""Rules: how a weight and its latent belong together, under each kind of spec.

A latent is what an optimizer moves; the weight is computed from it and is always a step times an integer.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from prunecell.quantization.prices import Image, Prices, vector_slope

_FIRST_OF_VECTORS = 0.05
"""The first step of biases, whose own scale says nothing: they begin at zero."""
_TRIED = 40
"""Steps among which the one of least squared error is chosen."""


class Rule(Protocol):
    """See the module. Steps are float32 and > 0, of a shape that broadcasts to the weight's."""

    @property
    def largest(self) -> int:
        """The largest integer; 0: any, and the latent is in units of the step."""
        ...

    @property
    def image(self) -> Image | None:
        """What the columns of the weight come from, where that is known."""
        ...

    @property
    def prices(self) -> Prices | None:
        """Of a matrix or kernel, if bits have a price."""
        ...

    def prices_of(self, integers: Tensor) -> Prices | None:
        """The prices of these integers; None for a vector, and where bits have none."""
        ...

    def take_prices(self, prices: Prices | None) -> None:
        """Go on with these."""
        ...

    def first_step(self, weight: Tensor) -> Tensor:
        """The step to begin with."""
        ...

    def latent_of(self, weight: Tensor, step: Tensor) -> Tensor:
        """The latent of a weight that came from elsewhere."""
        ...

    def integers_of(self, latent: Tensor, step: Tensor) -> Tensor:
        """The integers, in the latent's dtype; a zero is +0."""
        ...

    def gradients(self, gradient: Tensor, latent: Tensor, step: Tensor, price: "BitPrice") -> tuple[Tensor, Tensor]:
        """From the gradient of the weight to those of the latent (a new tensor) and of the logarithm of the step."""
        ...


@dataclass(frozen=True, kw_only=True)
class BitPrice:
    """What a bit costs now.

    Attributes:
        lam: in units of the loss.
        only_growth: whether zeros are fixed, so that only large integers have a price.
    """

    lam: float
    only_growth: bool


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which steps are multiplied and divided: 16 bits are too few."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(eq=False, kw_only=True)
class RateRule:
    """The latent is in units of the step, and bits have a price."""

    largest: ClassVar[int] = 0

    image: Image | None
    prices: Prices | None = None

    def first_step(self, weight: Tensor) -> Tensor:
        """See `Rule`: the root of the mean square."""
        mean_square = float(weight.double().square().mean()) if weight.ndim > 1 else 0.0
        return torch.tensor(mean_square**0.5 or _FIRST_OF_VECTORS, dtype=torch.float32, device=weight.device)

    def latent_of(self, weight: Tensor, step: Tensor) -> Tensor:
        """See `Rule`."""
        return (weight.to(wide_dtype(weight.dtype)) / step).to(weight.dtype)

    def integers_of(self, latent: Tensor, step: Tensor) -> Tensor:  # noqa: ARG002 - the form of a rule
        """See `Rule`."""
        return latent.round().add_(0.0)  # -0 + 0 is +0

    def gradients(self, gradient: Tensor, latent: Tensor, step: Tensor, price: BitPrice) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        scaled = gradient * step.to(gradient.dtype)
        of_step = (scaled.to(wide_dtype(scaled.dtype)) * self.integers_of(latent, step)).sum().float()
        if price.lam:
            slope = vector_slope if self.prices is None else self.prices.slope
            scaled.add_(slope(latent, only_growth=price.only_growth), alpha=price.lam)
        return scaled, of_step

    def prices_of(self, integers: Tensor) -> Prices | None:
        """See `Rule`."""
        return Prices.of(integers, self.image) if integers.ndim > 1 else None

    def take_prices(self, prices: Prices | None) -> None:
        """See `Rule`."""
        self.prices = prices


@dataclass(frozen=True, eq=False, kw_only=True)
class IntRule:
    """The latent is in units of the weight, and integers are limited; the gradient goes straight through."""

    image: ClassVar[None] = None
    prices: ClassVar[None] = None

    largest: int

    def first_step(self, weight: Tensor) -> Tensor:
        """See `Rule`: for each channel the step of least squared error, (channels, 1, ...)."""
        rows = weight.double().reshape(len(weight) if weight.ndim > 1 else 1, -1)
        whole = (rows.abs().amax(1, keepdim=True) / self.largest).clamp_(min=torch.finfo(torch.float32).tiny)
        best, least = whole, self._errors(rows, whole)
        for tried in range(1, _TRIED):
            step = whole * (1 - tried / _TRIED)
            errors = self._errors(rows, step)
            best, least = torch.where(errors < least, step, best), torch.minimum(errors, least)
        return best.float().reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim > 1 else best.float().view(())

    def latent_of(self, weight: Tensor, step: Tensor) -> Tensor:  # noqa: ARG002 - the form of a rule
        """See `Rule`."""
        return weight.clone()

    def integers_of(self, latent: Tensor, step: Tensor) -> Tensor:
        """See `Rule`."""
        scaled = latent.to(wide_dtype(latent.dtype)) / step
        return scaled.round_().clamp_(-self.largest, self.largest).add_(0.0).to(latent.dtype)

    def gradients(self, gradient: Tensor, latent: Tensor, step: Tensor, price: BitPrice) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `Rule`: where an integer is at its limit, the step has the gradient and the latent none."""
        scaled = latent.to(wide_dtype(latent.dtype)) / step
        inside = scaled.abs() < self.largest + 0.5
        integers = self.integers_of(latent, step)
        of_step = gradient.to(scaled.dtype) * torch.where(inside, integers - scaled, integers)
        along = tuple(range(1, latent.ndim)) if latent.ndim > 1 else tuple(range(latent.ndim))
        of_step = (of_step.sum(along, keepdim=latent.ndim > 1) if along else of_step) * step
        return torch.where(inside, gradient, 0.0), of_step.float()

    def prices_of(self, integers: Tensor) -> None:
        """See `Rule`."""

    def take_prices(self, prices: Prices | None) -> None:
        """See `Rule`."""

    def _errors(self, rows: Tensor, step: Tensor) -> Tensor:
        rounded = (rows / step).round_().clamp_(-self.largest, self.largest) * step
        return (rounded - rows).square_().sum(1, keepdim=True)
