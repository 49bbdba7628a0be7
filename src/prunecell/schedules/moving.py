"""Moving: masks that change while the sparsity stays, as dynamic sparse training wants it."""

from dataclasses import dataclass

from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.errors import OptionError
from prunecell.schedules.clock import Clock
from prunecell.schedules.span import Span, n_begun, n_whole


@by_name("sparsity", "every", "steps", example="Moving(sparsity=0.9, every=100, steps=7500)")
@dataclass(frozen=True, kw_only=True)
class Moving(Span):
    """A constant sparsity, and an update of the masks every so often, for a filler that grows: `RigL`, `SET`.

    The fraction that these move falls to 0 at the end of the length: three quarters of the training in RigL's paper
    (Evci 2020, https://arxiv.org/abs/1911.11134), with an update every 100 steps.

    Args:
        sparsity: in [0, 1], from the first step to the last.
        every: > 0 and below the length, the time between two updates, in the unit of the length.
        epochs, steps, samples: > 0, the length, at whose end the updates stop; give exactly one.
        begin: >= 0, the time from which `every` and the length count, in the same unit.

    >>> schedule = Moving(sparsity=0.9, every=100, steps=300)
    >>> [(schedule(clock), schedule.update(clock)) for clock in map(lambda s: Clock(steps=s), (0, 99, 100, 200, 300))]
    [(0.9, 0), (0.9, 0), (0.9, 1), (0.9, 2), (0.9, 2)]
    """

    every: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("every", self.every, low=0, open_low=True)
        if self.every >= self.length:
            raise OptionError(
                f"every={self.every!r} is illegal: it must be shorter than the whole length, {self.length:g}, or masks"
                " never move"
            )

    def progress(self, clock: Clock) -> float:
        """See `Progressing`: of the length."""
        return min(self.passed(clock) / self.length, 1.0)

    def update(self, clock: Clock) -> int:
        """See `Timed`: how many updates were due before the end."""
        return min(n_whole(self.passed(clock) / self.every), n_begun(self.length / self.every) - 1)

    def __call__(self, clock: Clock) -> float:  # noqa: ARG002 - the form of a schedule
        """The sparsity at any time."""
        return float(self.sparsity)
