"""N2D2's transformations of stimuli: callables on batches, with N2D2's parameters.

A batch is uint8 or float32, (n, channels, height, width), colours in the order blue, green, red. As in N2D2, integers
stay integers (0..255, rounded) until arithmetic makes them floats; what is still integer at the end is what a provider
that normalizes scales to [0, 1]. Chance comes from the generator that is passed in, None being torch's own.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from n2d2.error_handler import WrongInputType, WrongValue, check_choice
from n2d2.fields import check_fields, choice, count, flag, number, printed
from n2d2.transform import pixels
from prunecell.errors import check_count, check_number

APPLY_TO = {
    "All": {"Learn", "Validation", "Test", "Unpartitioned"},
    "LearnOnly": {"Learn"},
    "ValidationOnly": {"Validation"},
    "TestOnly": {"Test"},
    "NoLearn": {"Validation", "Test"},
    "NoValidation": {"Learn", "Test"},
    "NoTest": {"Learn", "Validation"},
}


OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Plus": torch.add,
    "Minus": torch.sub,
    "Multiplies": torch.mul,
    "Divides": torch.div,
}
Number = float | Sequence[float] | Callable[[], float]  # one, one per channel, or one that is known later


def _size() -> Any:  # noqa: ANN401 (a field of the dataclasses below)
    """A field without default that holds a number of pixels."""
    return field(metadata={"check": lambda name, value: check_count(name, value, low=1)})


def _interval(low: float, high: float) -> Any:  # noqa: ANN401
    """A field that holds two numbers, the first not above the second."""
    return field(default=(low, high), metadata={"check": _check_interval})


def _check_interval(name: str, value: Sequence[float]) -> None:
    low, high = value
    check_number(name, low, low=-math.inf)
    check_number(name, high, low=low)


@dataclass(frozen=True, repr=False)
class Transformation:
    """What all transformations share. Never instantiated itself.

    Args:
        apply_to: the partitions it touches, by keyword: a name of `APPLY_TO`.

    Raises:
        WrongValue, WrongInputType: a parameter is illegal; the message names it and says what is legal.
    """

    _: KW_ONLY
    apply_to: str = choice("All", *APPLY_TO)

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Transform a batch; see the module's head."""
        return self._apply(x, generator)

    def __repr__(self) -> str:
        return printed(self)

    def _apply(self, _: Tensor, __: Generator | None, /) -> Tensor:
        raise TypeError(f"{type(self).__name__} is what transformations share: use one of TRANSFORMATIONS")


class Composite:
    """Transformations one after the other, each with its own `apply_to`."""

    def __init__(self, transformations: Sequence[Transformation]) -> None:
        self._transformations: list[Transformation] = []
        for transformation in transformations:
            self.append(transformation)
        if not self._transformations:
            raise WrongValue("transformations=[] is illegal: it must have at least one")

    def append(self, transformation: Transformation) -> None:
        """Add one at the end."""
        if not isinstance(transformation, Transformation):
            raise WrongInputType(f"{transformation!r} is no transformation; legal: {', '.join(TRANSFORMATIONS)}")
        self._transformations.append(transformation)

    def get_transformations(self) -> list[Transformation]:
        """The transformations, in order."""
        return list(self._transformations)

    def __iter__(self) -> Iterator[Transformation]:
        return iter(self._transformations)

    def __repr__(self) -> str:
        return f"Composite({', '.join(map(repr, self))})"


@dataclass(frozen=True, repr=False)
class Rescale(Transformation):
    """Bilinear resize to `width` x `height`.

    With `keep_aspect_ratio` to the largest size that fits into them, or, without `resize_to_fit`, to the smallest
    that covers them.
    """

    width: int = _size()
    height: int = _size()
    keep_aspect_ratio: bool = flag(default=False)
    resize_to_fit: bool = flag(default=True)

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        height, width = self.height, self.width
        if self.keep_aspect_ratio:
            factors = height / x.shape[-2], width / x.shape[-1]
            factor = min(factors) if self.resize_to_fit else max(factors)
            height, width = (max(1, round(size * factor)) for size in x.shape[-2:])
        return pixels.resized(x, height, width)


