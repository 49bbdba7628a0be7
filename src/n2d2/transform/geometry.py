"""Transformations that move pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.fields import accepted, choice, count, flag, number
from n2d2.transform import pixels
from n2d2.transform.base import Transformation
from n2d2.transform.numbers import check_numbers
from prunecell.checks import check_count

DRAWS = 10  # of a RandomResizeCrop that must fit


def _size(low: int = 1) -> Any:  # noqa: ANN401 (a field of the dataclasses below)
    """A field without default that holds a number of pixels."""
    return field(metadata={"check": lambda name, value: check_count(name, value, low=low)})


def _interval(low: float, high: float) -> Any:  # noqa: ANN401
    """A field that holds two numbers, the first not above the second."""
    return field(default=(low, high), metadata={"check": _check_interval})


def _check_interval(name: str, value: Sequence[float]) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004 (as the message says)
        raise WrongInputType(f"{name}={value!r} is illegal: it must be [lowest, highest]")
    for one in value:
        check_numbers(name, one)
    if value[0] > value[1]:
        raise WrongValue(f"{name}={value!r} is illegal: it must be [lowest, highest]")


def _between(interval: Sequence[float], n: int, generator: Generator | None) -> Tensor:
    low, high = interval
    return low + (high - low) * torch.rand(n, generator=generator)


@dataclass(repr=False)
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
            height, width = (max(1, int(factor * size)) for size in x.shape[-2:])
        return pixels.resized(x, height, width)


@dataclass(repr=False)
class PadCrop(Transformation):
    """The middle of the image, `width` x `height`, padded where it is smaller.

    Of an odd number of pixels that are added, one more is at the top, and at the left. With `additive_wh` width and
    height are added to the image's own. `border_value` is that of "ConstantBorder": one number per channel, 0 for
    those that it leaves out (a number that is no list is for all).
    """

    width: int = _size()
    height: int = _size()
    additive_wh: bool = flag(default=False)
    border_type: str = choice("MinusOneReflectBorder", *pixels.BORDERS)
    border_value: Sequence[float] = field(default=(), metadata={"check": check_numbers})

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        old_height, old_width = x.shape[-2:]
        height = self.height + self.additive_wh * old_height
        width = self.width + self.additive_wh * old_width
        top, left = (torch.tensor([(old - new) // 2]) for old, new in ((old_height, height), (old_width, width)))
        cover = pixels.border_color(self.border_value, x)
        return pixels.window(x, top, left, (height, width), self.border_type, cover)


@dataclass(repr=False)
class SliceExtraction(Transformation):
    """A slice of `width` x `height` whose corner is at (`offset_x`, `offset_y`), or by chance anywhere inside.

    A width or height of 0 is the image's own. With `random_scaling` the slice is larger by a factor by chance, and then
    resized; with `random_rotation` it is turned about its middle by an angle by chance (in degrees, counterclockwise).
    Where it leaves the image, which takes `allow_padding` unless only its corners do, the border is seen.
    """

    width: int = _size(low=0)
    height: int = _size(low=0)
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
    border_value: Sequence[float] = field(default=(), metadata={"check": check_numbers})

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        n, height, width = len(x), self.height or x.shape[-2], self.width or x.shape[-1]
        scale = _between(self.random_scaling_range if self.random_scaling else (1, 1), n, generator)
        high = (height * scale).round() if self.height else torch.full_like(scale, height)
        wide = (width * scale).round() if self.width else torch.full_like(scale, width)
        top = self._starts(x.shape[-2] - high, self.offset_y, self.random_offset_y, generator)
        left = self._starts(x.shape[-1] - wide, self.offset_x, self.random_offset_x, generator)
        cover = pixels.border_color(self.border_value, x)
        if not (self.random_rotation or self.random_scaling):
            return pixels.window(x, top.long(), left.long(), (height, width), self.border_type, cover)
        angle = _between(self.random_rotation_range if self.random_rotation else (0, 0), n, generator).deg2rad()
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        down, across = (
            (torch.arange(new) - (new - 1) / 2) * (old / new)[:, None] for new, old in ((height, high), (width, wide))
        )
        down, across = down[:, :, None], across[:, None, :]
        columns = (left + (wide - 1) / 2)[:, None, None] + across * cos + down * sin
        rows = (top + (high - 1) / 2)[:, None, None] - across * sin + down * cos
        return pixels.sampled(x, columns, rows, self.border_type, cover)

    def _starts(self, room: Tensor, offset: int, by_chance: int, generator: Generator | None) -> Tensor:
        """Where the slices of a batch begin, (n,) floats, given how many pixels remain beside them."""
        if not self.allow_padding and float(room.min()) < (0 if by_chance else offset):
            raise WrongValue(
                f"{self} does not lie in the image: {int(room.min())} pixels remain: make it smaller, or allow_padding"
            )
        if not by_chance:
            return torch.full_like(room, offset)
        return (torch.rand(len(room), generator=generator) * (room.clamp(min=0) + 1)).floor()


@dataclass(repr=False)
class RandomResizeCrop(Transformation):
    """A rectangle by chance, resized to `width` x `height` (Szegedy 2015, https://arxiv.org/abs/1409.4842).

    Its area is `scale_min` to `scale_max` of the image's, its width `ratio_min` to `ratio_max` of its height. Where ten
    draws do not fit into the image, it is as large as these ratios let it be, at the upper left corner.
    """

    width: int = _size()
    height: int = _size()
    scale_min: float = number(1.0, low=0, high=1)
    scale_max: float = number(1.0, low=0, high=1)
    ratio_min: float = number(1.0, low=0)
    ratio_max: float = number(1.0, low=0)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        sizes = torch.tensor(x.shape[-2:])
        low, high = torch.tensor([self.ratio_min, self.ratio_max]).log().tolist()
        area = _between((self.scale_min, self.scale_max), len(x) * DRAWS, generator) * x.shape[-1] * x.shape[-2]
        ratio = _between((low, high), len(x) * DRAWS, generator).exp()
        drawn = torch.stack(((area / ratio).sqrt(), (area * ratio).sqrt()), 1).round().reshape(len(x), DRAWS, 2)
        fits = ((drawn > 0) & (drawn <= sizes)).all(2)
        first = drawn[torch.arange(len(x)), fits.int().argmax(1)]  # height, width
        fit = fits.any(1, keepdim=True)
        size = torch.where(fit, first, torch.tensor(self._largest(*x.shape[-2:]), dtype=torch.float32)).long()
        corner = (torch.rand(len(x), 2, generator=generator) * (sizes - size + 1)).long() * fit
        boxes = torch.cat((corner, corner + size), 1).tolist()
        cut = (
            image[None, :, top:bottom, left:right] for image, (top, left, bottom, right) in zip(x, boxes, strict=True)
        )
        return torch.cat([pixels.resized(image, self.height, self.width) for image in cut])

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        low, high = sorted((self.ratio_min, self.ratio_max))
        if width < low * height:
            return max(1, round(width / low)), width
        return height, max(1, min(width, round(height * high)))


@dataclass(repr=False)
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


@dataclass(repr=False)
class Distortion(Transformation):
    """Elastic distortion (Simard 2003), random magnification and rotation.

    Each pixel moves by noise in [-1, 1], smoothed by a Gaussian (`elastic_gaussian_size` pixels wide, `elastic_sigma`)
    and multiplied by `elastic_scaling`; the whole by up to +/- `scaling` percent, in each direction by itself, and
    +/- `rotation` degrees. Beyond the edges, the pixels of the edges are seen.

    Args:
        ignore_missing_data: has no effect; it is about labels per pixel.
    """

    elastic_gaussian_size: int = count(15, low=1)
    elastic_sigma: float = number(6.0, low=0, open_low=True)
    elastic_scaling: float = number(0.0, low=0)
    scaling: float = number(0.0, low=0, high=99)
    rotation: float = number(0.0, low=0, high=360)
    ignore_missing_data: bool = accepted(default=True)

    def _apply(self, x: Tensor, generator: Generator | None, /) -> Tensor:
        n, (height, width) = len(x), x.shape[-2:]
        angle = _between((-self.rotation, self.rotation), n, generator).deg2rad()[:, None, None]
        by_column, by_row = (_between((-self.scaling, self.scaling), 2 * n, generator) / 100).reshape(2, n, 1, 1)
        across, down = torch.arange(width) - width // 2, (torch.arange(height) - height // 2)[:, None]
        columns, rows = self.elastic_scaling * self._smooth_noise(n, height, width, generator)
        columns = columns + by_column * across + across * (angle.cos() - 1) + down * angle.sin()
        rows = rows + by_row * down + down * (angle.cos() - 1) - across * angle.sin()
        places = torch.arange(width) - columns, torch.arange(height)[:, None] - rows
        return pixels.sampled(x, *places, "ReplicateBorder", torch.zeros(1, 1, 1))

    def _smooth_noise(self, n: int, height: int, width: int, generator: Generator | None) -> Tensor:
        """Noise in [-1, 1] under the Gaussian, (2, n, height, width)."""
        noise = torch.rand(n * 2, 1, height, width, generator=generator) * 2 - 1
        place = torch.arange(self.elastic_gaussian_size) - (self.elastic_gaussian_size - 1) / 2
        bell = torch.softmax(-place.square() / (2 * self.elastic_sigma**2), 0)
        down = F.conv2d(noise, bell[None, None, :, None], padding="same")
        return F.conv2d(down, bell[None, None, None], padding="same").reshape(2, n, height, width)


@dataclass(repr=False)
class Reshape(Transformation):
    """The same numbers in another shape, read pixel by pixel, row by row, the channels of a pixel together.

    Args:
        nb_rows: the new height; 0: as it is.
        nb_cols: the new width; 0: what is left.
        nb_channels: the new channels; 0: as they are.
    """

    nb_rows: int = _size(low=0)
    nb_cols: int = count(0)
    nb_channels: int = count(0)

    def _apply(self, x: Tensor, _: Generator | None, /) -> Tensor:
        rows, channels = self.nb_rows or x.shape[2], self.nb_channels or x.shape[1]
        columns, left = divmod(x[0].numel(), rows * channels)
        if left or (self.nb_cols and columns != self.nb_cols):
            raise WrongValue(
                f"{self} does not fit images of {x.shape[3]} x {x.shape[2]} pixels of {x.shape[1]} channels"
            )
        return x.permute(0, 2, 3, 1).reshape(len(x), rows, columns, channels).permute(0, 3, 1, 2)
