"""Group: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from prunecell.errors import OptionError, StateError, some
from prunecell.graph import Chains
from prunecell.graph.units import dead_units
from prunecell.quantization.rules import BitPrice
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight
from prunecell.quantization.whole import Whole
from prunecell.schedules import Clock

_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE = 0.05
_FIRST_LAM = 3e-6
_HALVINGS = 12
_ROOM = 0.98
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_SHORT = 0.8
"""Part of `target_bytes` below which a file is told to be much smaller than it may be."""
_LAMS = (1e-20, 1e20)
"""Between these the price stays, however long a size is out of reach."""
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

    def price(self, clock: Clock) -> BitPrice:
        """What a bit costs at that time."""
        if not isinstance(self.spec, RateSpec):
            return BitPrice(lam=0.0, only_growth=True)
        done = self.spec.done(clock)
        return BitPrice(lam=self.lam * min(1.0, done / RAMP), only_growth=self.is_fixed)

    @property
    def is_fixed(self) -> bool:
        """Whether what is zero stays zero."""
        return all(weight.fixed for weight in self.weights)

    @property
    def n_bytes(self) -> int:
        """What the weights take in an archive, about."""
        return sum(weight.n_bytes for weight in self.weights)

    def missed(self, clock: Clock) -> str:
        """What has not come to its end by then, in words; empty where nothing is to come but fine-tuning."""
        if not isinstance(self.spec, RateSpec) or self.is_fixed:
            return ""
        grown = min(self.spec.done(clock) / RAMP, 1.0)
        return (
            f"{self.spec} stands at {self.spec.so_far(clock)}, the price of a bit at {grown:.0%}, and zeros, which are"
            f" fixed at {FREEZE:.0%} of the training, are not fixed"
        )

    def short_of_target(self, whole: Whole) -> str:
        """What is to be told of a model that takes much less than it may in the end; empty where there is nothing."""
        if not isinstance(self.spec, RateSpec) or self.spec.target_bytes is None or not self.is_fixed:
            return ""
        beside, target = whole.bytes_beside(self.weights), self.spec.target_bytes
        if (n_bytes := beside + self.n_bytes) >= _SHORT * target:
            return ""
        if target - beside > _SHORT * self.first_bytes:
            why = "a step size begins at the root mean square of its weight, and no price of bits makes it finer"
            advice = "IntSpec(bits=8) keeps more of each weight, a smaller target_bytes makes a file of that size"
        else:
            why = "the price of bits, and what was zeroed at the end, have taken more than was needed"
            advice = "a longer training, or lower learning rates, end nearer to it"
        return f"the model takes about {n_bytes:,} bytes where target_bytes={target:,} was given: {why}; {advice}"

    def advance(self, clock: Clock, whole: Whole) -> None:
        """Take the prices afresh, move lam and fix the zeros where it is time.

        Args:
            clock: of now.
            whole: what these weights are part of.

        Raises:
            StateError: inf or NaN stands in a weight; no price and no zero was changed.
        """
        if not isinstance(self.spec, RateSpec):
            return
        done = self.spec.done(clock)
        since = math.inf if self.priced_at is None else done - self.priced_at
        is_time = done >= FREEZE and not self.is_fixed
        if not (is_time or clock.steps % _EVERY == 0 or since >= _SHARE):
            return
        self._take_changes()
        chains = whole.chains() if is_time else None
        if self.spec.target_bytes is not None and not self.is_fixed:
            wanted = self.spec.target_bytes - whole.bytes_beside(self.weights)
            if is_time:
                self._cut_to(wanted, chains)
            elif wanted > 0:  # else the rest of the model is to become smaller yet, under a Pruner, say
                self._steer_lam(wanted, done)
        if is_time:
            dead = self._dead_below(0.0, chains)
            for weight in self.weights:
                weight.fix_zeros_(dead.get(weight.name))
        for weight in self.weights:
            weight.update_prices()
        self.priced_at = done

    def _take_changes(self) -> None:
        """Look at the weights of now; a StateError where the training has made something else than numbers of them."""
        for weight in self.weights:
            weight.take_changes_()
        if diverged := [weight.name for weight in self.weights if not bool(weight.latent.isfinite().all())]:
            raise StateError(diverged_message(diverged, "inf or NaN"))

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
        least, most = _LAMS
        self.lam = min(max(self.lam * math.exp(max(min(change, 1.0), -1.0)), least), most)
        self.excess = excess

    def _cut_to(self, wanted: float, chains: Chains | None) -> None:
        """Zero the smallest latents, in units of their steps, until the weights take no more bytes than is wanted.

        Warns:
            RuntimeWarning: not one weight could stay. All stay as they are then.
        """
        low, high = 0.0, 2 * max(float(weight.latent.abs().max()) for weight in self.weights)
        if self._bytes_without(low, chains) <= _ROOM * wanted:
            return
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._bytes_without(middle, chains) <= _ROOM * wanted else (middle, high)
        if not any(bool(weight.cut(high).any()) for weight in self.weights):
            warnings.warn(
                f"the wanted size is out of reach: {max(wanted, 0):,.0f} bytes are left for weights that take"
                f" {self.n_bytes:,}; they stay as the price has left them",
                RuntimeWarning,
                stacklevel=6,
            )
            return
        for weight in self.weights:
            weight.latent = weight.cut(high)
            weight.write_()

    def _bytes_without(self, smallest: float, chains: Chains | None) -> int:
        dead = self._dead_below(smallest, chains)
        return sum(weight.n_bytes_of(weight.cut(smallest, dead.get(weight.name))) for weight in self.weights)

    def _dead_below(self, smallest: float, chains: Chains | None) -> Mapping[str, Tensor]:
        """What belongs to units that are dead once latents below that are zero, where the model can be traced."""
        if chains is None:
            return {}
        return dead_units(chains, values={w.name: w.rule.integers_of(w.cut(smallest), w.step) for w in self.weights})


def groups_of(weights: Iterable[QuantizedWeight]) -> list[Group]:
    """The weights by the spec object that they are under."""
    by_spec: dict[int, Group] = {}
    for weight in weights:
        by_spec.setdefault(id(weight.spec), Group(weight.spec, [])).weights.append(weight)
    return list(by_spec.values())


def diverged_message(names: Sequence[str], what: str) -> str:
    """What to say of weights that a training has brought to no numbers.

    >>> diverged_message(["0.weight"], "inf or NaN")
    'the training diverged: 0.weight has inf or NaN; go back to a checkpoint, and train at a lower learning rate'
    """
    have = "has" if len(names) == 1 else "have"
    return (
        f"the training diverged: {some(names)} {have} {what}; go back to a checkpoint, and train at a lower learning"
        " rate"
    )


def check_wanted_bytes(groups: Sequence[Group], whole: Whole) -> None:
    """Refuse sizes that cannot be met.

    Raises:
        OptionError: two specs have one, or all else in the model takes more. What a Pruner holds does not count,
            because it may become smaller.
    """
    aiming = [group for group in groups if isinstance(group.spec, RateSpec) and group.spec.target_bytes is not None]
    if len(aiming) > 1:
        raise OptionError("two specs have target_bytes, which is the size of the whole model: give it to one of them")
    for group in aiming:
        beside = whole.bytes_beside(group.weights, without_pruned=True)
        if beside >= group.spec.target_bytes:  # type: ignore[union-attr, operator] # see above
            raise OptionError(
                f"target_bytes={group.spec.target_bytes} is illegal: all else in the model takes about {beside:,} bytes"  # type: ignore[union-attr]
                " already"
            )
