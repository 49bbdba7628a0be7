"""The arithmetic under the transformations: windows, resizing and sampling of batches of images.

A batch is of integers or float32, (n, channels, height, width). What goes in as integers comes out as such, rounded.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from n2d2.error_handler import WrongValue


def _mirrored(place: Tensor, period: int, edge: int) -> Tensor:
    return torch.minimum(place % period, period - edge - place % period)


def _nearest(place: Tensor, n: int) -> Tensor:
    return place.clamp(0, n - 1)


BORDERS: dict[str, Callable[[Tensor, int], Tensor]] = {  # which of the n pixels is shown at a place beyond 0..n-1
    "ConstantBorder": _nearest,  # and then covered by the value
    "MeanBorder": _nearest,  # and then covered by the image's mean colour
    "ReplicateBorder": _nearest,  # aaa|abcd|ddd
    "ReflectBorder": lambda place, n: _mirrored(place, 2 * n, 1),  # cba|abcd|dcb
    "WrapBorder": lambda place, n: place % n,  # bcd|abcd|abc
    "MinusOneReflectBorder": lambda place, n: _mirrored(place, max(1, 2 * n - 2), 0),  # dcb|abcd|cba
}


def as_input(y: Tensor, x: Tensor) -> Tensor:
    """Round the float result `y` to the type of its input `x` if that was an integer type."""
    if x.is_floating_point():
        return y
    limits = torch.iinfo(x.dtype)
    return y.round().clamp(limits.min, limits.max).to(x.dtype)


def per_channel(value: float | Sequence[float], x: Tensor) -> Tensor:
    """Shape one number, or one per channel, so that it meets a batch; the channel count is checked."""
    values = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
    if len(values) not in (1, x.shape[1]):
        raise WrongValue(f"{len(values)} values for {x.shape[1]} channels: give one, or one per channel")
    return values


def border_color(value: float | Sequence[float], x: Tensor) -> Tensor:
    """Shape a number, or one per channel, so that it meets a batch; as in OpenCV, missing ones are 0, others unused."""
    channels = x.shape[1]
    values = [*value, *[0.0] * channels][:channels] if isinstance(value, list | tuple) else [value] * channels
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def window(x: Tensor, top: Tensor, left: Tensor, size: tuple[int, int], border: str, value: Tensor) -> Tensor:
    """Cut a window of `size` (height, width) out of each image, beyond its edges as `border` says.

    `top` and `left` are int64, one number for all images or (n,); they may be negative.
    """
    rows, columns = (start.reshape(-1, 1) + torch.arange(n) for start, n in zip((top, left), size, strict=True))
    height, width = x.shape[-2:]
    near_rows, near_columns = BORDERS[border](rows, height), BORDERS[border](columns, width)
    if len(rows) == len(columns) == 1:
        y = x.index_select(-2, near_rows[0]).index_select(-1, near_columns[0])
    else:
        image, channel = torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[:, None, None]
        y = x[image, channel, near_rows[:, None, :, None], near_columns[:, None, None, :]]
    inside = ((rows == near_rows)[:, None, :, None]) & ((columns == near_columns)[:, None, None, :])
    return _covered(y, inside, x, border, value)


def _covered(y: Tensor, inside: Tensor, x: Tensor, border: str, value: Tensor) -> Tensor:
    """Put the value, or the mean colour of `x`, where a place is not inside, if the border says so."""
    if border not in ("ConstantBorder", "MeanBorder"):
        return y
    cover = x.float().mean((-2, -1), keepdim=True) if border == "MeanBorder" else value
    return torch.where(inside, y, as_input(cover, y))


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly, pixel centres on pixel centres, without smoothing (as OpenCV's default)."""
    if x.shape[-2:] == (height, width):
        return x
    return as_input(F.interpolate(x.float(), (height, width), mode="bilinear", align_corners=False), x)


def sampled(x: Tensor, columns: Tensor, rows: Tensor, border: str, value: Tensor) -> Tensor:
    """Fetch pixels from places between pixels, bilinearly, beyond the edges as `border` says.

    `columns` and `rows` are float32, (n, new height, new width): where each new pixel comes from.
    """
    left, top = columns.floor(), rows.floor()
    by_column, by_row = (columns - left)[:, None], (rows - top)[:, None]
    flat, (height, width) = x.float().flatten(2), x.shape[-2:]

    def pixels(right: int, below: int) -> Tensor:
        place = (left.long() + right, top.long() + below)
        column, row = BORDERS[border](place[0], width), BORDERS[border](place[1], height)
        index = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        y = flat.gather(2, index).reshape(*x.shape[:2], *columns.shape[1:])
        return _covered(y, ((column == place[0]) & (row == place[1]))[:, None], x, border, value)

    upper = pixels(0, 0).lerp(pixels(1, 0), by_column)
    return as_input(upper.lerp(pixels(0, 1).lerp(pixels(1, 1), by_column), by_row), x)


def equalized(x: Tensor) -> Tensor:
    """Spread the histogram of each channel of uint8 images evenly over 0..255."""
    flat = x.flatten(2).long()
    counts = torch.zeros(*x.shape[:2], 256).scatter_add_(2, flat, torch.ones_like(flat, dtype=torch.float32))
    below = counts.cumsum(2)
    lowest = below.masked_fill(below == 0, torch.inf).amin(2, keepdim=True)
    table = (below - lowest) * (255 / (flat.shape[2] - lowest).clamp(min=1))
    return as_input(table.gather(2, flat).reshape(x.shape), x)
