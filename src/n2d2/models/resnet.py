"""Residual networks (He et al. 2015, https://arxiv.org/abs/1512.03385), as N2D2 has them.

Strides are in the convolutions of 3 x 3. ResNet-152 has 38 blocks in its third stage, where the paper has 36.
"""

from pathlib import Path
from typing import Any

from n2d2.activation import Linear, Rectifier
from n2d2.cells import Activation, BatchNorm2d, Block, Conv, DeepNetCell, ElemWise, Fc, Layer, Pool2d, Sequence
from n2d2.cells.cell import Cell
from n2d2.error_handler import WrongValue, check_choice
from n2d2.filler import He
from n2d2.models import zoo
from n2d2.models.ILSVRC_outils import onnx_preprocessing
from n2d2.transform import Composite
from prunecell.errors import some

TABLE_1 = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 38, 3)}
"""Of the paper: size -> how many blocks each stage has."""

WIDTHS = (64, 128, 256, 512)
"""Channels between, in each stage; a bottleneck makes four times as many."""

WIDER = 4
VERSIONS = {"pre_act": "v1", "post_act": "v2"}


class MainBlock(Sequence):
    """The way through a block: two convolutions, or three with bottleneck; arguments as for BuildingBlock."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
        downsample: bool = False,  # noqa: FBT001, FBT002
        first_layer: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        stride = 2 if downsample else 1
        if bottleneck:
            n_inputs, n_outputs = _n_inputs(in_channels, bottleneck, first_layer), WIDER * out_channels
            kernels = [(n_inputs, out_channels, 1, 1), (out_channels, out_channels, 3, stride)]
            kernels.append((out_channels, n_outputs, 1, 1))
        else:
            kernels = [(in_channels, out_channels, 3, stride), (out_channels, out_channels, 3, 1)]
        cells = [cell for row in kernels[:-1] for cell in _normalized(*row, Rectifier())]
        super().__init__([*cells, *_normalized(*kernels[-1], Linear())])


def _n_inputs(in_channels: int, bottleneck: bool, first_layer: bool) -> int:  # noqa: FBT001
    return in_channels if first_layer or not bottleneck else WIDER * in_channels


def _normalized(
    n_inputs: int, n_outputs: int, size: int, stride: int, activation: Linear | Rectifier
) -> list[Cell | Block]:
    config: dict[str, Any] = {"activation": Linear(), "no_bias": True, "weights_filler": He()}
    conv = Conv(n_inputs, n_outputs, [size, size], stride_dims=stride, padding_dims=size // 2, **config)
    return [conv, BatchNorm2d(n_outputs, activation=activation)]


class BuildingBlock(Sequence):
    """A block with its residual: `structure` (the main way and the shortcut, side by side), their sum, a Rectifier.

    Args:
        in_channels, out_channels: channels between; a bottleneck makes four times `out_channels`.
        downsample: whether its output has half the size.
        bottleneck: 1 x 1, 3 x 3, 1 x 1 instead of two 3 x 3.
        first_layer: whether its input has `in_channels` in a bottleneck too.
        name: by default the class and a number.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        downsample: bool = False,  # noqa: FBT001, FBT002 - N2D2's signature
        bottleneck: bool = False,  # noqa: FBT001, FBT002
        first_layer: bool = False,  # noqa: FBT001, FBT002
        name: str | None = None,
    ) -> None:
        shortcut: list[Cell | Block] = []
        if downsample or (first_layer and bottleneck):
            n_inputs = _n_inputs(in_channels, bottleneck, first_layer)
            n_outputs = WIDER * out_channels if bottleneck else out_channels
            shortcut = _normalized(n_inputs, n_outputs, 1, 2 if downsample else 1, Linear())
        main = MainBlock(in_channels, out_channels, bottleneck, downsample, first_layer)
        super().__init__(
            [
                Layer([main, Sequence(shortcut, name="shortcut")], name="structure"),
                ElemWise(operation="Sum", mode="PerInput"),
                Activation(activation=Rectifier()),
            ],
            name,
        )