@dataclass(frozen=True, repr=False)
class PadCrop(Transformation):
    """The middle of the image, `width` x `height`, padded where it is smaller.

    With `additive_wh` width and height are added to the image's own. `border_value` has one number, or one per channel.
    """

    width: int = _size()
    height: int = _size()
    additive_wh: bool = flag(default=False)
    border_type: str = choice("MinusOneReflectBorder", *pixels.BORDERS)
    border_value: float | Sequence[float] = 0.0

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        old_height, old_width = x.shape[-2:]
        height = self.height + self.additive_wh * old_height
        width = self.width + self.additive_wh * old_width
        top, left = (torch.tensor([int((old - new) / 2)]) for old, new in ((old_height, height), (old_width, width)))
        cover = pixels.per_channel(self.border_value, x)
        return pixels.window(x, top, left, (height, width), self.border_type, cover)


@dataclass(frozen=True, repr=False)
class SliceExtraction(Transformation):
    """A slice of `width` x `height` whose corner is at (`offset_x`, `offset_y`), or by chance anywhere inside.

    Before it is cut, the image is turned about its middle and magnified by chance if so asked (angles in degrees,
    counterclockwise). An image that is smaller is padded as by PadCrop if `allow_padding`, else refused.
    """

    width: int = _size()
    height: int = _size()
    offset_x: int = count(0)
    offset_y: int = count(0)
    random_offset_x: bool = flag(default=False)
    random_offset_y: bool = flag(default=False)
    random_rotation: bool = flag(default=False)
    random_rotation_range: Sequence[float] = _interval(0.0, 360.0)
    random_scaling: bool = flag(default=False)
    random_scaling_range: Sequence[float] = _interval(0.8, 1.2)
    allow_padding: bool = flag(default=False)
    border_type: str = choice("MinusOneReflectBorder", *pixels.BORDERS)
    border_value: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_rotation or self.random_scaling:
            check_choice("border_type", self.border_type, pixels.WARPED)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        if self.random_rotation or self.random_scaling:
            angle = _between(self.random_rotation_range if self.random_rotation else (0, 0), len(x), generator)
            scale = _between(self.random_scaling_range if self.random_scaling else (1, 1), len(x), generator)
            x = pixels.turned(x, angle, scale, self.border_type)
        if self.allow_padding:
            sizes = max(self.width, x.shape[-1]), max(self.height, x.shape[-2])
            x = PadCrop(*sizes, border_type=self.border_type, border_value=self.border_value)(x)
        height, width = x.shape[-2:]
        top = self._starts(len(x), height - self.height, self.offset_y, self.random_offset_y, generator)
        left = self._starts(len(x), width - self.width, self.offset_x, self.random_offset_x, generator)
        cover = pixels.per_channel(self.border_value, x)
        return pixels.window(x, top, left, (self.height, self.width), self.border_type, cover)

    def _starts(self, n: int, room: int, offset: int, by_chance: int, generator: Generator | None) -> Tensor:
        if room < 0 or (offset > room and not by_chance and not self.allow_padding):
            raise WrongValue(
                f"{self} does not lie in the image: {room} pixels remain: make it smaller, or allow_padding"
            )
        return torch.randint(room + 1, (n,), generator=generator) if by_chance else torch.tensor([offset])


