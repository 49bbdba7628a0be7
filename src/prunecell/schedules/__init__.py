"""Schedules: when masks are filled, and to what sparsity. Time is counted in samples.

A schedule is any callable from `Clock` to a sparsity in [0, 1]; masks are filled again when it returns another. One
that is a `Timed` says itself when an update is due, which may be at a constant sparsity too.

clock    the time, and what a schedule may say of itself
steps    Static, Gradual
length   of a time, in epochs, steps or samples
span     what schedules with a length have in common
ramps    Cubic, Exponential, OneCycle
rounds   Iterative
moving   Moving
"""

from prunecell.schedules.clock import (
    Clock,
    Foreseen,
    Progressing,
    Schedule,
    SoFar,
    Timed,
    counts_epochs,
    is_over,
    last_of,
    moves,
    progress_at,
    so_far,
    sparsity_at,
    updates_of,
)
from prunecell.schedules.moving import Moving
from prunecell.schedules.ramps import Cubic, Exponential, OneCycle
from prunecell.schedules.rounds import Iterative
from prunecell.schedules.steps import Gradual, Static

__all__ = [
    "SCHEDULES",
    "Clock",
    "Cubic",
    "Exponential",
    "Foreseen",
    "Gradual",
    "Iterative",
    "Moving",
    "OneCycle",
    "Progressing",
    "Schedule",
    "SoFar",
    "Static",
    "Timed",
    "counts_epochs",
    "is_over",
    "last_of",
    "moves",
    "progress_at",
    "so_far",
    "sparsity_at",
    "updates_of",
]

SCHEDULES: dict[str, type[Schedule]] = {
    "Static": Static,
    "Gradual": Gradual,
    "Cubic": Cubic,
    "Exponential": Exponential,
    "OneCycle": OneCycle,
    "Iterative": Iterative,
    "Moving": Moving,
}
"""Name -> schedule; the laws of the tests run over all of them."""
