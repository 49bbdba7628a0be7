"""Conv, Deconv and Fc as ONNX has them besides: uneven padding, outputs of a given size, rows of tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from n2d2.cells.onnx_operator import of_rank
from n2d2.cells.weights import Conv, Deconv, Fc
from n2d2.onnx.graph import Node
from n2d2.onnx.layers import cut, padded
from n2d2.onnx.windows import Windows


class PaddedConv(Conv):
    """A Conv that pads more on one side, or such that its outputs are as many as its inputs / stride."""

    def __init__(self, windows: Windows, *sizes: Any, **config: Any) -> None:  # noqa: ANN401 - as for Conv
        super().__init__(*sizes, **config)
        self._windows = windows

    def get_type(self) -> str:
        """A Conv, in a file and when it is printed."""
        return "Conv"

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, nb_inputs, *sizes) -> (batch, nb_outputs, *sizes)."""
        x = self.joined(inputs)
        return super().forward(padded(x, self._windows.padding(x.shape[2:])))


class CutDeconv(Deconv):
    """A Deconv that cuts off more on one side, or has an output of a size that is given."""

    def __init__(self, node: Node, windows: Windows, *sizes: Any, **config: Any) -> None:  # noqa: ANN401 - as for Deconv
        super().__init__(*sizes, **config)
        self._node, self._windows = node, windows

    def get_type(self) -> str:
        """A Deconv, in a file and when it is printed."""
        return "Deconv"

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, nb_inputs, *sizes) -> (batch, nb_outputs, *sizes)."""
        x = self.joined(inputs)
        whole = super().forward(x)
        shape = (-1, *(1,) * (whole.dim() - 2))
        bias = 0 if self.bias is None else self.bias.reshape(shape)
        pads = cut(self._node, self._windows, whole.shape[2:], x.shape[2:])
        return padded(whole - bias, pads) + bias


class FcOfRows(Fc):
    """An Fc over the last dimension: each row of (batch, ..., nb_inputs), a token say, is seen by itself."""

    def get_type(self) -> str:
        """An Fc, in a file and when it is printed."""
        return "Fc"

    def __init__(self, rank: int | None, *sizes: Any, **config: Any) -> None:  # noqa: ANN401 - as for Fc
        super().__init__(*sizes, **config)
        self._rank = rank

    def n_positions(self, came: Sequence[int], made: Sequence[int]) -> int:  # noqa: ARG002 - as for all weight cells
        """How many rows there are."""
        return torch.Size(made[:-1]).numel()

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, ..., nb_inputs) -> (batch, ..., nb_outputs)."""
        return self.activated(self.layer(of_rank(self.joined(inputs), self._rank)))
