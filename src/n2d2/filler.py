"""Fillers of weights and biases at the beginning, with N2D2's parameters. They draw from torch's generator.

fan-in: connections into one output; fan-out: connections out of one input channel, kernel included.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor
from torch.nn import init

from n2d2.checked import Declared
from n2d2.error_handler import no_such_name
from n2d2.fields import choice, number

NORMS = ("FanIn", "Average", "FanOut")


def _fan(weight: Tensor, norm: str) -> float:
    """The count n that a variance is normalised by; `weight` is (out, in, *kernel), or 1-d for biases."""
    if weight.dim() < 2:  # noqa: PLR2004 - biases: one connection each
        return 1.0
    fan_in, fan_out = init._calculate_fan_in_and_fan_out(weight)  # noqa: SLF001 - torch's only spelling of it
    return {"FanIn": fan_in, "Average": (fan_in + fan_out) / 2, "FanOut": fan_out}[norm]


class Filler(Declared, shared=True):
    """What the fillers share: `isinstance(x, Filler)`. Never instantiated itself."""

    @abstractmethod
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` in place."""


class Constant(Filler):
    """Every value is `value`."""

    value: float = number(default=0.0)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` in place; any shape."""
        weight.fill_(self.value)


class Normal(Filler):
    """Normal with `mean` and `std_dev`."""

    mean: float = number(default=0.0)
    std_dev: float = number(default=1.0, low=0)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` in place; any shape."""
        weight.normal_(self.mean, self.std_dev)


class Uniform(Filler):
    """Uniform in [min, max]."""

    min: float = number(default=0.0)
    max: float = number(default=1.0)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` in place; any shape."""
        weight.uniform_(self.min, self.max)


class Xavier(Filler):
    """Variance scaling^2 / n, uniform or normal (Glorot & Bengio 2010); n by `variance_norm`."""

    variance_norm: str = choice(*NORMS, default="FanIn")
    distribution: str = choice("Uniform", "Normal", default="Uniform")
    scaling: float = number(default=1.0, low=0)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` (out, in, *kernel) in place."""
        n = _fan(weight, self.variance_norm)
        if self.distribution == "Normal":
            weight.normal_(0, self.scaling * n**-0.5)
        else:
            weight.uniform_(-1, 1).mul_(self.scaling * (3 / n) ** 0.5)


class He(Filler):
    """Normal, mean scaling * mean_norm / n, variance scaling^2 * 2 / n (He et al. 2015); n by `variance_norm`.

    >>> weight = torch.empty(100, 200)
    >>> _ = torch.manual_seed(0); He()(weight); round(weight.std().item(), 2)
    0.1
    """

    variance_norm: str = choice(*NORMS, default="FanIn")
    scaling: float = number(default=1.0, low=0)
    mean_norm: float = number(default=0.0)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Fill `weight` (out, in, *kernel) in place."""
        n = _fan(weight, self.variance_norm)
        weight.normal_(self.scaling * self.mean_norm / n, self.scaling * (2 / n) ** 0.5)


FILLERS: dict[str, type[Filler]] = {
    "Constant": Constant,
    "Normal": Normal,
    "Uniform": Uniform,
    "Xavier": Xavier,
    "He": He,
}


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
