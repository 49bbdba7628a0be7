"""Colour spaces of batches of images, as OpenCV defines them, which N2D2 uses.

Floats are in [0, 1] in BGR. Ranges of the others, of floats and of bytes: hue 0..360 and 0..180 (a byte is a hue of two
degrees), saturation, value and lightness 0..1 and 0..255; YCrCb has its colour differences about the middle of the
range; L* 0..100, a*, b*, u*, v* about 0, in bytes scaled into 0..255.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.transform.pixels import as_input

Conversion = Callable[[Tensor], Tensor]

_XYZ = torch.tensor(  # sRGB's primaries (IEC 61966-2-1), white D65 at Y = 1; rows X, Y, Z of blue, green, red
    [[0.180423, 0.357580, 0.412453], [0.072169, 0.715160, 0.212671], [0.950227, 0.119193, 0.019334]]
)
_WHITE = torch.tensor([0.950456, 1.0, 1.088754]).reshape(3, 1, 1)
_WHITE_U, _WHITE_V = 0.19793943, 0.46831096
_KNEE, _SLOPE = 216 / 24389, 24389 / 27  # of L* (CIE 1976)


def gray(bgr: Tensor) -> Tensor:
    """Blue, green, red to one channel of luma (ITU-R BT.601)."""
    weights = torch.tensor([0.114, 0.587, 0.299])[:, None, None]
    return bgr if bgr.shape[1] == 1 else as_input((bgr[:, :3].float() * weights).sum(1, keepdim=True), bgr)


def to_bgr(x: Tensor) -> Tensor:
    """Gray, or blue, green, red with or without more, to blue, green, red."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def _to_ycrcb(bgr: Tensor) -> Tensor:
    blue, _, red = bgr.chunk(3, dim=1)
    luma = gray(bgr)
    return torch.cat((luma, (red - luma) * 0.713 + 0.5, (blue - luma) * 0.564 + 0.5), dim=1)


def _from_ycrcb(x: Tensor) -> Tensor:
    luma, red, blue = x[:, :1], x[:, 1:2] - 0.5, x[:, 2:] - 0.5
    return torch.cat((luma + 1.773 * blue, luma - 0.714 * red - 0.344 * blue, luma + 1.403 * red), dim=1)


def _hue(bgr: Tensor) -> Tensor:
    """Hue in degrees; 0 of gray."""
    blue, green, red = bgr.chunk(3, dim=1)
    value = bgr.amax(1, keepdim=True)
    step = (value - bgr.amin(1, keepdim=True)).clamp(min=1e-9)
    hue = torch.where(value == green, 120 + 60 * (blue - red) / step, 240 + 60 * (red - green) / step)
    return torch.where(value == red, 60 * (green - blue) / step, hue) % 360


def _to_hsv(bgr: Tensor) -> Tensor:
    value, low = bgr.amax(1, keepdim=True), bgr.amin(1, keepdim=True)
    return torch.cat((_hue(bgr), (value - low) / value.masked_fill(value == 0, 1), value), dim=1)


def _to_hls(bgr: Tensor) -> Tensor:
    high, low = bgr.amax(1, keepdim=True), bgr.amin(1, keepdim=True)
    lightness, room = (high + low) / 2, 1 - (high + low - 1).abs()
    return torch.cat((_hue(bgr), lightness, (high - low) / room.masked_fill(room == 0, 1)), dim=1)


