"""Transformations that change the values of pixels."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from n2d2.error_handler import WrongValue, check_choice
from n2d2.fields import choice, flag
from n2d2.transform import pixels
from n2d2.transform.base import Transformation
from n2d2.transform.colors import CHANNELS, COLOR_SPACES
from n2d2.transform.numbers import check_values

OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Plus": torch.add,
    "Minus": torch.sub,
    "Multiplies": torch.mul,
    "Divides": torch.div,
}
Number = float | Sequence[float] | Callable[[], float]  # one, one per channel, or one that is known later


def _values(value: Number, x: Tensor) -> Tensor:
    return pixels.per_channel(value() if callable(value) else value, x)


def _check_divisor(name: str, value: Number, operator: str) -> None:
    """Refuse to divide by 0: every pixel would be infinite, or no number."""
    if operator == "Divides" and 0 in (value if isinstance(value, Sequence) else (value,)):
        raise WrongValue(f"{name}={value!r} is illegal: it divides, so it must not be 0")


@dataclass(repr=False)
class RangeAffine(Transformation):
    """(x first_operator first_value) second_operator second_value, as float32, of the values that x has: bytes 0..255.

    A value is a number, a list with one per channel, or a callable that returns the number when it is first needed.
    With `truncate` the result loses its fraction.
    """

    first_operator: str = choice("Plus", *OPERATORS)
    first_value: Number = field(default=0.0, metadata={"check": check_values})
    second_operator: str = choice("Plus", *OPERATORS)
    second_value: Number = field(default=0.0, metadata={"check": check_values})
    truncate: bool = flag(default=False)

    def __post_init__(self) -> None:
        _check_divisor("first_value", self.first_value, self.first_operator)
        _check_divisor("second_value", self.second_value, self.second_operator)

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        y = OPERATORS[self.first_operator](x.float(), _values(self.first_value, x))
        y = OPERATORS[self.second_operator](y, _values(self.second_value, x))
        return y.trunc() if self.truncate else y


@dataclass(repr=False)
class ColorSpace(Transformation):
    """Another colour space: a name of `COLOR_SPACES`."""

    color_space: str = field(metadata={"check": lambda name, value: check_choice(name, value, COLOR_SPACES)})

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        return COLOR_SPACES[self.color_space](x)


@dataclass(repr=False)
class ChannelExtraction(Transformation):
    """One channel: a name of `CHANNELS`. An image of one channel stays as it is."""

    channel: str = field(metadata={"check": lambda name, value: check_choice(name, value, CHANNELS)})

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        return x if x.shape[1] == 1 else CHANNELS[self.channel](x)


@dataclass(repr=False)
class Channels(Transformation):
    """Other channels side by side, each made of all the old ones by transformations of its own."""

    channels: Sequence[Sequence[Transformation]]

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        return torch.cat([functools.reduce(lambda y, step: step(y, generator), steps, x) for steps in self.channels], 1)


@dataclass(repr=False)
class Equalize(Transformation):
    """The histogram of each image of bytes spread evenly over 0..255, of colours that of L*; `method` is "Standard"."""

    method: str = choice("Standard", "Standard")

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        if x.dtype != torch.uint8:
            raise WrongValue(f"Equalize needs bytes, not {x.dtype}: put it before RangeAffine")
        if x.shape[1] == 1:
            return pixels.equalized(x)
        lab = COLOR_SPACES["CIELab"](x)
        return COLOR_SPACES["CIELab_to_BGR"](torch.cat((pixels.equalized(lab[:, :1]), lab[:, 1:]), dim=1))