class StackedBlocks(Sequence):
    """A stage: `nb_blocks` blocks one after another, the first one as the other arguments say."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nb_blocks: int = 2,
        downsample: bool = True,  # noqa: FBT001, FBT002
        bottleneck: bool = False,  # noqa: FBT001, FBT002
        have_first_layer: bool = False,  # noqa: FBT001, FBT002
        name: str | None = None,
    ) -> None:
        first = BuildingBlock(in_channels, out_channels, downsample, bottleneck, have_first_layer)
        others = [BuildingBlock(out_channels, out_channels, bottleneck=bottleneck) for _ in range(1, nb_blocks)]
        super().__init__([first, *others], name)


class ResNet_N2D2(Sequence):  # noqa: N801 - N2D2's name
    """A whole network, for stimuli of 224 x 224 x 3 and 1000 classes.

    Args:
        size: layers, 18, 34, 50, 101 or 152.
        version: 1; activations before the convolutions (2) are refused.
        name: without effect, as in N2D2: it is called ResNetv1-SIZE.
    """

    def __init__(self, size: int = 18, version: int = 1, name: str | None = None) -> None:  # noqa: ARG002
        if size not in TABLE_1:
            raise WrongValue(f"size={size!r} is illegal: it must be one of {some(TABLE_1)}")
        if version != 1:
            raise WrongValue(f"version={version!r} is illegal: only version 1 can be generated; ONNX files have both")
        bottleneck = size > 34  # noqa: PLR2004 - as in the paper
        stages = [
            StackedBlocks(
                before,
                width,
                n_blocks,
                downsample=width > WIDTHS[0],
                bottleneck=bottleneck,
                have_first_layer=width == WIDTHS[0],
            )
            for before, width, n_blocks in zip(WIDTHS[:1] + WIDTHS, WIDTHS, TABLE_1[size], strict=False)
        ]
        super().__init__(
            [
                *_normalized(3, 64, 7, 2, Rectifier()),
                Pool2d([3, 3], pooling="Max", stride_dims=[2, 2], padding_dims=[1, 1]),
                *stages,
                Pool2d([7, 7], pooling="Average"),
                Fc(WIDTHS[-1] * (WIDER if bottleneck else 1), 1000, activation=Linear()),
            ],
            f"ResNetv{version}-{size}",
        )


class ResNet:
    """How N2D2's scripts make residual networks, or read them."""

    @classmethod
    def generate(cls, size: int, version: int = 1, name: str | None = None) -> Sequence:
        """A new network; arguments as for ResNet_N2D2."""
        return ResNet_N2D2(size, version, name)

    @classmethod
    def load_from_ONNX(  # noqa: N802 - N2D2's name and signature
        cls,
        inputs: Any,  # noqa: ANN401 - any provider
        resnet_type: str,
        version: str = "pre_act",
        dims: list[int] | None = None,  # noqa: ARG003 - as the docstring says
        batch_size: int = 1,  # noqa: ARG003
        path: str | Path | None = None,
        download: bool = False,  # noqa: FBT001, FBT002
    ) -> DeepNetCell:
        """Read a network from its file of the ONNX model zoo.

        Args:
            inputs: the provider.
            resnet_type: "18", "34", "50", "101" or "152".
            version: "pre_act" (version 1) or "post_act" (version 2).
            dims: without effect, because the provider knows it.
            batch_size: without effect, as dims.
            path: the file.
            download: read the file from where N2D2 keeps it; if it is not there, the error says where to put it.
        """
        check_choice("resnet_type", resnet_type, map(str, TABLE_1))
        check_choice("version", version, VERSIONS)
        v = VERSIONS[version]
        return zoo.load(inputs, f"resnet-{resnet_type}-{v}", f"resnet{resnet_type}{v}", path, download=download)

    @classmethod
    def ONNX_preprocessing(cls, size: int = 224, margin: int = 32) -> Composite:  # noqa: N802 - N2D2's name
        """The transformations that the networks of the files expect."""
        return onnx_preprocessing(size, margin)


load_from_ONNX, ONNX_preprocessing = ResNet.load_from_ONNX, ResNet.ONNX_preprocessing  # noqa: N816 - N2D2's names


class _OfSize(Sequence, shared=True):
    """A residual network of one size, within a Sequence; arguments as for ResNet_N2D2. Never instantiated itself."""

    SIZE: int

    def __init__(self, version: int = 1, name: str | None = None) -> None:
        super().__init__([ResNet_N2D2(self.SIZE, version)], name)

    @classmethod
    def load_from_ONNX(  # noqa: N802 - N2D2's name and signature
        cls,
        inputs: Any,  # noqa: ANN401 - any provider
        version: str = "pre_act",
        dims: list[int] | None = None,
        batch_size: int = 1,
        path: str | Path | None = None,
        download: bool = False,  # noqa: FBT001, FBT002
    ) -> DeepNetCell:
        """Read it from its file; see `ResNet.load_from_ONNX`."""
        return ResNet.load_from_ONNX(inputs, str(cls.SIZE), version, dims, batch_size, path, download)


class ResNet18(_OfSize):
    """ResNet-18: 11,689,512 parameters."""

    SIZE = 18


class ResNet34(_OfSize):
    """ResNet-34: 21,797,672 parameters."""

    SIZE = 34


class ResNet50(_OfSize):
    """ResNet-50: 25,557,032 parameters."""

    SIZE = 50


class ResNet101(_OfSize):
    """ResNet-101: 44,549,160 parameters."""

    SIZE = 101


class ResNet152(_OfSize):
    """ResNet-152: 62,427,176 parameters, because N2D2's has two blocks more than the paper's (60,192,808)."""

    SIZE = 152
