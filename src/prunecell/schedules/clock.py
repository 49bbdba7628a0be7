"""The clock, and what a schedule may say of itself beside the sparsity."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Protocol, runtime_checkable

from prunecell.errors import OptionError, quoted


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How far training has come.

    Attributes:
        samples: samples seen, >= 0.
        steps: optimizer steps made, >= 0.
        epoch_size: samples in one epoch, or None where nobody said.
    """

    samples: int = 0
    steps: int = 0
    epoch_size: int | None = None

    def advanced(self, n_samples: int) -> "Clock":
        """The clock one step and `n_samples` samples later."""
        return replace(self, samples=self.samples + n_samples, steps=self.steps + 1)

    def stepped(self, n_samples: int) -> "Clock":
        """The same, of samples that a user tells.

        Raises:
            OptionError: the step has more of them than an epoch.

        >>> Clock(epoch_size=60).stepped(100)
        Traceback (most recent call last):
        prunecell.errors.OptionError: a step of 100 samples is more than epoch_size=60: epoch_size counts samples, ...
        """
        if self.epoch_size is not None and n_samples > self.epoch_size:
            raise OptionError(
                f"a step of {n_samples:,} samples is more than epoch_size={self.epoch_size}: epoch_size counts samples,"
                " not batches"
            )
        return self.advanced(n_samples)

    @property
    def miscounted(self) -> str:
        """What to say of a training by epochs where every step was of one sample; empty where one was of more.

        >>> Clock(samples=60, steps=60, epoch_size=6000).miscounted
        '60 samples in 60 steps: give the samples of the batch, len(x)'
        """
        if self.epoch_size in (None, 1) or not 1 < self.steps == self.samples:
            return ""
        return f"{self.samples:,} samples in {self.steps:,} steps: give the samples of the batch, len(x)"

    @property
    def samples_per_epoch(self) -> int:
        """The epoch size; an OptionError where it is not known."""
        if self.epoch_size is None:
            raise OptionError(
                "epoch_size=None is illegal here: this schedule counts epochs; give Pruner(epoch_size=samples)"
            )
        return self.epoch_size


_FAR = 1 << 40
"""Samples, and steps, after which every training is over."""

Schedule = Callable[[Clock], float]


@runtime_checkable
class Timed(Protocol):
    """A schedule that says when an update of the masks is due.

    Attributes:
        moves: whether there are updates after the first filling.
        counts_epochs: whether it reads `clock.samples_per_epoch`.
    """

    @property
    def moves(self) -> bool:
        """See the class."""
        ...

    @property
    def counts_epochs(self) -> bool:
        """See the class."""
        ...

    def update(self, clock: Clock) -> float:
        """A number that is another one from each update to the next: how many were due until now, say."""
        ...


@runtime_checkable
class Progressing(Protocol):
    """A schedule that has an end, and says how far it has come."""

    def progress(self, clock: Clock) -> float:
        """In [0, 1]; 1 at the end and after it."""
        ...


@runtime_checkable
class SoFar(Protocol):
    """A schedule that says in words how far it has come."""

    def so_far(self, clock: Clock) -> str:
        """As in "2 of 10 epochs"."""
        ...


@runtime_checkable
class Foreseen(Protocol):
    """A schedule whose last sparsity is known from the beginning."""

    @property
    def last(self) -> float:
        """The sparsity that it comes to, and stays at."""
        ...


def moves(schedule: Schedule) -> bool:
    """Whether masks are filled more than once; a plain function is believed to want it."""
    return schedule.moves if isinstance(schedule, Timed) else True


def counts_epochs(schedule: Schedule) -> bool:
    """Whether an epoch's size must be known from the beginning."""
    return schedule.counts_epochs if isinstance(schedule, Timed) else False


def sparsity_at(schedule: Schedule, clock: Clock) -> float:
    """What a schedule asks for at that time.

    Raises:
        OptionError: it returned something else than a number in [0, 1].
    """
    sparsity = schedule(clock)
    if not isinstance(sparsity, Real) or not 0 <= sparsity <= 1:
        raise OptionError(f"{quoted(schedule)} returned the sparsity {quoted(sparsity)}: it must be a number in [0, 1]")
    return float(sparsity)


def updates_of(schedule: Schedule) -> Callable[[Clock], float]:
    """From the clock to the number of the last update that was due; of a plain function, the sparsity it asks for."""
    return schedule.update if isinstance(schedule, Timed) else partial(sparsity_at, schedule)


def is_over(schedule: Schedule, clock: Clock) -> bool:
    """Whether no update is to come; a schedule that does not say how far it has come is believed to be over."""
    if not isinstance(schedule, Progressing):
        return True
    if not isinstance(schedule, Timed):
        return schedule.progress(clock) >= 1
    return schedule.update(clock) == schedule.update(replace(clock, samples=_FAR, steps=_FAR))


def so_far(schedule: object, clock: Clock) -> str:
    """How far a schedule has come, in words; nothing where it does not say."""
    return schedule.so_far(clock) if isinstance(schedule, SoFar) else ""


def last_of(schedule: Schedule, clock: Clock) -> float:
    """The sparsity that a schedule comes to; what it asks for now where it does not say."""
    return schedule.last if isinstance(schedule, Foreseen) else sparsity_at(schedule, clock)


def progress_at(schedule: Schedule, clock: Clock) -> float:
    """How far a schedule has come, in [0, 1]; 0 where it does not say."""
    return schedule.progress(clock) if isinstance(schedule, Progressing) else 0.0
