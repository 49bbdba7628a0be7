"""Group: the weights under one spec as time goes by: what a bit costs now, and when the zeros are fixed."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunecell.errors import OptionError, StateError, some
from prunecell.quantization.rules import BitPrice
from prunecell.quantization.specs import FREEZE, RAMP, QuantizationSpec, RateSpec
from prunecell.quantization.steering import (
    Steered,
    cut_,
    dead_below,
    empty_of,
    first_lam,
    told_of_cut,
    told_of_short,
)
from prunecell.quantization.weight import QuantizedWeight
from prunecell.quantization.whole import Whole
from prunecell.schedules import Clock

_EVERY = 100
"""Steps after which prices are taken afresh; sooner where that is more than `_SHARE` of the training."""
_SHARE, _SHARE_STEERED = 0.05, 0.02
"""The second where a size is wanted: a price that is looked at more often can move faster."""
_FIRST_LAM = 3e-6


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
        if empty_of(self.weights):  # which was told when zeros were fixed
            return ""
        beside = whole.bytes_beside(self.weights)
        return told_of_short(self.spec.target_bytes, beside + self.n_bytes, beside, self.first_bytes)

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
        """Move the price towards the size that is wanted."""
        n_bytes = self.n_bytes
        if not self.first_bytes:
            self.first_bytes = n_bytes
            if self.spec.lam is None:  # type: ignore[union-attr] # only a RateSpec is steered
                self.lam = first_lam(n_bytes, wanted)
        before = Steered(lam=self.lam, first_bytes=self.first_bytes, excess=self.excess)
        now = before.after(n_bytes, wanted, done=done, since=done - (self.priced_at or 0.0))
        self.lam, self.excess = now.lam, now.excess

    def _fix_zeros(self, whole: Whole) -> None:
        """Fix what is zero, and what belongs to dead units; where a size is wanted, cut to it before."""
        chains = whole.chains()
        target = self.spec.target_bytes  # type: ignore[union-attr] # the zeros of an IntSpec are fixed already
        beside = 0 if target is None else whole.bytes_beside(self.weights)
        before = 0 if target is None else cut_(self.weights, target - beside, chains)
        dead = dead_below(self.weights, 0.0, chains)
        for weight in self.weights:
            weight.fix_zeros_(dead.get(weight.name))
        if target is None:
            return
        told = told_of_cut(
            target, before + beside, self.n_bytes + beside, beside, lam=self.lam, empty=empty_of(self.weights)
        )
        if told:
            warnings.warn(told, RuntimeWarning, stacklevel=6)


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
