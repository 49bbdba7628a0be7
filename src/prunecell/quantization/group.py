"""Group: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from prunecell.errors import OptionError, StateError, quoted, some
from prunecell.graph import Chains
from prunecell.graph.units import dead_units
from prunecell.quantization.rules import BitPrice
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.weight import QuantizedWeight
from prunecell.quantization.whole import Whole
from prunecell.schedules import Clock

_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE, _SHARE_STEERED = 0.05, 0.02
"""The second where a size is wanted: a price that is looked at more often can move faster."""
_FIRST_LAM = 3e-6
_NATS_AN_OCTAVE, _LEAST_FAR = 1.4, 0.1
"""Of the first price where only a size is wanted: see `Group._first_lam`."""
_HALVINGS = 12
_ROOM = 0.98
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_TOO_MUCH = 1.1
"""A file that is larger than it should be by this factor loses weights that it needs when it is cut."""
_GAIN, _URGENCY, _LEAST_LEFT = 8.0, 2.0, 0.02
"""By which the logarithm of the price follows that of a size that is too large: see `Group._steer_lam`."""
_SHORT = 0.8
"""Part of `target_bytes` below which a file is told to be much smaller than it may be."""
_LAMS = (1e-20, 1e20)
"""Between these the price stays, however long a size is out of reach."""


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

    @property
    def _empty(self) -> list[str]:
        """The matrices and kernels of which all weights became zero."""
        return [w.name for w in self.weights if w.latent.ndim > 1 and not bool(w.integers.any())]

    def short_of_target(self, whole: Whole) -> str:
        """What is to be told of a model that takes much less than it may in the end; empty where there is nothing."""
        if not isinstance(self.spec, RateSpec) or self.spec.target_bytes is None or not self.is_fixed:
            return ""
        beside, target = whole.bytes_beside(self.weights), self.spec.target_bytes
        if (n_bytes := beside + self.n_bytes) >= _SHORT * target or self._empty:
            return ""  # a layer of which nothing is left was told when zeros were fixed
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
        target = self.spec.target_bytes
        share = _SHARE if target is None else _SHARE_STEERED
        if not (is_time or clock.steps % _EVERY == 0 or since >= share):
            return
        self._take_changes()
        if is_time:
            self._fix_zeros(whole)
        elif target is not None and not self.is_fixed:
            wanted = target - whole.bytes_beside(self.weights)
            if wanted > 0:  # else the rest of the model is to become smaller yet, under a Pruner, say
                self._steer_lam(wanted, done)
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

        Under a price that does not move, the logarithm of the size falls like a parabola until zeros are fixed, and so
        it should here. The price follows what is in excess of that, and the faster the less time is left:

            d log(lam) = _GAIN * (d excess + _URGENCY * excess * d done / (FREEZE - done))
        """
        now, aim = math.log(self.n_bytes), math.log(_ROOM * wanted)
        if not self.first_bytes:
            self.first_bytes = self.n_bytes
            if self.spec.lam is None:  # type: ignore[union-attr] # only a RateSpec is steered
                self.lam = self._first_lam(wanted)
        far = (math.log(self.first_bytes) - aim) * (1 - done / FREEZE) ** 2
        excess = now - aim - far
        since, left = done - (self.priced_at or 0.0), max(FREEZE - done, _LEAST_LEFT)
        change = _GAIN * (excess - self.excess + _URGENCY * excess * since / left)
        least, most = _LAMS
        self.lam = min(max(self.lam * math.exp(max(min(change, 1.0), -1.0)), least), most)
        self.excess = excess

    def _first_lam(self, wanted: float) -> float:
        """The price at which all bits of now cost 1.4 nats of the loss for each time that the size is to halve.

        It is right within a factor of about 5 for classifiers, which is near enough to be steered.
        """
        halvings = max(math.log2(self.n_bytes / wanted), _LEAST_FAR)
        return _NATS_AN_OCTAVE * halvings / (8 * self.n_bytes)

    def _fix_zeros(self, whole: Whole) -> None:
        """Fix what is zero, and what belongs to dead units; where a size is wanted, cut to it before."""
        chains = whole.chains()
        target = self.spec.target_bytes  # type: ignore[union-attr] # the zeros of an IntSpec are fixed already
        beside = 0 if target is None else whole.bytes_beside(self.weights)
        before = 0 if target is None else self._bytes_without(0.0, chains)
        if target is not None and before > _ROOM * (target - beside):
            self._cut_to(target - beside, chains)
        dead = self._dead_below(0.0, chains)
        for weight in self.weights:
            weight.fix_zeros_(dead.get(weight.name))
        if target is not None and (told := self._told(target, before + beside, self.n_bytes + beside)):
            warnings.warn(told, RuntimeWarning, stacklevel=6)

    def _told(self, target: int, before: int, after: int) -> str:
        """What is to be said of a wanted size when zeros have been fixed; empty if nothing.

        Args:
            target: the size.
            before: what the whole model took before it was cut.
            after: what it takes now.
        """
        if after > target:
            return (
                f"target_bytes={target:,} is out of reach: the model takes about {after:,} bytes, of which"
                f" {after - self.n_bytes:,} are for what this spec does not quantize. No weight was cut. Ask for more"
                " bytes, or quantize more"
            )
        if before > _TOO_MUCH * target:
            return (
                f"the price did not bring the model to target_bytes={target:,}: it took about {before:,} bytes at"
                f" {FREEZE:.0%} of the training, with lam at {self.lam:.2g}, and was cut to {after:,} by zeroing its"
                f" smallest weights, which may cost accuracy: train longer, begin with a larger lam, or ask for more"
                " bytes"
            )
        if empty := self._empty:
            return (
                f"target_bytes={target:,} leaves nothing of {', '.join(map(quoted, empty))}: with lam at"
                f" {self.lam:.2g} all of its weights became zero: train longer, or ask for more bytes"
            )
        return ""

    def _cut_to(self, wanted: float, chains: Chains | None) -> None:
        """Zero the smallest latents, in units of their steps, until the weights take no more bytes than is wanted.

        Where not one could stay, all stay as they are.
        """
        low, high = 0.0, 2 * max(float(weight.latent.abs().max()) for weight in self.weights)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._bytes_without(middle, chains) <= _ROOM * wanted else (middle, high)
        if not any(bool(weight.cut(high).any()) for weight in self.weights):
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
