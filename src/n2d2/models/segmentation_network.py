"""A network that gives a class to each pixel, by maps of four sizes (Long et al. 2014, https://arxiv.org/abs/1411.4038)."""

from collections.abc import Sequence as SequenceOf
from typing import Any

from n2d2.activation import Linear, Tanh
from n2d2.cells import Block, Conv, Deconv, ElemWise, Padding, Sequence
from n2d2.cells.cell import Cell
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.filler import Constant, Normal
from n2d2.tensor import Tensor

N_CLASSES = 5
SCALES = ("x4", "x8", "x16", "x32")
"""What the sizes of the maps are divided by."""


def _fillers() -> dict[str, Any]:
    return {"weights_filler": Normal(std_dev=0.1), "bias_filler": Constant(value=0.2)}


class DecoderConv(Conv):
    """A convolution of 1 x 1 with a Tanh that sends no gradient back; options as for Conv."""

    def __init__(self, nb_inputs: int, nb_outputs: int, **config_parameters: Any) -> None:  # noqa: ANN401
        fixed = {"kernel_dims": [1, 1], "activation": Tanh(), "back_propagate": False, **_fillers()}
        super().__init__(nb_inputs, nb_outputs, **(fixed | config_parameters))


class DecoderDeconv(Deconv):
    """A linear Deconv that doubles the size, and one pixel more at each side; options as for Deconv."""

    def __init__(self, nb_inputs: int, nb_outputs: int, **config_parameters: Any) -> None:  # noqa: ANN401
        fixed = {"kernel_dims": [4, 4], "stride_dims": [2, 2], "activation": Linear(), **_fillers()}
        super().__init__(nb_inputs, nb_outputs, **(fixed | config_parameters))


class DecoderPadding(Padding):
    """One pixel less at each side; options as for Padding."""

    def __init__(self, **config_parameters: Any) -> None:  # noqa: ANN401
        super().__init__(**({"top_pad": -1, "bot_pad": -1, "left_pad": -1, "right_pad": -1} | config_parameters))


class DecoderFuse(ElemWise):
    """The sum of two maps; options as for ElemWise."""

    def __init__(self, **config_parameters: Any) -> None:  # noqa: ANN401
        super().__init__(**({"operation": "Sum"} | config_parameters))


class SegmentationNetwork(Block):
    """A backbone, and a decoder that brings four of its maps together.

    Args:
        backbone: cells that are called with the stimuli.
        features: four cells of it whose outputs are 1/4, 1/8, 1/16 and 1/32 of the size of the stimuli.
        nb_channels: how many channels each of them has.

    Raises:
        WrongValue: there are not four of each.
        WrongInputType: a feature is no cell or container.

    Called with stimuli (batch, channels, y, x), it gives (batch, 5, y, x). The backbone gets no gradients.
    """

    def __init__(
        self, backbone: Cell | Block, features: SequenceOf[Cell | Block], nb_channels: SequenceOf[int]
    ) -> None:
        for name, given in (("features", features), ("nb_channels", nb_channels)):
            if len(given) != len(SCALES):
                raise WrongValue(f"{name} of {len(given)} is illegal: there must be {len(SCALES)}, for {SCALES}")
        cells: list[Cell | Block] = [
            DecoderConv(n, N_CLASSES, name=f"conv_1x1_{scale}") for n, scale in zip(nb_channels, SCALES, strict=True)
        ]
        for place, deconv in enumerate(("deconv1", "deconv_fuse1", "deconv_fuse2"), 1):
            cells += [
                DecoderDeconv(N_CLASSES, N_CLASSES, name=deconv),
                DecoderPadding(name=f"{deconv}_pad"),
                DecoderFuse(name=f"fuse{place}"),
            ]
        last = Deconv(
            N_CLASSES, N_CLASSES, [8, 8], stride_dims=[4, 4], activation=Linear(), name="deconv_fuse3", **_fillers()
        )
        adapt = Padding(top_pad=-2, bot_pad=-2, left_pad=-2, right_pad=-2, name="out_adapt")
        super().__init__([backbone, Block([*cells, last, adapt], name="decoder")])
        self._features = [_last(feature) for feature in features]

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """The scores of the classes at each pixel."""
        backbone, decoder = self[0], self[1]
        backbone(x if isinstance(x, Tensor) else Tensor.from_torch(x))
        *finer, made = [
            decoder[f"conv_1x1_{scale}"](feature.get_outputs())
            for scale, feature in zip(SCALES, self._features, strict=True)
        ]
        for cell in list(decoder)[len(SCALES) :]:
            made = cell([made, finer.pop()]) if isinstance(cell, DecoderFuse) else cell(made)
        return made if isinstance(x, Tensor) else made.values


def _last(feature: Cell | Block) -> Cell:
    """The cell whose output is that of a feature."""
    last: Any = feature
    while isinstance(last, Sequence) and len(last):
        last = last[-1]
    if not isinstance(last, Cell):
        raise WrongInputType(f"features are cells, or Sequences of them, not a {type(last).__name__}")
    return last
