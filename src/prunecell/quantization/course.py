"""Course: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from prunecell.quantization.rules import Price
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight
from prunecell.schedules import Clock

_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE = 0.05
_FIRST_LAM = 3e-6
_HALVINGS = 12
_ROOM = 0.99
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_GAIN = 12.0
"""How fast the price follows a size that is not yet the wanted one: per whole training and per factor e of size."""


@dataclass(eq=False)
class Course:
    """The weights under one spec object.

    Attributes:
        lam: what a bit costs when the price has grown; it moves where a size is wanted.
        looked: how much of the training was over when the prices were taken; None: they never were.
    """

    spec: QuantizationSpec
    weights: list[QuantizedWeight]
    lam: float = _FIRST_LAM
    looked: float | None = None

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
    def bits(self) -> float:
        """What the integers take in a file: an estimate."""
        return sum(weight.bits for weight in self.weights)

    def advance(self, clock: Clock, other_bytes: Callable[["Course"], float]) -> None:
        """Take the prices afresh, move lam and fix the zeros where it is time.

        Args:
            clock: of now.
            other_bytes: -> what the file has beside the weights of a course.
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
            wanted = max(self.spec.target_bytes - other_bytes(self), 1.0)
            if is_time:
                self._cut_to(_ROOM * wanted)
            elif done >= RAMP / 2 and not self.is_fixed:
                self._follow_size(wanted, since)
        for weight in self.weights:
            weight.look_again()
            if is_time:
                weight.fix_zeros_()
        self.looked = done

    def _follow_size(self, wanted: float, since: float) -> None:
        """Raise the price while the weights take more bytes than is wanted, and lower it while they take less."""
        far = math.log(max(self.bits / 8, 1.0) / wanted)
        self.lam *= math.exp(max(min(_GAIN * min(since, _SHARE) * far, 1.0), -1.0))

    def _cut_to(self, wanted: float) -> None:
        """Zero the smallest latents, in units of their steps, until the weights take no more bytes than is wanted."""
        low, high = 0.0, max(float(weight.latent.abs().max()) for weight in self.weights)
        if self._bits_without(low) <= 8 * wanted:
            return
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._bits_without(middle) <= 8 * wanted else (middle, high)
        for weight in self.weights:
            weight.latent = weight.cut(high)
            weight.write_()

    def _bits_without(self, smallest: float) -> float:
        return sum(weight.bits_of(weight.cut(smallest)) for weight in self.weights)