def _of_hue(hue: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The colour of a hue whose smallest and largest parts are these."""
    place = (hue[:, None] / 60 + torch.tensor([2.0, 4.0, 0.0]).reshape(1, 3, 1, 1, 1)) % 6  # blue, green, red
    return low + (high - low) * ((place - 3).abs() - 1).clamp(0, 1).squeeze(2)


def _from_hsv(x: Tensor) -> Tensor:
    hue, saturation, value = x.chunk(3, dim=1)
    return _of_hue(hue, value * (1 - saturation), value)


def _from_hls(x: Tensor) -> Tensor:
    hue, lightness, saturation = x.chunk(3, dim=1)
    half = (1 - (2 * lightness - 1).abs()) * saturation / 2
    return _of_hue(hue, lightness - half, lightness + half)


def _to_xyz(bgr: Tensor) -> Tensor:
    linear = torch.where(bgr <= 0.04045, bgr / 12.92, ((bgr.clamp(min=0) + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004
    return torch.einsum("ij,njhw->nihw", _XYZ, linear)


def _from_xyz(xyz: Tensor) -> Tensor:
    linear = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_XYZ), xyz)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=0) ** (1 / 2.4) - 0.055)  # noqa: PLR2004


def _lightness(y: Tensor) -> Tensor:
    return torch.where(y > _KNEE, 116 * y.clamp(min=0) ** (1 / 3) - 16, _SLOPE * y)


def _to_lab(bgr: Tensor) -> Tensor:
    x, y, z = ((_lightness(_to_xyz(bgr) / _WHITE) + 16) / 116).chunk(3, dim=1)
    return torch.cat((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def _from_lab(lab: Tensor) -> Tensor:
    lightness, a, b = lab.chunk(3, dim=1)
    y = (lightness + 16) / 116
    roots = torch.cat((y + a / 500, y, y - b / 200), dim=1)
    return _from_xyz(torch.where(roots**3 > _KNEE, roots**3, (116 * roots - 16) / _SLOPE) * _WHITE)


def _to_luv(bgr: Tensor) -> Tensor:
    x, y, z = _to_xyz(bgr).chunk(3, dim=1)
    total = (x + 15 * y + 3 * z).clamp(min=1e-9)
    lightness = _lightness(y)
    return torch.cat(
        (lightness, 13 * lightness * (4 * x / total - _WHITE_U), 13 * lightness * (9 * y / total - _WHITE_V)), dim=1
    )


def _from_luv(luv: Tensor) -> Tensor:
    lightness, u, v = luv.chunk(3, dim=1)
    y = torch.where(lightness > _KNEE * _SLOPE, ((lightness + 16) / 116) ** 3, lightness / _SLOPE)
    scale = 13 * lightness.clamp(min=1e-9)
    u, v = u / scale + _WHITE_U, v / scale + _WHITE_V
    x, z = y * 9 * u / (4 * v), y * (12 - 3 * u - 20 * v) / (4 * v)
    return _from_xyz(torch.where(lightness > 0, torch.cat((x, y, z), dim=1), 0))


_BYTES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {  # byte = scale * float + offset
    "BGR": ((255, 255, 255), (0, 0, 0)),
    "YCrCb": ((255, 255, 255), (0, 0.5, 0.5)),
    "HSV": ((0.5, 255, 255), (0, 0, 0)),
    "HLS": ((0.5, 255, 255), (0, 0, 0)),
    "CIELab": ((2.55, 1, 1), (0, 128, 128)),
    "CIELuv": ((2.55, 255 / 354, 255 / 262), (0, 134 * 255 / 354, 140 * 255 / 262)),
}


def _conversion(function: Conversion, source: str, result: str) -> Conversion:
    """A conversion between two spaces of bytes or of floats."""

    def convert(x: Tensor) -> Tensor:
        if x.dtype not in (torch.uint8, torch.float32) or x.shape[1] != 3:  # noqa: PLR2004
            raise WrongValue(
                f"{source} to {result} needs three channels of bytes or floats, not {x.shape[1]} of {x.dtype}: "
                "put a ColorSpace or a RangeAffine before it"
            )
        if x.dtype == torch.float32:
            return function(x)
        (scale, offset), (scale_of, offset_of) = (map(_per_channel, _BYTES[space]) for space in (source, result))
        y = as_input(function((x.float() - offset) / scale) * scale_of + offset_of, x)
        return torch.cat((y[:, :1] % 180, y[:, 1:]), dim=1) if result in ("HSV", "HLS") else y  # 180 is 0 again

    return convert


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).reshape(3, 1, 1)


def _reversed(x: Tensor) -> Tensor:
    return x.flip(1)


_SPACES: dict[str, tuple[Conversion, Conversion]] = {  # of BGR to each, and back
    "HSV": (_to_hsv, _from_hsv),
    "HLS": (_to_hls, _from_hls),
    "YCrCb": (_to_ycrcb, _from_ycrcb),
    "CIELab": (_to_lab, _from_lab),
    "CIELuv": (_to_luv, _from_luv),
}
_TO = {space: _conversion(to, "BGR", space) for space, (to, _) in _SPACES.items()}
_FROM = {space: _conversion(back, space, "BGR") for space, (_, back) in _SPACES.items()}


def _then(first: Conversion, second: Conversion) -> Conversion:
    return lambda x: second(first(x))


COLOR_SPACES: dict[str, Conversion] = {
    "BGR": to_bgr,
    "RGB": _then(to_bgr, _reversed),
    "RGB_to_BGR": _reversed,
    **_TO,
    **{f"RGB_to_{space}": _then(_reversed, to) for space, to in _TO.items()},
    **{f"{space}_to_BGR": back for space, back in _FROM.items()},
    **{f"{space}_to_RGB": _then(back, _reversed) for space, back in _FROM.items()},
}


def _hue_of_bytes(x: Tensor) -> Tensor:
    """Hue in 0..255 of bytes, so that a single channel uses the range of its type; in degrees of floats."""
    hue = _TO["HSV"](x)[:, :1]
    return as_input(hue.float() * (255 / 180), x) if x.dtype == torch.uint8 else hue


def _channel(function: Conversion, index: int) -> Conversion:
    return lambda x: function(x)[:, index : index + 1]


CHANNELS: dict[str, Conversion] = {
    "Blue": _channel(to_bgr, 0),
    "Green": _channel(to_bgr, 1),
    "Red": _channel(to_bgr, 2),
    "Gray": gray,
    "Hue": _hue_of_bytes,
    "Saturation": _channel(_TO["HSV"], 1),
    "Value": _channel(_TO["HSV"], 2),
    "Y": _channel(_TO["YCrCb"], 0),
    "Cr": _channel(_TO["YCrCb"], 1),
    "Cb": _channel(_TO["YCrCb"], 2),
}
