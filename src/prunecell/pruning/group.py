"""Group: the weights under one spec, whose masks are filled together."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Protocol

import torch
from torch import Tensor

from prunecell.allocation import check_names, shares_of, shares_within
from prunecell.bits.mask import Mask
from prunecell.collect import FROM_BATCHES, adds_up
from prunecell.errors import OptionTypeError, some
from prunecell.evidence import Evidence, Needs
from prunecell.fillers import Bounded, exact_count, rank_of, traits_of
from prunecell.plan.spec import PruneSpec
from prunecell.pruning.normed import spared
from prunecell.pruning.weight import PrunedWeight, revealed
from prunecell.schedules import Clock, moves, progress_at, sparsity_at, updates_of

PATIENCE = 10
"""Steps after which a warning says that what a criterion needs does not come."""


class ClearMoments(Protocol):
    """Resets the moments of pruned weights, to rest or to begin anew: `Enforcement.clear_moments`."""

    def __call__(self, weights: Iterable[PrunedWeight], *, rest: bool) -> None:
        """See the class."""
        ...


@dataclass(eq=False)
class Group:
    """The weights under one spec, in the model's order; one budget is shared by all of them."""

    spec: PruneSpec
    weights: list[PrunedWeight]

    def __post_init__(self) -> None:
        self._needs = self.spec.needs  # asked for here, because a step without an update must cost next to nothing
        self._adds_up = adds_up(self._needs)
        self._update_at = updates_of(self.spec.schedule)
        self._begins_at_once = not traits_of(self.spec.filler).needs_at_first
        self._n_late = 0

    def end_step(self) -> None:
        """A step was made: what adds up over steps gets its part."""
        if self._adds_up:
            for weight in self.weights:
                weight.collector.gradients.end_step()

    def is_due(self, clock: Clock) -> bool:
        """Whether the masks must be filled at that time: an update came since they were filled, or they never were."""
        return bool(self._due(clock))

    def is_ready(self, clock: Clock) -> bool:
        """Whether all that the criterion needs was collected for the masks that must be filled."""
        return all(
            weight.collector.complete or (self._begins_at_once and weight.update is None) for weight in self._due(clock)
        )

    def waiting(self, clock: Clock) -> dict[str, Needs]:
        """Name -> what is still to be collected, of each weight whose mask is to be filled; nothing: only a `step`."""
        return {weight.name: weight.collector.lacks for weight in self._due(clock)} if self._needs else {}

    def prepare(self, clock: Clock, n_samples: int | None) -> None:
        """Collect in the next step what an update at its end will need.

        Args:
            clock: of now.
            n_samples: expected in the next step; None: unknown.
        """
        if not self._needs:
            return
        late = self._due(clock)  # an update is overdue: what was collected is kept, and the rest is collected now
        self._n_late = self._n_late + 1 if late else 0
        if self._n_late == PATIENCE + self.spec.n_gradients:
            self._warn(late)
        soon = n_samples is not None and self.is_due(clock.advanced(n_samples))
        adding = self._adds_up and (bool(late) or self._adds_from(clock, n_samples))
        for weight in self.weights:
            if weight not in late:
                weight.collector.end()
            if self._adds_up and not adding:
                weight.collector.gradients.forget()
            if weight in late or soon:
                weight.collector.begin()
            weight.collector.gradients.adding = adding

    def _adds_from(self, clock: Clock, n_samples: int | None) -> bool:
        """Whether what the next step adds is of use for an update to come."""
        if Needs.MOVEMENT in self._needs:
            return moves(self.spec.schedule)
        n = self.spec.n_gradients
        then = replace(clock, samples=clock.samples + n * (n_samples or 0), steps=clock.steps + n)
        return n_samples is None or self.is_due(then)

    def _warn(self, late: Sequence[PrunedWeight]) -> None:
        """Say what is waited for in vain."""
        waiting = {weight.name: weight.collector.lacks for weight in late if not weight.collector.complete}
        lacking = next(iter(waiting.values()), self._needs)
        hint = (
            "call pruner.calibrate(batches, loss), which alone collects it"
            if lacking & FROM_BATCHES
            else "are they unused or frozen, or is the model compiled?"
        )
        warnings.warn(
            f"no {lacking.name} of {some(waiting)} came in {self._n_late} steps, so no mask of this spec is filled:"
            f" {hint}",
            RuntimeWarning,
            stacklevel=5,
        )

    @property
    def density(self) -> float:
        """The fraction of its weights that the masks of now keep."""
        masks = [weight.mask for weight in self.weights]
        return sum(mask.n_kept for mask in masks) / sum(mask.shape.numel() for mask in masks)

    def on_the_way(self, clock: Clock, *, begun: float, part: float) -> float:
        """The sparsity after a part, in (0, 1], of the way from a density to the sparsity of now, in equal ratios."""
        sparsity = sparsity_at(self.spec.schedule, clock)
        return sparsity if part == 1 else 1 - begun ** (1 - part) * (1 - sparsity) ** part

    def choose(self, clock: Clock, sparsity: float | None = None) -> "Filling":
        """The masks that are due, at the sparsity of now, from the weights that stand in the parameters.

        Nothing is changed. All weights of the group are due, but where some were given masks from outside meanwhile.

        Args:
            clock: of now.
            sparsity: fill all masks, due or not, at this one; None: see above.

        Raises:
            OptionError: schedule or allocation returned no sparsity.
            OptionTypeError: the filler returned no mask of the weight's shape.
        """
        update = float(self._update_at(clock))
        weights = self._due(clock) if sparsity is None else self.weights
        sparsity = sparsity_at(self.spec.schedule, clock) if sparsity is None else sparsity
        evidences = [self._evidence(weight, clock) for weight in weights]
        shares = self._shares(evidences, sparsity)
        masks = [_as_mask(self.spec.filler(e, share), e) for e, share in zip(evidences, shares, strict=True)]
        masks = [
            mask if weight.normed is None else spared(mask, evidence, weight.normed, share)
            for mask, weight, evidence, share in zip(masks, weights, evidences, shares, strict=True)
        ]
        return Filling(weights, masks, update, sparsity)

    def _shares(self, evidences: Sequence[Evidence], sparsity: float) -> list[float]:
        """What the allocation gives to each weight, and no more than the filler can prune of it."""
        allocation, filler = self.spec.allocation, self.spec.filler
        if not isinstance(filler, Bounded):
            return shares_of(allocation, evidences, sparsity)
        limits = [filler.most(e.name, e.weight.shape) for e in evidences]
        return shares_within(allocation, evidences, sparsity, limits, filler)

    def given(self, masks: Mapping[str, Mask], clock: Clock) -> "Filling":
        """Masks from outside, name -> mask, for those weights that are of this group."""
        weights = [weight for weight in self.weights if weight.name in masks]
        return Filling(weights, [masks[weight.name] for weight in weights], float(self._update_at(clock)), None)

    def _due(self, clock: Clock) -> list[PrunedWeight]:
        update = self._update_at(clock)
        return [weight for weight in self.weights if weight.update != update]

    def _evidence(self, weight: PrunedWeight, clock: Clock) -> Evidence:
        # The draw depends on seed, name and time only: resumed and parallel runs draw the same.
        text = f"{self.spec.seed}/{weight.name}/{clock.samples}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
        return Evidence(
            name=weight.name,
            weight=weight.parameter.detach(),
            mask=weight.mask,
            generator=torch.Generator().manual_seed(seed),
            rank=rank_of(self.spec.filler),
            collected=weight.collector.evidence(weight.mask, weight.name),
            progress=progress_at(self.spec.schedule, clock),
        )


