"""Whole: what the weights under one spec are part of: the size of all in an archive, dead units."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from prunecell.errors import OptionError
from prunecell.graph.units import dead_units
from prunecell.quantization.sizes import ENTRY
from prunecell.quantization.weight import QuantizedWeight

_HEADER = 20
"""Bytes of an archive beside its tensors, about."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A model with all of its quantized weights."""

    model: nn.Module
    weights: Sequence[QuantizedWeight]

    def bytes_beside(self, weights: Iterable[QuantizedWeight]) -> int:
        """What an archive has beside some of the weights, about: the others, and as it is what is not quantized."""
        quantized = {id(weight.parameter) for weight in self.weights}
        tensors = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}
        plain = [t for key, t in tensors.items() if key not in quantized]
        own = {id(weight) for weight in weights}
        others = [weight for weight in self.weights if id(weight) not in own]
        n_plain = sum(ENTRY + t.numel() * t.element_size() for t in plain)
        return _HEADER + n_plain + sum(weight.n_bytes for weight in others)

    def dead_units(self) -> Mapping[str, Tensor]:
        """What belongs to hidden units that are dead, where the model can be traced; see `units.dead_units`."""
        try:
            return dead_units(self.model)
        except OptionError:
            return {}
