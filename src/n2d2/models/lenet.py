"""LeNet-5 (LeCun, Bottou, Bengio, Haffner, 1998), as N2D2 has it: for stimuli of 32 x 32 x 1.

Its convolutions see all channels and are linear, the first Fc is rectified, and nothing has biases. It has no Softmax.
"""

from itertools import pairwise

from n2d2.activation import Linear, Rectifier
from n2d2.cells import BatchNorm2d, Block, Conv, Dropout, Fc, Pool2d, Sequence
from n2d2.cells.cell import Cell
from n2d2.filler import Normal, Xavier

MAPS = (1, 6, 16, 120)
"""Channels of the input, then those that each convolution makes."""


class LeNet(Sequence):
    """LeNet without normalization.

    Args:
        nb_outputs: classes.

    >>> import torch
    >>> LeNet(10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, nb_outputs: int = 10) -> None:
        super().__init__(_cells(nb_outputs, with_bn=False))


class LeNetBN(Sequence):
    """LeNet with a BatchNorm2d and a Rectifier after each convolution; argument as for LeNet."""

    def __init__(self, nb_outputs: int = 10) -> None:
        super().__init__(_cells(nb_outputs, with_bn=True))


def _cells(nb_outputs: int, *, with_bn: bool) -> list[Cell | Block]:
    made: list[Cell | Block] = []
    for n_inputs, n_outputs in pairwise(MAPS):
        if made:
            made.append(Pool2d([2, 2], stride_dims=[2, 2], pooling="Max"))
        filler = Xavier(variance_norm="FanOut")
        made.append(Conv(n_inputs, n_outputs, [5, 5], activation=Linear(), no_bias=True, weights_filler=filler))
        if with_bn:
            made.append(BatchNorm2d(n_outputs, activation=Rectifier()))
    return [
        *made,
        Fc(MAPS[-1], 84, activation=Rectifier(), no_bias=True, weights_filler=Normal(std_dev=0.01)),
        Dropout(dropout=0.5),
        Fc(84, nb_outputs, activation=Linear(), no_bias=True, weights_filler=Normal(std_dev=0.01)),
    ]
