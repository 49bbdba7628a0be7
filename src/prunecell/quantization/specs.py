"""RateSpec and IntSpec: which integers a weight may be, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunecell.checks import check_count, check_number
from prunecell.choices import by_name
from prunecell.described import described, shown
from prunecell.errors import OptionError
from prunecell.schedules import Clock
from prunecell.schedules.length import Length

MOST_BITS = 8
RAMP, FREEZE = 0.4, 0.8
"""Parts of the training: the price has grown to `lam` after the first; zeros are fixed after the second."""


@by_name("lam", "epochs", example="RateSpec(lam=3e-6, epochs=20)")
@dataclass(frozen=True, kw_only=True, repr=False)
class RateSpec:
    """Integers of any size, learned under the price of the bits that they take in a file.

    A weight is step x integer, with one learned step a tensor. The loss that is trained is your loss + lam x bits. The
    price grows to `lam` over the first 0.4 of the training. At 0.8 the zeros are fixed, and the rest only fine-tunes.
    Give the length of the training in exactly one of epochs, steps and samples.

    Args:
        lam: > 0, what a bit may cost of your loss (of its mean over the samples): 3e-6 makes a LeNet on MNIST about 140
            times smaller. None: found on the way to `target_bytes`.
        target_bytes: > 0, the size that the model is to have in a file; `lam` is then the price to begin with. What
            is larger than the integers of the first steps take is not reached, and told at the end.
        epochs, steps, samples: > 0, the length of the training.

    Source: the closed-form price of an adaptive arithmetic coder whose contexts are the row, the column and the kernel;
    compare Oktay 2019, Scalable Model Compression by Entropy Penalized Reparameterization,
    https://arxiv.org/abs/1906.06624.

    >>> RateSpec(lam=3e-6, epochs=20)
    RateSpec(lam=3e-06, epochs=20)
    """

    lam: float | None = None
    target_bytes: int | None = None
    epochs: float | None = None
    steps: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.lam is None and self.target_bytes is None:
            raise OptionError("give lam, target_bytes or both to RateSpec: for example RateSpec(lam=3e-6, epochs=20)")
        if self.lam is not None:
            check_number("lam", self.lam, low=0, open_low=True)
        if self.target_bytes is not None:
            check_count("target_bytes", self.target_bytes, low=1)
        _ = self.time

    def __repr__(self) -> str:
        return shown(self)

    @property
    def time(self) -> Length:
        """The length of the training."""
        example = "RateSpec(lam=3e-6, epochs=20)"
        return Length.of("RateSpec", example, epochs=self.epochs, steps=self.steps, samples=self.samples)

    @property
    def counts_epochs(self) -> bool:
        """Whether an epoch's size must be known."""
        return self.epochs is not None

    def done(self, clock: Clock) -> float:
        """How much of the training is over, in [0, 1].

        >>> RateSpec(lam=1e-6, steps=100).done(Clock(steps=25))
        0.25
        """
        return min(self.time.now(clock) / self.time.amount, 1.0)

    def so_far(self, clock: Clock) -> str:
        """How much of the training is over, in words.

        >>> RateSpec(lam=1e-6, epochs=20).so_far(Clock(samples=50, epoch_size=100))
        '0.5 of 20 epochs'
        """
        return self.time.so_far(clock)

    def to_data(self) -> Mapping[str, Any]:
        """Its fields as plain data."""
        return {"type": "rate", **described(self)["fields"]}


@by_name("bits", example="IntSpec(bits=8)")
@dataclass(frozen=True, kw_only=True, repr=False)
class IntSpec:
    """Integers of a few bits, symmetric around zero, with a step for each output channel.

    Training goes on by the straight-through estimator. What is zero stays zero, so masks are kept.

    Args:
        bits: 2 to 8; the integers are in [-(2^(bits - 1) - 1), 2^(bits - 1) - 1].

    Source: Esser 2020, Learned Step Size Quantization, https://arxiv.org/abs/1902.08153.

    >>> IntSpec(bits=4).largest
    7
    """

    bits: int = 8

    def __post_init__(self) -> None:
        check_count("bits", self.bits, low=2, high=MOST_BITS)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def counts_epochs(self) -> bool:
        """See `RateSpec`: nothing changes with time."""
        return False

    @property
    def largest(self) -> int:
        """The largest integer."""
        return (1 << self.bits - 1) - 1

    def to_data(self) -> Mapping[str, Any]:
        """Its fields as plain data."""
        return {"type": "int", **described(self)["fields"]}


QuantizationSpec = RateSpec | IntSpec
