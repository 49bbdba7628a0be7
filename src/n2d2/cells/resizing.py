"""Resize: feature maps of another size."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from n2d2.cells.cell import Cell
from n2d2.checks import check_counts, check_flag
from n2d2.error_handler import ImplementationError, check_choice
from n2d2.fields import Check

RESIZES = ("BilinearTF", "NearestNeighbor")


class Resize(Cell):
    """Feature maps of another size, each value between the nearest ones of the input.

    Args:
        outputs_width, outputs_height: in values, >= 1.
        resize_mode: "BilinearTF", as TensorFlow's version 1 does it, or "NearestNeighbor".
        config: name, activation, align_corners (of BilinearTF: the corners are those of the input).

    >>> Resize(3, 1, "BilinearTF")(torch.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1.0000, 1.5000, 2.0000]]]])
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"align_corners": True}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"align_corners": (bool, int)}
    CHECKS: ClassVar[Mapping[str, Check]] = {"align_corners": check_flag}

    def __init__(self, outputs_width: int, outputs_height: int, resize_mode: str, **config: Any) -> None:  # noqa: ANN401
        check_counts(outputs_width=outputs_width, outputs_height=outputs_height)
        if resize_mode == "Bilinear":
            raise ImplementationError(
                "resize_mode='Bilinear' is refused: N2D2 cannot compute it either; use BilinearTF"
            )
        check_choice("resize_mode", resize_mode, RESIZES)
        fixed = {"outputs_width": outputs_width, "outputs_height": outputs_height, "resize_mode": resize_mode}
        super().__init__(fixed=fixed, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, y, x) -> (batch, channels, outputs_height, outputs_width)."""
        x = self.joined(inputs)
        for axis, size in ((2, self.fixed["outputs_height"]), (3, self.fixed["outputs_width"])):
            x = self._along(x, axis, size)
        return self.activated(x)

    def _along(self, x: Tensor, axis: int, size: int) -> Tensor:
        bilinear = self.fixed["resize_mode"] == "BilinearTF"
        aligned = bilinear and self.options["align_corners"] and size > 1
        step = (x.shape[axis] - 1) / (size - 1) if aligned else x.shape[axis] / size
        places = torch.arange(size, device=x.device, dtype=torch.float64) * step
        low = places.long().clamp_(max=x.shape[axis] - 1)
        if not bilinear:
            return x.index_select(axis, low)
        share = (places - low).to(x.dtype).reshape(-1, *(1,) * (3 - axis))
        return torch.lerp(
            x.index_select(axis, low), x.index_select(axis, (low + 1).clamp_(max=x.shape[axis] - 1)), share
        )
