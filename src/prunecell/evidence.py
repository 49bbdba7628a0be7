"""Evidence: what a criterion may look at when it decides which weights of one tensor live."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Flag, auto

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys
from prunecell.errors import OptionError


class Needs(Flag):
    """What a criterion asks for beside the values; g is the gradient of all weights, also of those that are pruned.

    In training it is collected in the steps before an update, and only then; by `Pruner.calibrate` from batches.

    Attributes:
        GRADIENT: g of the step; of `calibrate` its sum over the batches.
        SQUARED_GRADIENT: g^2, summed over the backward passes of the step, or over the batches.
        INPUTS: the norm of every input feature of the layer.
        MOVEMENT: -w g, summed over all steps since the beginning.
        GRADIENT_SAMPLES: g of each of the last steps, or batches, as many as the criterion's `n_gradients` says.
        NORM_SCALE: the scale of the BatchNorm that reads the layer's output.
        HESSIAN_GRADIENT: H g, with the matrix H of second derivatives; from `calibrate` only.
        SYNAPTIC_FLOW: dR/d|w| of the network of all |w|; from `calibrate` only.
    """

    NOTHING = 0
    GRADIENT = auto()
    SQUARED_GRADIENT = auto()
    INPUTS = auto()
    MOVEMENT = auto()
    GRADIENT_SAMPLES = auto()
    NORM_SCALE = auto()
    HESSIAN_GRADIENT = auto()
    SYNAPTIC_FLOW = auto()


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The order in which the weights of a tensor are pruned, the lowest key first.

    Attributes:
        keys: one for every group of weights that live and die together.
        group_size: weights in a group.
    """

    keys: Keys
    group_size: int = 1

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return self.keys.shape.numel()


Rank = Callable[["Evidence"], Ranking]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one weight tensor at the moment when its mask is filled.

    Attributes:
        name: the parameter's name in the model, without the prefixes of wrappers.
        weight: its values, the hidden ones under the mask included; not to be written to.
        mask: the mask of until now; it keeps everything before the first filling.
        generator: for random choices; on the CPU, seeded from the spec's seed, the name and the time, so that
            every process draws the same.
        rank: how the filler ranks the weights, for allocations; None where it does not rank.
        collected: what the filler needs beside the values, and nothing else.
        progress: how far the schedule has come, in [0, 1]; 0 where it does not say.
    """

    name: str
    weight: Tensor
    mask: Mask
    generator: torch.Generator
    rank: Rank | None = None
    collected: dict[Needs, Tensor] = field(default_factory=dict)
    progress: float = 0.0
    _rankings: dict[Rank, Ranking] = field(default_factory=dict, init=False, repr=False)

    @property
    def gradient(self) -> Tensor:
        """The gradient of the loss, of the weight's shape, before any masking or clipping."""
        return self._collected(Needs.GRADIENT)

    @property
    def squared_gradient(self) -> Tensor:
        """The sum over the step's backward passes of the squared gradient, of the weight's shape."""
        return self._collected(Needs.SQUARED_GRADIENT)

    @property
    def input_norms(self) -> Tensor:
        """The L2 norm of each input feature over the step's samples (and positions); it broadcasts to the weight."""
        return self._collected(Needs.INPUTS)

    @property
    def movement(self) -> Tensor:
        """Minus the sum of w g over all steps since the beginning, of the weight's shape, float32 at least."""
        return self._collected(Needs.MOVEMENT)

    @property
    def gradient_samples(self) -> Tensor:
        """The gradients of single steps, or batches, the oldest first: (n, *shape)."""
        return self._collected(Needs.GRADIENT_SAMPLES)

    @property
    def norm_scale(self) -> Tensor:
        """|gamma| of the BatchNorm behind the layer, (rows, 1, ...): it broadcasts to the weight."""
        return self._collected(Needs.NORM_SCALE)

    @property
    def hessian_gradient(self) -> Tensor:
        """H g, of the weight's shape, where g and H are of all weights that are calibrated and need it."""
        return self._collected(Needs.HESSIAN_GRADIENT)

    @property
    def synaptic_flow(self) -> Tensor:
        """dR/d|w| >= 0, float64, of the weight's shape; R is the sum of all outputs for inputs of ones."""
        return self._collected(Needs.SYNAPTIC_FLOW)

    def ranked(self, rank: Rank) -> Ranking:
        """The ranking that `rank` makes of this evidence: made once, for the allocation and the filler."""
        if rank not in self._rankings:
            self._rankings[rank] = rank(self)
        return self._rankings[rank]

    def _collected(self, need: Needs) -> Tensor:
        if need not in self.collected:
            raise OptionError(f"{need.name} of {self.name!r} was not collected: the criterion must declare that need")
        return self.collected[need]


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least, because products of half precision underflow."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
