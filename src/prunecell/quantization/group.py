"""Group: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
from dataclasses import dataclass

from prunecell.quantization.rules import Price
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight
from prunecell.quantization.whole import Whole
from prunecell.schedules import Clock

_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE = 0.05
_FIRST_LAM = 3e-6
_HALVINGS = 12
_ROOM = 0.99
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_PROPORTIONAL_GAIN, _INTEGRAL_GAIN = 1.5, 8.0
"""By which the logarithm of the price follows that of a size that is too large; the second per whole training."""


@dataclass(eq=False)
class Group:
    """The weights under one spec object.

    Attributes:
        lam: what a bit costs when the price has grown; it moves where a size is wanted.
        priced_at: how much of the training was over when the prices were taken; None: they never were.
        first_bytes: what the weights took at the beginning; 0: it is not known.
        excess: the logarithm of their size beside the one that they should have had when prices were taken.
    """

    spec: QuantizationSpec
    weights: list[QuantizedWeight]
    lam: float = _FIRST_LAM
    priced_at: float | None = None
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

    def advance(self, clock: Clock, whole: Whole) -> None:
        """Take the prices afresh, move lam and fix the zeros where it is time.

        Args:
            clock: of now.
            whole: what these weights are part of.
        """
        if not isinstance(self.spec, RateSpec):
            return
        done = self.spec.done(clock)
        since = math.inf if self.priced_at is None else done - self.priced_at
        is_time = done >= FREEZE and not self.is_fixed
        if not (is_time or clock.steps % _EVERY == 0 or since >= _SHARE):
            return
        for weight in self.weights:
            weight.take_changes_()
        if self.spec.target_bytes is not None:
            wanted = max(self.spec.target_bytes - whole.bytes_beside(self.weights), 1.0)
            if is_time:
                self._cut_to(_ROOM * wanted)
            elif not self.is_fixed:
                self._steer_lam(wanted, done)
        if is_time:
            dead = whole.dead_units()
            for weight in self.weights:
                weight.fix_zeros_(dead.get(weight.name))
        for weight in self.weights:
            weight.update_prices()
        self.priced_at = done

    def _steer_lam(self, wanted: float, done: float) -> None:
        """Raise the price while the weights take more bytes than they should by now, and lower it while less.

        Under a price that does not move, the logarithm of the size falls like a parabola until zeros are fixed.
        """
        now = math.log(self.n_bytes)
        self.first_bytes = self.first_bytes or self.n_bytes
        far = math.log(self.first_bytes / wanted) * (1 - done / FREEZE) ** 2
        excess = now - math.log(wanted) - far
        since = done - (self.priced_at or 0.0)
        change = _PROPORTIONAL_GAIN * (excess - self.excess) + _INTEGRAL_GAIN * since * excess
        self.lam *= math.exp(max(min(change, 1.0), -1.0))
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