@dataclass(frozen=True, repr=False)
class RandomResizeCrop(Transformation):
    """A rectangle by chance, resized to `width` x `height` (Szegedy 2015, https://arxiv.org/abs/1409.4842).

    Its area is `scale_min` to `scale_max` of the image's, its width `ratio_min` to `ratio_max` of its height.
    """

    width: int = _size()
    height: int = _size()
    scale_min: float = number(0.08, low=0, high=1, open_low=True)
    scale_max: float = number(1.0, low=0, high=1, open_low=True)
    ratio_min: float = number(3 / 4, low=0, open_low=True)
    ratio_max: float = number(4 / 3, low=0, open_low=True)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        area = _between((self.scale_min, self.scale_max), len(x), generator) * x.shape[-1] * x.shape[-2]
        ratio = _between((math.log(self.ratio_min), math.log(self.ratio_max)), len(x), generator).exp()
        places = torch.rand(len(x), 2, generator=generator)
        height = (area / ratio).sqrt().round().clamp(1, x.shape[-2]).long()
        width = (area * ratio).sqrt().round().clamp(1, x.shape[-1]).long()
        top = (places[:, 0] * (x.shape[-2] - height + 1)).long()
        left = (places[:, 1] * (x.shape[-1] - width + 1)).long()
        boxes = torch.stack((top, top + height, left, left + width), dim=1).tolist()
        cut = (image[None, :, t:b, lo:hi] for image, (t, b, lo, hi) in zip(x, boxes, strict=True))
        return torch.cat([pixels.resized(image, self.height, self.width) for image in cut])


@dataclass(frozen=True, repr=False)
class Flip(Transformation):
    """Mirrored left to right (horizontal) or upside down (vertical), always or every other time by chance."""

    horizontal_flip: bool = flag(default=False)
    vertical_flip: bool = flag(default=False)
    random_horizontal_flip: bool = flag(default=False)
    random_vertical_flip: bool = flag(default=False)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        for axis, always, by_chance in (
            (-1, self.horizontal_flip, self.random_horizontal_flip),
            (-2, self.vertical_flip, self.random_vertical_flip),
        ):
            if always:
                x = x.flip(axis)
            if by_chance:
                chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5  # noqa: PLR2004 (every other time)
                x = torch.where(chosen, x.flip(axis), x)
        return x


@dataclass(frozen=True, repr=False)
class RangeAffine(Transformation):
    """(x first_operator first_value) second_operator second_value, as float32.

    A value is a number, a list with one per channel, or a callable that returns the number when it is first needed.
    With `truncate` the result loses its fraction.
    """

    first_operator: str = choice("Plus", *OPERATORS)
    first_value: Number = 0.0
    second_operator: str = choice("Plus", *OPERATORS)
    second_value: Number = 0.0
    truncate: bool = flag(default=False)

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        y = OPERATORS[self.first_operator](x.float(), _values(self.first_value, x))
        y = OPERATORS[self.second_operator](y, _values(self.second_value, x))
        return y.trunc() if self.truncate else y


@dataclass(frozen=True, repr=False)
class ColorSpace(Transformation):
    """Another colour space: a name of `COLOR_SPACES`."""

    color_space: str = field(metadata={"check": lambda name, value: check_choice(name, value, COLOR_SPACES)})

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        return COLOR_SPACES[self.color_space](x)


@dataclass(frozen=True, repr=False)
class ChannelExtraction(Transformation):
    """One channel: a name of `CHANNELS`."""

    channel: str = field(metadata={"check": lambda name, value: check_choice(name, value, CHANNELS)})

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        convert, index = CHANNELS[self.channel]
        return convert(x)[:, index : index + 1]


@dataclass(frozen=True, repr=False)
class Channels(Transformation):
    """Other channels side by side, each made of all the old ones by transformations of its own."""

    channels: Sequence[Sequence[Transformation]]

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        return torch.cat([functools.reduce(lambda y, step: step(y, generator), steps, x) for steps in self.channels], 1)


