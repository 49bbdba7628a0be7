"""VGG (Simonyan, Zisserman 2014, https://arxiv.org/abs/1409.1556), as N2D2 has it.

The three Fc of its head are linear, where the paper rectifies the first two.
"""

from pathlib import Path
from typing import Any

from n2d2.activation import Rectifier
from n2d2.cells import BatchNorm2d, Block, Conv, DeepNetCell, Dropout, Fc, Pool2d, Sequence
from n2d2.cells.cell import Cell
from n2d2.error_handler import WrongValue, check_choice
from n2d2.filler import He
from n2d2.models import zoo
from prunecell.errors import some

TABLE_1 = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Of the paper: size -> how many convolutions each stage has."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each stage."""


class BasicBlock(Sequence):
    """A convolution of 3 x 3 with biases, normalized or not, and a Rectifier."""

    def __init__(self, in_channels: int, out_channels: int, batchnorm: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        activation = None if batchnorm else Rectifier()
        conv = Conv(in_channels, out_channels, [3, 3], padding_dims=[1, 1], activation=activation, weights_filler=He())
        super().__init__([conv, BatchNorm2d(out_channels, activation=Rectifier())] if batchnorm else [conv])


class VGGBackbone(Sequence):
    """All convolutions; arguments as for VGG."""

    def __init__(self, size: int = 16, batchnorm: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        if size not in TABLE_1:
            raise WrongValue(f"size={size!r} is illegal: it must be one of {some(TABLE_1)}")
        cells: list[Cell | Block] = []
        n_channels = 3
        for width, n_blocks in zip(WIDTHS, TABLE_1[size], strict=True):
            for _ in range(n_blocks):
                cells.append(BasicBlock(n_channels, width, batchnorm))
                n_channels = width
            cells.append(Pool2d([2, 2], stride_dims=[2, 2]))
        super().__init__(cells, "Backbone")


class VGGHead(Sequence):
    """The classifier, of maps of 7 x 7."""

    def __init__(self) -> None:
        super().__init__(
            [
                Fc(7 * 7 * 512, 4096, weights_filler=He()),
                Dropout(dropout=0.5),
                Fc(4096, 4096, weights_filler=He()),
                Dropout(dropout=0.5),
                Fc(4096, 1000),
            ]
        )


class VGG(Sequence):
    """The whole network, for stimuli of 224 x 224 x 3 and 1000 classes.

    Args:
        size: layers with weights, 11, 13, 16 or 19.
        batchnorm: whether a BatchNorm2d follows each convolution.
        name: by default VGGSIZE, or VGGSIZE_bn.
    """

    def __init__(self, size: int = 16, batchnorm: bool = False, name: str | None = None) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        backbone = VGGBackbone(size, batchnorm)
        super().__init__([backbone, VGGHead()], name or f"VGG{size}{'_bn' if batchnorm else ''}")

    @property
    def backbone(self) -> VGGBackbone:
        """All convolutions."""
        part: VGGBackbone = self[0]
        return part

    @property
    def head(self) -> VGGHead:
        """The classifier."""
        part: VGGHead = self[1]
        return part

    @classmethod
    def load_from_ONNX(  # noqa: N802 - N2D2's name and signature
        cls,
        inputs: Any,  # noqa: ANN401 - any provider
        vgg_type: str,
        batchnorm: bool = False,  # noqa: FBT001, FBT002
        dims: list[int] | None = None,  # noqa: ARG003 - as the docstring says
        batch_size: int = 1,  # noqa: ARG003
        path: str | Path | None = None,
        download: bool = False,  # noqa: FBT001, FBT002
    ) -> DeepNetCell:
        """Read a network from its file of the ONNX model zoo.

        Args:
            inputs: the provider.
            vgg_type: "11", "13", "16" or "19".
            batchnorm: whether it is the file of the network with normalization.
            dims: without effect, because the provider knows it.
            batch_size: without effect, as dims.
            path: the file.
            download: read the file from where N2D2 keeps it; if it is not there, the error says where to put it.
        """
        check_choice("vgg_type", vgg_type, map(str, TABLE_1))
        name = f"vgg{vgg_type}{'-bn' if batchnorm else ''}"
        return zoo.load(inputs, name, name, path, download=download)


class _OfSize(VGG, shared=True):
    """A VGG of one size. Never instantiated itself."""

    SIZE: int

    def __init__(self, batchnorm: bool = False, name: str | None = None) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        super().__init__(self.SIZE, batchnorm, name)

    @classmethod
    def load_from_ONNX(  # type: ignore[override]  # noqa: N802 - N2D2's name and signature
        cls,
        inputs: Any,  # noqa: ANN401 - any provider
        batchnorm: bool = False,  # noqa: FBT001, FBT002
        dims: list[int] | None = None,
        batch_size: int = 1,
        path: str | Path | None = None,
        download: bool = False,  # noqa: FBT001, FBT002
    ) -> DeepNetCell:
        """Read it from its file; see `VGG.load_from_ONNX`."""
        return VGG.load_from_ONNX(inputs, str(cls.SIZE), batchnorm, dims, batch_size, path, download)


class VGG11(_OfSize):
    """VGG-11: 132,863,336 parameters, without normalization."""

    SIZE = 11


class VGG13(_OfSize):
    """VGG-13: 133,047,848 parameters, without normalization."""

    SIZE = 13


class VGG16(_OfSize):
    """VGG-16: 138,357,544 parameters, without normalization."""

    SIZE = 16


class VGG19(_OfSize):
    """VGG-19: 143,667,240 parameters, without normalization."""

    SIZE = 19
