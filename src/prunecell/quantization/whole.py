"""Whole: what the weights under one spec are part of: the size of all in an archive, dead units."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunecell.codecs.encode import encode
from prunecell.errors import OptionError
from prunecell.graph import Chains, chains_of
from prunecell.pruning.hooks import pruned_by
from prunecell.quantization.sizes import ENTRY
from prunecell.quantization.weight import QuantizedWeight

_HEADER = 32
"""Bytes of an archive beside its tensors, about."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A model with all of its quantized weights."""

    model: nn.Module
    weights: Sequence[QuantizedWeight]

    def bytes_beside(self, weights: Iterable[QuantizedWeight], *, without_pruned: bool = False) -> int:
        """What an archive has beside some of the weights, about: a header, the others, and all that is not quantized.

        Args:
            weights: that do not count.
            without_pruned: whether what is not quantized, but held by a Pruner, does not count either.
        """
        own, quantized = {id(weight) for weight in weights}, {id(weight.parameter) for weight in self.weights}
        others = sum(weight.n_bytes for weight in self.weights if id(weight) not in own)
        stored = [t for t in self.model.state_dict(keep_vars=True).values() if isinstance(t, Tensor)]
        rest = [t for t in stored if id(t) not in quantized and not (without_pruned and pruned_by(t))]
        once = {id(tensor): tensor for tensor in rest}.values()  # tied ones have a name each
        return _HEADER + others + ENTRY * len(rest) + sum(_bytes_of(tensor) for tensor in once)

    def chains(self) -> Chains | None:
        """The model's hidden units as they are connected now; None where it cannot be traced."""
        try:
            return chains_of(self.model)
        except OptionError:
            return None


def _bytes_of(tensor: Tensor) -> int:
    if tensor.is_meta or tensor.layout != torch.strided:
        return tensor.numel() * tensor.element_size()
    return encode(tensor.detach()).record.n_bytes
