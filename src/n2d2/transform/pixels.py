"""The arithmetic under the transformations: windows, resizing, turning and colours of batches of images.

A batch is uint8 or float32, (n, channels, height, width). What goes in as uint8 comes out as uint8, rounded.
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
WARPED = {  # the borders that `turned` knows, as torch's padding_mode and align_corners
    "ConstantBorder": ("zeros", False),
    "ReplicateBorder": ("border", False),
    "ReflectBorder": ("reflection", False),
    "MinusOneReflectBorder": ("reflection", True),
}


def as_input(y: Tensor, x: Tensor) -> Tensor:
    """Round the float result `y` to uint8 if its input `x` was uint8."""
    return y.round().clamp(0, 255).to(torch.uint8) if x.dtype == torch.uint8 else y


def per_channel(value: float | Sequence[float], x: Tensor) -> Tensor:
    """Shape one number, or one per channel, so that it meets a batch; the channel count is checked."""
    values = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
    if len(values) not in (1, x.shape[1]):
        raise WrongValue(f"{len(values)} values for {x.shape[1]} channels: give one, or one per channel")
    return values


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
    if border not in ("ConstantBorder", "MeanBorder"):
        return y
    inside = ((rows == near_rows)[:, None, :, None]) & ((columns == near_columns)[:, None, None, :])
    cover = x.float().mean((-2, -1), keepdim=True) if border == "MeanBorder" else value
    return torch.where(inside, y, as_input(cover, x))


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly, pixel centres on pixel centres, without smoothing (as OpenCV's default)."""
    if x.shape[-2:] == (height, width):
        return x
    return as_input(F.interpolate(x.float(), (height, width), mode="bilinear", align_corners=False), x)


def turned(x: Tensor, angle: Tensor, scale: Tensor, border: str, shift: Tensor | None = None) -> Tensor:
    """Turn each image about its middle and magnify it, bilinearly.

    Args:
        x: the batch.
        angle: (n,), degrees, counterclockwise.
        scale: (n,), above 1 magnifies.
        border: a name of `WARPED`.
        shift: (n, 2, height, width): where each pixel is fetched from besides, in pixels, x then y.
    """
    mode, corners = WARPED[border]
    height, width = x.shape[-2:]
    cos, sin = angle.deg2rad().cos() / scale, angle.deg2rad().sin() / scale
    zero = torch.zeros_like(cos)
    aspect = height / width
    theta = torch.stack((cos, -sin * aspect, zero, sin / aspect, cos, zero), dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=corners)
    if shift is not None:
        grid = grid + (shift * torch.tensor([2 / width, 2 / height])[:, None, None]).permute(0, 2, 3, 1)
    return as_input(F.grid_sample(x.float(), grid, padding_mode=mode, align_corners=corners), x)


def equalized(x: Tensor) -> Tensor:
    """Spread the histogram of each channel of uint8 images evenly over 0..255."""
    flat = x.flatten(2).long()
    counts = torch.zeros(*x.shape[:2], 256).scatter_add_(2, flat, torch.ones_like(flat, dtype=torch.float32))
    below = counts.cumsum(2)
    lowest = below.masked_fill(below == 0, torch.inf).amin(2, keepdim=True)
    table = (below - lowest) * (255 / (flat.shape[2] - lowest).clamp(min=1))
    return as_input(table.gather(2, flat).reshape(x.shape), x)


def gray(bgr: Tensor) -> Tensor:
    """Blue, green, red to one channel of luma (ITU-R BT.601)."""
    weights = torch.tensor([0.114, 0.587, 0.299])[:, None, None]
    return bgr if bgr.shape[1] == 1 else as_input((bgr[:, :3].float() * weights).sum(1, keepdim=True), bgr)


def to_bgr(x: Tensor) -> Tensor:
    """Gray, or blue, green, red with or without more, to blue, green, red."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def to_ycrcb(bgr: Tensor) -> Tensor:
    """Blue, green, red to luma and two colour differences about the middle of the range."""
    blue, _, red = bgr.float().chunk(3, dim=1)
    luma = gray(bgr.float())
    middle = 128.0 if bgr.dtype == torch.uint8 else 0.5
    return as_input(torch.cat((luma, (red - luma) * 0.713 + middle, (blue - luma) * 0.564 + middle), dim=1), bgr)


def to_hsv(bgr: Tensor) -> Tensor:
    """Blue, green, red to hue, saturation, value: 0..180, 0..255, 0..255 for uint8; 0..360, 0..1, 0..1 for floats."""
    blue, green, red = bgr.float().chunk(3, dim=1)
    value, low = bgr.float().amax(1, keepdim=True), bgr.float().amin(1, keepdim=True)
    spread = value - low
    step = spread.masked_fill(spread == 0, 1)
    hue = torch.where(value == green, 120 + 60 * (blue - red) / step, 240 + 60 * (red - green) / step)
    hue = torch.where(value == red, 60 * (green - blue) / step, hue) % 360
    is_byte = bgr.dtype == torch.uint8
    saturation = spread / value.masked_fill(value == 0, 1) * (255 if is_byte else 1)
    return as_input(torch.cat((hue / 2 if is_byte else hue, saturation, value), dim=1), bgr)
