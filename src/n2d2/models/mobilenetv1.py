"""MobileNet v1 (Howard et al. 2017, https://arxiv.org/abs/1704.04861), as N2D2 has it: convolutions without biases."""

from n2d2.activation import Linear, Rectifier
from n2d2.cells import BatchNorm2d, Block, Conv, ConvDepthWise, ConvPointWise, Fc, GlobalPool2d, Sequence
from n2d2.cells.cell import Cell
from n2d2.config_section import ConfigSection
from n2d2.error_handler import n2d2_errors
from n2d2.filler import Constant, Normal, Xavier
from n2d2.models.ILSVRC_outils import ILSVRC_preprocessing
from prunecell.checks import check_number

__all__ = ["ILSVRC_preprocessing", "MobileNetv1", "MobileNetv1Extractor", "MobileNetv1Head"]

WIDTH = 32
"""Channels that the first convolution makes, at alpha 1; those below are multiples of them."""

SCALES = {
    "div2": [("conv1", 1, 1, 2)],
    "div4": [("conv2", 2, 2, 4), ("conv3", 1, 4, 4)],
    "div8": [("conv4", 2, 4, 8), ("conv5", 1, 8, 8)],
    "div16": [("conv6", 2, 8, 16), *((f"conv7_{i}", 1, 16, 16) for i in range(1, 6))],
    "div32": [("conv8", 2, 16, 32), ("conv9", 1, 32, 32)],
}
"""Table 1 of the paper, by what the size of the maps is divided by: name, stride, channels in, channels out of each
pair of a depthwise and a pointwise convolution."""


def _n_channels(multiple: int, alpha: float) -> int:
    return int(multiple * WIDTH * alpha)


def _check_alpha(alpha: float) -> None:
    with n2d2_errors():
        check_number("alpha", alpha, low=1 / WIDTH)


class MobileNetv1Extractor(Sequence):
    """All but the classifier: a Sequence for each size of the maps, `div2` to `div32`; arguments as for MobileNetv1."""

    def __init__(self, alpha: float, with_bn: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        _check_alpha(alpha)
        parts = {scale: _pairs(rows, alpha, with_bn=with_bn) for scale, rows in SCALES.items()}
        first = [3, _n_channels(1, alpha), [3, 3]]
        parts["div2"] = _conv(Conv, *first, stride=2, pad=1, name="conv1", with_bn=with_bn) + parts["div2"]
        super().__init__([Sequence(cells, name=scale) for scale, cells in parts.items()], "extractor")


def _pairs(rows: list[tuple[str, int, int, int]], alpha: float, *, with_bn: bool) -> list[Cell | Block]:
    made: list[Cell | Block] = []
    for name, stride, before, after in rows:
        n, n_after = _n_channels(before, alpha), _n_channels(after, alpha)
        made += _conv(ConvDepthWise, n, [3, 3], stride=stride, pad=1, name=f"{name}_3x3_dw", with_bn=with_bn)
        made += _conv(ConvPointWise, n, n_after, name=f"{name}_1x1", with_bn=with_bn)
    return made


def _conv(
    kind: type[Conv], *sizes: object, name: str, with_bn: bool, stride: int = 1, pad: int = 0
) -> list[Cell | Block]:
    config = ConfigSection(
        activation=Linear() if with_bn else Rectifier(),
        no_bias=True,
        weights_filler=Xavier(variance_norm="FanOut", scaling=2.0),
    )
    conv = kind(*sizes, name=name, stride_dims=stride, padding_dims=pad, **config)  # type: ignore[arg-type] # of its kind
    normal = BatchNorm2d(conv.get_nb_outputs(), activation=Rectifier(), name=name.replace("conv", "bn"))
    return [conv, normal] if with_bn else [conv]


class MobileNetv1Head(Sequence):
    """The mean of each map, and the classifier; arguments as for MobileNetv1."""

    def __init__(self, nb_outputs: int, alpha: float = 1.0) -> None:
        _check_alpha(alpha)
        fillers = ConfigSection(weights_filler=Normal(std_dev=0.01), bias_filler=Constant(value=0.0))
        fc = Fc(_n_channels(32, alpha), nb_outputs, activation=Linear(), name="fc", **fillers)
        super().__init__([GlobalPool2d(pooling="Average", name="pool1"), fc], "head")


class MobileNetv1(Sequence):
    """The whole network: `extractor` and `head`. Parameters with normalization: 4,231,976, as published.

    Args:
        nb_outputs: classes.
        alpha: the paper's width multiplier; numbers of channels are rounded down.
        with_bn: whether a BatchNorm2d follows each convolution.

    >>> import torch
    >>> MobileNetv1(nb_outputs=10, alpha=0.25)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(self, nb_outputs: int = 1000, alpha: float = 1.0, with_bn: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        super().__init__([MobileNetv1Extractor(alpha, with_bn), MobileNetv1Head(nb_outputs, alpha)], "mobilenet_v1")
