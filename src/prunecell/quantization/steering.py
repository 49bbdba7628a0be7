"""Steering: the price of a bit that brings weights to a wanted size, and the cut to it when zeros are fixed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from prunecell.errors import quoted
from prunecell.graph import Chains
from prunecell.graph.units import dead_units
from prunecell.quantization.specs import FREEZE
from prunecell.quantization.weight import QuantizedWeight

_NATS_AN_OCTAVE, _LEAST_FAR = 1.4, 0.1
"""Of the first price where only a size is wanted: see `first_lam`."""
_HALVINGS = 12
_ROOM = 0.98
"""Part of the wanted bytes that is filled when zeros are fixed: the rest still moves a little."""
_TOO_MUCH = 1.1
"""A file that is larger than it should be by this factor loses weights that it needs when it is cut."""
_GAIN, _URGENCY, _LEAST_LEFT = 8.0, 2.0, 0.02
"""By which the logarithm of the price follows that of a size that is too large: see `Steered.after`."""
_SHORT = 0.8
"""Part of `target_bytes` below which a file is told to be much smaller than it may be."""
_LAMS = (1e-20, 1e20)
"""Between these the price stays, however long a size is out of reach."""


@dataclass(frozen=True, kw_only=True)
class Steered:
    """A price that is steered to a size.

    Attributes:
        lam: what a bit costs when the price has grown.
        first_bytes: what the weights took at the beginning.
        excess: the logarithm of their size beside the one that they should have had when the price was last moved.
    """

    lam: float
    first_bytes: int
    excess: float

    def after(self, n_bytes: int, wanted: float, *, done: float, since: float) -> "Steered":
        """Raise the price while the weights take more bytes than they should by now, and lower it while less.

        Under a price that does not move, the logarithm of the size falls like a parabola until zeros are fixed, and so
        it should here. The price follows what is in excess of that, and the faster the less time is left:

            d log(lam) = _GAIN * (d excess + _URGENCY * excess * d done / (FREEZE - done))

        Args:
            n_bytes: what the weights take now.
            wanted: what they should take in the end.
            done: how much of the training is over.
            since: how much of it was not when the price was last moved.
        """
        aim = math.log(_ROOM * wanted)
        far = (math.log(self.first_bytes) - aim) * (1 - done / FREEZE) ** 2
        excess, left = math.log(n_bytes) - aim - far, max(FREEZE - done, _LEAST_LEFT)
        change = _GAIN * (excess - self.excess + _URGENCY * excess * since / left)
        least, most = _LAMS
        lam = min(max(self.lam * math.exp(max(min(change, 1.0), -1.0)), least), most)
        return Steered(lam=lam, first_bytes=self.first_bytes, excess=excess)


def first_lam(n_bytes: int, wanted: float) -> float:
    """The price at which all bits of now cost 1.4 nats of the loss for each time that the size is to halve.

    It is right within a factor of about 5 for classifiers, which is near enough to be steered.

    >>> first_lam(1000, 250)
    0.00035
    """
    return _NATS_AN_OCTAVE * max(math.log2(n_bytes / wanted), _LEAST_FAR) / (8 * n_bytes)


# ---- when zeros are fixed --------------------------------------------------------------------------------------------


def cut_(weights: Sequence[QuantizedWeight], wanted: float, chains: Chains | None) -> int:
    """Zero the smallest latents, in units of their steps, until the weights take no more bytes than is wanted.

    Where not one could stay, all stay as they are.

    Args:
        weights: that have a size together.
        wanted: that size, in bytes.
        chains: of the model; None where it cannot be traced.

    Returns:
        The bytes that they took before.
    """
    before = _bytes_without(weights, 0.0, chains)
    if before <= _ROOM * wanted:
        return before
    low, high = 0.0, 2 * max(float(weight.latent.abs().max()) for weight in weights)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _bytes_without(weights, middle, chains) <= _ROOM * wanted else (middle, high)
    if any(bool(weight.cut(high).any()) for weight in weights):
        for weight in weights:
            weight.latent = weight.cut(high)
            weight.write_()
    return before


def dead_below(weights: Sequence[QuantizedWeight], smallest: float, chains: Chains | None) -> Mapping[str, Tensor]:
    """What belongs to units that are dead once latents below that are zero, where the model can be traced."""
    if chains is None:
        return {}
    return dead_units(chains, values={w.name: w.rule.integers_of(w.cut(smallest), w.step) for w in weights})


def _bytes_without(weights: Sequence[QuantizedWeight], smallest: float, chains: Chains | None) -> int:
    dead = dead_below(weights, smallest, chains)
    return sum(weight.n_bytes_of(weight.cut(smallest, dead.get(weight.name))) for weight in weights)


# ---- what is told ----------------------------------------------------------------------------------------------------


def empty_of(weights: Sequence[QuantizedWeight]) -> list[str]:
    """The matrices and kernels of which all weights became zero."""
    return [w.name for w in weights if w.latent.ndim > 1 and not bool(w.integers.any())]


def told_of_cut(target: int, before: int, after: int, beside: int, lam: float, empty: Sequence[str]) -> str:
    """What is to be said of a wanted size when zeros have been fixed; empty if nothing.

    Args:
        target: the size.
        before: what the whole model took before it was cut.
        after: what it takes now.
        beside: what of that is for what the spec does not quantize.
        lam: the price of now.
        empty: the weights of which nothing is left.
    """
    if after > target:
        return (
            f"target_bytes={target:,} is out of reach: the model takes about {after:,} bytes, of which {beside:,} are"
            " for what this spec does not quantize. No weight was cut. Ask for more bytes, or quantize more"
        )
    if before > _TOO_MUCH * target:
        return (
            f"the price did not bring the model to target_bytes={target:,}: it took about {before:,} bytes at"
            f" {FREEZE:.0%} of the training, with lam at {lam:.2g}, and was cut to {after:,} by zeroing its"
            f" smallest weights, which may cost accuracy: train longer, begin with a larger lam, or ask for more"
            " bytes"
        )
    if empty:
        return (
            f"target_bytes={target:,} leaves nothing of {', '.join(map(quoted, empty))}: with lam at"
            f" {lam:.2g} all of its weights became zero: train longer, or ask for more bytes"
        )
    return ""


def told_of_short(target: int, n_bytes: int, beside: int, first_bytes: int) -> str:
    """What is to be said of a model that takes much less than it may in the end; empty where there is nothing.

    Args:
        target: the size that was wanted.
        n_bytes: what the model takes.
        beside: what of that is for what the spec does not quantize.
        first_bytes: what the weights took at the beginning.
    """
    if n_bytes >= _SHORT * target:
        return ""
    if target - beside > _SHORT * first_bytes:
        why = "a step size begins at the root mean square of its weight, and no price of bits makes it finer"
        advice = "IntSpec(bits=8) keeps more of each weight, a smaller target_bytes makes a file of that size"
    else:
        why = "the price of bits, and what was zeroed at the end, have taken more than was needed"
        advice = "a longer training, or lower learning rates, end nearer to it"
    return f"the model takes about {n_bytes:,} bytes where target_bytes={target:,} was given: {why}; {advice}"
