"""What a filler may look at when it decides which weights of one tensor live."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import Magnitudes


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one weight tensor at the moment when its mask is filled.

    Attributes:
        name: the parameter's name in the model.
        weight: its values, the hidden ones under the mask included; not to be written to.
        mask: the mask of until now; it keeps everything before the first filling.
        generator: for random choices; on the CPU, seeded from the spec's seed, the name and the time, so that
            every process draws the same.
    """

    name: str
    weight: Tensor
    mask: Mask
    generator: torch.Generator

    @cached_property
    def magnitudes(self) -> Magnitudes:
        """The magnitudes of `weight` for selection; what an allocation learned of them helps the filler."""
        return Magnitudes(self.weight)
