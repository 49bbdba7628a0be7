"""LeNet-5 (LeCun, Bottou, Bengio, Haffner, 1998) with rectifiers and a softmax."""

from n2d2.activation import Rectifier
from n2d2.cells import Conv, Fc, Pool2d, Sequence, Softmax
from n2d2.config_section import ConfigSection
from n2d2.filler import He, Normal
from n2d2.solver import SGD

# Table I of the paper: which of the 6 maps (rows) each of the 16 kernels of the second convolution sees.
TABLE_1 = [
    [int(seen) for seen in row]
    for row in (
        "1000111001111011",
        "1100011100111101",
        "1110001110010111",
        "0111001111001011",
        "0011100111101101",
        "0001110011110111",
    )
]


class LeNet(Sequence):
    """For stimuli of 32 x 32 x 1.

    Args:
        nb_outputs: classes.

    >>> import torch
    >>> LeNet(10)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, nb_outputs: int = 10) -> None:
        solver = SGD(learning_rate=0.05, momentum=0.9, decay=0.0005)
        conv = ConfigSection(activation=Rectifier(), filler=He(), solver=solver, no_bias=True)
        fc = ConfigSection(filler=Normal(std_dev=0.01), solver=solver, no_bias=True)
        halve = ConfigSection(pool_dims=[2, 2], stride_dims=[2, 2], pooling="Max")
        super().__init__(
            [
                Conv(1, 6, kernel_dims=[5, 5], **conv),
                Pool2d(**halve),
                Conv(6, 16, kernel_dims=[5, 5], mapping=TABLE_1, **conv),
                Pool2d(**halve),
                Conv(16, 120, kernel_dims=[5, 5], **conv),
                Fc(120, 84, **fc),
                Fc(84, nb_outputs, **fc),
                Softmax(with_loss=True),
            ]
        )
