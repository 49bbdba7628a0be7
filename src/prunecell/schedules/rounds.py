"""Rounds: train, prune a part of what is left, train again, as lottery tickets are found."""

import math
from dataclasses import dataclass

from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError
from prunecell.schedules.clock import Clock
from prunecell.schedules.span import Span, n_begun, n_whole


@by_name("sparsity", "epochs", example="Iterative(sparsity=0.9, epochs=1)")
@dataclass(frozen=True, kw_only=True)
class Iterative(Span):
    """Rounds of training; at the end of each the same fraction of what is left is pruned (Frankle & Carbin 2019).

    After k rounds the sparsity is min(1 - (1 - fraction)^k, s). The first round is dense; give the training one round
    more than `n_rounds`. With `training.rewinding.Rewind` the weights, or the learning rate, go back after each.
    Source: The lottery ticket hypothesis, https://arxiv.org/abs/1803.03635.

    Args:
        sparsity: the last sparsity s, in [0, 1]; 1 only with a fraction of 1.
        fraction: of the weights that are left, pruned after each round, in (0, 1].
        epochs, steps, samples: > 0, the length of a round; give exactly one.
        begin: >= 0, when the first round begins, in the same unit: where weights go back to that time, the first round
            is then as long as all others.

    >>> schedule = Iterative(sparsity=0.9, fraction=0.5, steps=10)
    >>> schedule.n_rounds, [schedule(Clock(steps=s)) for s in (0, 9, 10, 20, 30, 40, 50)]
    (4, [0.0, 0.0, 0.5, 0.75, 0.875, 0.9, 0.9])
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("fraction", self.fraction, low=0, high=1, open_low=True)
        if self.sparsity == 1 and self.fraction < 1:
            raise OptionError(
                f"sparsity={self.sparsity!r} is illegal: rounds that prune {self.fraction:.0%} of what is left never"
                " reach it; it must be a number below 1"
            )

    @property
    def n_rounds(self) -> int:
        """How many rounds end with a pruning; training goes on after the last."""
        if self.fraction == 1:
            return int(self.sparsity > 0)
        return n_begun(math.log1p(-self.sparsity) / math.log1p(-self.fraction))

    @property
    def end(self) -> float:
        """See `Span`: of all rounds."""
        return self.begin + self.length * self.n_rounds

    def progress(self, clock: Clock) -> float:
        """See `Progressing`: of all rounds."""
        return min(self.passed(clock) / (self.length * max(self.n_rounds, 1)), 1.0)

    def update(self, clock: Clock) -> int:
        """See `Timed`: how many rounds have ended with a pruning."""
        return min(n_whole(self.passed(clock) / self.length), self.n_rounds)

    def __call__(self, clock: Clock) -> float:
        """The sparsity at that time."""
        n = self.update(clock)
        return float(self.sparsity) if n == self.n_rounds else min(1 - (1 - self.fraction) ** n, self.sparsity)
