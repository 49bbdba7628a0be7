"""Course: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from prunecell.errors import OptionError
from prunecell.graph.units import dead_units
from prunecell.quantization.rules import Price
from prunecell.quantization.sizes import ENTRY
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight
from prunecell.schedules import Clock

_HEADER = 20
"""Bytes of an archive beside its tensors, about."""
_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE = 0.05
_FIRST_LAM = 3e-6
_HALVINGS = 12
_ROOM = 0.99
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_AT_ONCE, _OVER_TIME = 1.5, 8.0
"""How the logarithm of the price follows that of a size that is too large: with it, and per whole training."""


@dataclass(frozen=True, eq=False)
class Whole:
    """What the weights of a course are part of.

    Attributes:
        courses: all of the model.
    """

    model: nn.Module
    courses: list["Course"] = field(default_factory=list)

    def bytes_beside(self, course: "Course | None" = None) -> int:
        """What an archive has beside the weights of a course, or of all: others, and what is no integer as it is."""
        quantized = {id(weight.parameter) for one in self.courses for weight in one.weights}
        tensors = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}
        plain = [t for key, t in tensors.items() if key not in quantized]
        others = [other for other in self.courses if course is not None and other is not course]
        n_plain = sum(ENTRY + t.numel() * t.element_size() for t in plain)
        return _HEADER + n_plain + sum(other.n_bytes for other in others)

    def dead_units(self) -> Mapping[str, Tensor]:
        """What belongs to hidden units that are dead, where the model can be traced; see `units.dead_units`."""
        try:
            return dead_units(self.model)
        except OptionError:
            return {}


@dataclass(eq=False)
class Course:
    """The weights under one spec object.

    Attributes:
        lam: what a bit costs when the price has grown; it moves where a size is wanted.
        looked: how much of the training was over when the prices were taken; None: they never were.
        first_bytes: what the weights took at the beginning; 0: it is not known.
        excess: the logarithm of their size beside the one that they should have had when it was looked at.
    """

    spec: QuantizationSpec
    weights: list[QuantizedWeight]
    lam: float = _FIRST_LAM
    looked: float | None = None
    first_bytes: int = 0
    excess: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.spec, RateSpec) and self.spec.lam is not None:
            self.lam = float(self.spec.lam)

    def price(self, clock: Clock) -> Price:
        """What a bit costs at that time."""
        if not isinstance(self.spec, RateSpec):
            return Price(lam=0.0, only_growth=True)
        done = self.spec.done(clock)
        return Price(lam=self.lam * min(1.0, done / RAMP), only_growth=self.is_fixed)

    @property
    def is_fixed(self) -> bool:
        """Whether what is zero stays zero."""
        return all(weight.fixed for weight in self.weights)

    @property
    def n_bytes(self) -> int:
        """What the weights take in an archive, about."""
        return sum(weight.n_bytes for weight in self.weights)

    def advance(self, clock: Clock, whole: "Whole") -> None:
        """Take the prices afresh, move lam and fix the zeros where it is time.

        Args:
            clock: of now.
            whole: what these weights are part of.
        """
        if not isinstance(self.spec, RateSpec):
            return
        done = self.spec.done(clock)
        since = math.inf if self.looked is None else done - self.looked
        is_time = done >= FREEZE and not self.is_fixed
        if not (is_time or clock.steps % _EVERY == 0 or since >= _SHARE):
            return
        for weight in self.weights:
            weight.take_changes_()
        if self.spec.target_bytes is not None:
            wanted = max(self.spec.target_bytes - whole.bytes_beside(self), 1.0)
            if is_time:
                self._cut_to(_ROOM * wanted)
            elif not self.is_fixed:
                self._follow_size(wanted, done)
        if is_time:
            dead = whole.dead_units()
            for weight in self.weights:
                weight.fix_zeros_(dead.get(weight.name))
        for weight in self.weights:
            weight.look_again()
        self.looked = done

    def _follow_size(self, wanted: float, done: float) -> None:
        """Raise the price while the weights take more bytes than they should by now, and lower it while less.

        Under a price that does not move, the logarithm of the size falls like a parabola until zeros are fixed.
        """
        now = math.log(self.n_bytes)
        self.first_bytes = self.first_bytes or self.n_bytes
        far = math.log(self.first_bytes / wanted) * (1 - done / FREEZE) ** 2
        excess = now - math.log(wanted) - far
        since = done - (self.looked or 0.0)
        self.lam *= math.exp(max(min(_AT_ONCE * (excess - self.excess) + _OVER_TIME * since * excess, 1.0), -1.0))
        self.excess = excess

    def _cut_to(self, wanted: float) -> None:
        """Zero the smallest latents, in units of their steps, until the weights take no more bytes than is wanted."""
        low, high = 0.0, max(float(weight.latent.abs().max()) for weight in self.weights)
        if self._bytes_without(low) <= wanted:
            return
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._bytes_without(middle) <= wanted else (middle, high)
        for weight in self.weights:
            weight.latent = weight.cut(high)
            weight.write_()

    def _bytes_without(self, smallest: float) -> int:
        return sum(weight.n_bytes_of(weight.cut(smallest)) for weight in self.weights)
