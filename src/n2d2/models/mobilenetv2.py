"""MobileNet v2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381), as N2D2 has it.

It differs from the paper: the wide maps of a bottleneck are linear before the depthwise convolution, its output is
rectified, the first bottleneck has an expansion (of 1) too, and the last two convolutions have neither normalization
nor activation. No convolution has biases.
"""

from pathlib import Path
from typing import Any

from n2d2.activation import Linear, Rectifier
from n2d2.cells import (
    BatchNorm2d,
    Block,
    Conv,
    ConvDepthWise,
    ConvPointWise,
    DeepNetCell,
    ElemWise,
    Layer,
    Pool2d,
    Sequence,
)
from n2d2.cells.cell import Cell
from n2d2.filler import He
from n2d2.models import zoo
from n2d2.models.ILSVRC_outils import onnx_preprocessing
from n2d2.transform import Composite

TABLE_2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of the paper: expansion, channels, how many bottlenecks, stride of the first of them."""


class MainBlock(Sequence):
    """The way through a bottleneck: expand, filter each channel, project.

    Args:
        in_channels, out_channels: of the bottleneck.
        expansion_ratio: how many times wider the maps between are.
        st_dims: the strides of the depthwise convolution, [1, 1] by default.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion_ratio: int = 6, st_dims: list[int] | None = None
    ) -> None:
        wide = expansion_ratio * in_channels
        depthwise = ConvDepthWise(
            wide, [3, 3], stride_dims=st_dims, padding_dims=[1, 1], no_bias=True, weights_filler=He()
        )
        super().__init__(
            [
                _pointwise(in_channels, wide),
                BatchNorm2d(wide, activation=Linear()),
                depthwise,
                BatchNorm2d(wide, activation=Rectifier()),
                _pointwise(wide, out_channels),
                BatchNorm2d(out_channels, activation=Rectifier()),
            ]
        )


def _pointwise(n_inputs: int, n_outputs: int) -> ConvPointWise:
    return ConvPointWise(n_inputs, n_outputs, no_bias=True, weights_filler=He())


class InvertedBottleneck(Sequence):
    """A MainBlock, with its input added to its output where they are of one shape; `stride` is 1 or 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, expansion_ratio: int = 6) -> None:
        cells: list[Cell | Block] = [MainBlock(in_channels, out_channels, expansion_ratio, [stride, stride])]
        if stride == 1 and in_channels == out_channels:
            cells = [Layer([*cells, Sequence([])]), ElemWise(operation="Sum", mode="PerInput")]
        super().__init__(cells)


class StackedInvertedBottlenecks(Sequence):
    """A row of the paper's table: bottlenecks one after another, the first one with a stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nb_bottleneck_in_layer: int = 1,
        expansion_ratio: int = 6,
        first_stride: int = 1,
    ) -> None:
        first = InvertedBottleneck(in_channels, out_channels, first_stride, expansion_ratio)
        others = range(1, nb_bottleneck_in_layer)
        super().__init__([first, *(InvertedBottleneck(out_channels, out_channels, 1, expansion_ratio) for _ in others)])


class MobileNetV2(Sequence):
    """The whole network, for stimuli of 224 x 224 x 3 and 1000 classes.

    Args:
        name: of the part before the classifier.
    """

    def __init__(self, name: str | None = None) -> None:
        first = Conv(3, 32, [3, 3], stride_dims=[2, 2], padding_dims=[1, 1], no_bias=True, weights_filler=He())
        cells: list[Cell | Block] = [first, BatchNorm2d(32, activation=Rectifier())]
        n_channels = 32
        for expansion, n_outputs, n_blocks, stride in TABLE_2:
            cells.append(StackedInvertedBottlenecks(n_channels, n_outputs, n_blocks, expansion, stride))
            n_channels = n_outputs
        super().__init__(
            [
                Sequence(cells, name=name or "MobileNetV2"),
                _pointwise(n_channels, 1280),
                Pool2d([7, 7], pooling="Average"),
                _pointwise(1280, 1000),
            ]
        )

    @classmethod
    def load_from_ONNX(  # noqa: N802 - N2D2's name
        cls,
        inputs: Any,  # noqa: ANN401 - any provider
        dims: list[int] | None = None,  # noqa: ARG003 - as the docstring says
        batch_size: int = 1,  # noqa: ARG003
        path: str | Path | None = None,
        download: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
    ) -> DeepNetCell:
        """Read the network from the file of the ONNX model zoo.

        Args:
            inputs: the provider.
            dims: without effect, because the provider knows it.
            batch_size: without effect, as dims.
            path: the file.
            download: read the file from where N2D2 keeps it; if it is not there, the error says where to put it.
        """
        return zoo.load(inputs, "mobilenetv2", "mobilenetv2-1.0", path, download=download)

    @classmethod
    def ONNX_preprocessing(cls, size: int = 224) -> Composite:  # noqa: N802 - N2D2's name
        """The transformations that the network of the file expects."""
        return onnx_preprocessing(size)


load_from_ONNX, ONNX_preprocessing = MobileNetV2.load_from_ONNX, MobileNetV2.ONNX_preprocessing  # noqa: N816 - N2D2's names