@dataclass(frozen=True, repr=False)
class Equalize(Transformation):
    """The histogram of each image spread evenly over 0..255; for one channel of integers, `method` "Standard" only."""

    method: str = choice("Standard", "Standard")

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        if x.dtype != torch.uint8 or x.shape[1] != 1:
            raise WrongValue(
                "Equalize needs one channel of integers: put it before RangeAffine, after ChannelExtraction"
            )
        return pixels.equalized(x)


@dataclass(frozen=True, repr=False)
class Distortion(Transformation):
    """Elastic distortion (Simard 2003), random magnification and rotation.

    Each pixel moves by noise in [-1, 1], smoothed by a Gaussian (`elastic_gaussian_size` pixels wide, `elastic_sigma`)
    and multiplied by `elastic_scaling`; the whole by up to +/- `scaling` percent and +/- `rotation` degrees.
    """

    elastic_gaussian_size: int = count(15, low=1)
    elastic_sigma: float = number(6.0, low=0, open_low=True)
    elastic_scaling: float = number(0.0, low=0)
    scaling: float = number(0.0, low=0, high=99)
    rotation: float = number(0.0, low=0, high=360)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        angle = _between((-self.rotation, self.rotation), len(x), generator)
        scale = 1 + _between((-self.scaling, self.scaling), len(x), generator) / 100
        noise = torch.rand(len(x) * 2, 1, *x.shape[-2:], generator=generator) * 2 - 1
        place = torch.arange(self.elastic_gaussian_size) - (self.elastic_gaussian_size - 1) / 2
        bell = torch.softmax(-place.square() / (2 * self.elastic_sigma**2), 0)
        smooth = F.conv2d(
            F.conv2d(noise, bell[None, None, :, None], padding="same"), bell[None, None, None], padding="same"
        )
        shift = self.elastic_scaling * smooth.reshape(len(x), 2, *x.shape[-2:])
        return pixels.turned(x, angle, scale, "ReplicateBorder", shift)


def _between(interval: Sequence[float], n: int, generator: Generator | None) -> Tensor:
    low, high = interval
    return low + (high - low) * torch.rand(n, generator=generator)


def _values(value: Number, x: Tensor) -> Tensor:
    return pixels.per_channel(value() if callable(value) else value, x)


def _reversed(x: Tensor) -> Tensor:
    return x.flip(1)


COLOR_SPACES: dict[str, Callable[[Tensor], Tensor]] = {  # HLS, CIELab and CIELuv are not here
    "BGR": pixels.to_bgr,
    "RGB": lambda x: _reversed(pixels.to_bgr(x)),
    "HSV": pixels.to_hsv,
    "YCrCb": pixels.to_ycrcb,
    "RGB_to_BGR": _reversed,
    "RGB_to_HSV": lambda x: pixels.to_hsv(_reversed(x)),
    "RGB_to_YCrCb": lambda x: pixels.to_ycrcb(_reversed(x)),
}
CHANNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "Blue": (pixels.to_bgr, 0),
    "Green": (pixels.to_bgr, 1),
    "Red": (pixels.to_bgr, 2),
    "Gray": (pixels.gray, 0),
    "Hue": (pixels.to_hsv, 0),
    "Saturation": (pixels.to_hsv, 1),
    "Value": (pixels.to_hsv, 2),
    "Y": (pixels.to_ycrcb, 0),
    "Cr": (pixels.to_ycrcb, 1),
    "Cb": (pixels.to_ycrcb, 2),
}
TRANSFORMATIONS: dict[str, type[Transformation]] = {  # N2D2's names in INI files
    "ChannelExtractionTransformation": ChannelExtraction,
    "ColorSpaceTransformation": ColorSpace,
    "DistortionTransformation": Distortion,
    "EqualizeTransformation": Equalize,
    "FlipTransformation": Flip,
    "PadCropTransformation": PadCrop,
    "RandomResizeCropTransformation": RandomResizeCrop,
    "RangeAffineTransformation": RangeAffine,
    "RescaleTransformation": Rescale,
    "SliceExtractionTransformation": SliceExtraction,
}
