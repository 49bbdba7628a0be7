"""The end of a Pruner: what its weights wait for, and what its schedules have not come to."""

from collections.abc import Iterable, Sequence

from prunecell.collect import FROM_BATCHES
from prunecell.described import shown
from prunecell.errors import some
from prunecell.evidence import Needs
from prunecell.pruning.group import Group
from prunecell.schedules import Clock, last_of, progress_at, so_far
from prunecell.schedules import is_over as schedule_is_over

_NEAR = 1e-4
"""Of a sparsity that is as good as reached: a last batch that was left out makes a training a little shorter."""
_ALMOST = 0.99
"""Of the length of a schedule."""
_WAITED_FOR = {
    Needs.GRADIENT: "gradients",
    Needs.SQUARED_GRADIENT: "gradients",
    Needs.MOVEMENT: "gradients",
    Needs.GRADIENT_SAMPLES: "gradients of more steps",
    Needs.INPUTS: "inputs in training",
    Needs.NORM_SCALE: "a forward pass in training",
    Needs.HESSIAN_GRADIENT: "calibrate(batches, loss)",
    Needs.SYNAPTIC_FLOW: "calibrate(batches, loss)",
}


def in_words(needs: Needs) -> str:
    """What a weight waits for.

    >>> in_words(Needs.GRADIENT | Needs.INPUTS), in_words(Needs.NOTHING)
    ('gradients, inputs in training', 'step(n_samples)')
    """
    return ", ".join(dict.fromkeys(_WAITED_FOR[need] for need in needs)) or "step(n_samples)"


def waiting(groups: Iterable[Group], clock: Clock) -> dict[str, Needs]:
    """Name -> what has still to be collected, of all weights that wait for it."""
    return {name: needs for group in groups for name, needs in group.waiting(clock).items()}


def missed(groups: Sequence[Group], clock: Clock, untold: str) -> str:
    """What has not come to its end, where it stands and what to do; empty if nothing was missed.

    Args:
        groups: of one Pruner.
        clock: of now.
        untold: what to say of calls that were left out, or told of too little; empty: none were.
    """
    early = [group for group in groups if _is_early(group, clock)]
    if not early:
        return ""
    standing = "; ".join(_standing(group, clock) for group in early)
    if any(needs & FROM_BATCHES for needs in waiting(early, clock).values()):
        return f"{standing}: call pruner.calibrate(batches, loss)"
    return f"{standing}: {untold or 'train on, or let the schedule end earlier'}"


def _is_early(group: Group, clock: Clock) -> bool:
    is_over = schedule_is_over(schedule := group.spec.schedule, clock)
    if is_over and not group.waiting(clock):
        return False
    n_asked = sum(weight.target_sparsity * weight.n_weights for weight in group.weights)
    wanted, asked = last_of(schedule, clock), n_asked / max(_n_weights(group), 1)
    if wanted == 0 or asked < wanted <= _pruned(group):
        return False  # no more weights are to go: groups and rounding up have pruned what was still to be asked for
    return wanted - asked >= _NEAR or (not is_over and progress_at(schedule, clock) < _ALMOST)


def _n_weights(group: Group) -> int:
    return sum(weight.n_weights for weight in group.weights)


def _pruned(group: Group) -> float:
    """The fraction of a group that its masks prune."""
    n_weights = _n_weights(group)
    return (n_weights - sum(weight.mask.n_kept for weight in group.weights)) / max(n_weights, 1)


def _standing(group: Group, clock: Clock) -> str:
    late, schedule = group.waiting(clock), group.spec.schedule
    at = f" stands at {far}" if (far := so_far(schedule, clock)) else ""
    wait = "waits" if len(late) == 1 else "wait"
    waits = f"{some(late)} {wait} for {in_words(next(iter(late.values())))}, " if late else ""
    reached = f"{_pruned(group):.2%} pruned where {last_of(schedule, clock):.2%} was asked for"
    return f"{shown(schedule)}{at}, {waits}{reached}"