@dataclass(frozen=True, eq=False)
class Filling:
    """The masks that some weights get at an update.

    Attributes:
        update: the schedule's number of the update.
        sparsity: what the schedule asked for; None: masks from outside are what was asked for.
    """

    weights: list[PrunedWeight]
    masks: list[Mask]
    update: float
    sparsity: float | None

    def put(self, clear_moments: ClearMoments) -> None:
        """Give each weight its mask; the values that it hides stand in the parameters."""
        pairs = list(zip(self.weights, self.masks, strict=True))
        clear_moments([weight for weight, mask in pairs if mask.revives(weight.mask)], rest=False)
        for weight, mask in pairs:
            weight.mask, weight.update = mask, self.update
            given = max(weight.n_weights - mask.n_kept, 0) / max(weight.n_weights, 1)
            weight.target_sparsity = given if self.sparsity is None else self.sparsity

    def emptied(self) -> Iterator[str]:
        """The weights of which nothing is kept, though as many single weights would leave something."""
        for weight, mask in zip(self.weights, self.masks, strict=True):
            n = mask.shape.numel()
            if self.sparsity is not None and not mask.n_kept and exact_count(self.sparsity, n) < n:
                yield weight.name


def fill(
    groups: Sequence[Group], clock: Clock, clear_moments: ClearMoments, *, sparsities: Sequence[float] | None = None
) -> None:
    """Fill all masks of some groups that are due; nothing is changed if a schedule, filler or allocation fails.

    Args:
        groups: of one Pruner.
        clock: of now.
        clear_moments: see there.
        sparsities: of each group; see `Group.choose`.

    Raises:
        OptionError, OptionTypeError: as `Group.choose` does.
    """
    with revealed([weight for group in groups for weight in group.weights]):
        fillings = [group.choose(clock, s) for group, s in zip(groups, sparsities or repeat(None), strict=False)]
        filled = [weight for filling in fillings for weight in filling.weights]
        before = [(weight.mask, weight.update, weight.target_sparsity) for weight in filled]
        try:
            for filling in fillings:
                filling.put(clear_moments)
            clear_moments(filled, rest=True)
        except BaseException:
            for weight, then in zip(filled, before, strict=True):
                weight.mask, weight.update, weight.target_sparsity = then
            raise
    for weight in filled:
        weight.collector.end()
    emptied = [name for filling in fillings for name in filling.emptied()]
    if emptied:
        warnings.warn(
            f"all weights of {some(emptied)} are pruned, so nothing goes through: the allocation, or groups as large as"
            " the layer, ask for it; AtLeast of prunecell.allocation leaves a part, None in the plan leaves all",
            RuntimeWarning,
            stacklevel=4,
        )


def groups_of(weights: Iterable[PrunedWeight], specs: Iterable[PruneSpec]) -> list[Group]:
    """The weights by the spec object that they are under, in the order of the specs: the plan's.

    Raises:
        PlanError: an allocation calls weights by names that are not there.
    """
    by_spec: dict[int, Group] = {}
    for spec in specs:
        by_spec.setdefault(id(spec), Group(spec, []))
    for weight in weights:
        by_spec[id(weight.spec)].weights.append(weight)
    groups = [group for group in by_spec.values() if group.weights]
    for group in groups:
        check_names(group.spec.allocation, [weight.name for weight in group.weights])
    return groups


def _as_mask(filled: Mask | Tensor, evidence: Evidence) -> Mask:
    """Accept what a filler returned, or say what is wrong with it."""
    if isinstance(filled, Mask) and filled.shape == evidence.weight.shape:
        return filled
    if isinstance(filled, Tensor) and filled.dtype == torch.bool and filled.shape == evidence.weight.shape:
        return Mask.from_bool(filled.to(evidence.weight.device))
    raise OptionTypeError(
        f"the filler returned {type(filled).__name__} for {evidence.name}: it must be a Mask or a bool tensor"
        f" of shape {tuple(evidence.weight.shape)}"
    )
