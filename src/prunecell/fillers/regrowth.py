"""Dynamic sparse training: at each update some weights are dropped, and as many grow elsewhere.

At an update fraction (1 + cos(pi p)) / 2 of the kept weights move, where p goes from 0 to 1 as the schedule goes on.
Those of the smallest magnitude are dropped, and as many that were pruned before grow, from 0, their moments too. What
is dropped does not grow in the same update. Where the sparsity changes, so many more are dropped, or fewer. A mask that
is there before the schedule has begun to move is drawn at random.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import LARGEST, Keys, Listed, Magnitudes, listed
from prunecell.checks import check_number
from prunecell.choices import by_name
from prunecell.criteria import magnitude, random
from prunecell.evidence import Evidence, Needs
from prunecell.fillers.filler import Traits, exact_count, prune_smallest


@by_name("fraction", example="SET()")
@dataclass(frozen=True, kw_only=True)
class SET:
    """Sparse evolutionary training: drop the smallest, grow at random (Mocanu 2018).

    Give it a schedule that moves: `Moving`. Every process draws the same. Source:
    Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network science,
    https://arxiv.org/abs/1707.04780.

    Args:
        fraction: of the kept weights that move in an update, in [0, 1]; it falls to 0 with the schedule, by a cosine.
    """

    fraction: float = 0.3
    traits: ClassVar[Traits] = Traits(grows=True)

    def __post_init__(self) -> None:
        check_number("fraction", self.fraction, low=0, high=1)

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        weight = evidence.weight
        drawn = random(replace(evidence, mask=Mask.full(weight.shape, weight.device)))
        return _moved(evidence, sparsity, self.fraction, drawn)


@by_name("fraction", example="RigL()")
@dataclass(frozen=True, kw_only=True)
class RigL:
    """Rigging the lottery: drop the smallest, grow where the gradient is largest (Evci 2020).

    Give it a schedule that moves, and an allocation that spares small layers:
    `PruneSpec(schedule=Moving(...), filler=RigL(), allocation=erk)`. Under a schedule that rises it prunes and grows,
    as GraNet does (Liu 2021, https://arxiv.org/abs/2106.10404). Source: Rigging the lottery: making all tickets
    winners, https://arxiv.org/abs/1911.11134, where a weight may grow in the update that drops it.

    Args:
        fraction: of the kept weights that move in an update, in [0, 1]; it falls to 0 with the schedule, by a cosine.
    """

    fraction: float = 0.3
    traits: ClassVar[Traits] = Traits(needs=Needs.GRADIENT, needs_at_first=False, grows=True)

    def __post_init__(self) -> None:
        check_number("fraction", self.fraction, low=0, high=1)

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        if not evidence.mask.n_pruned:  # there may be no gradient yet
            return _moved(evidence, sparsity, self.fraction, magnitude(evidence))
        return _moved(evidence, sparsity, self.fraction, Magnitudes(evidence.gradient))


def _moved(evidence: Evidence, sparsity: float, fraction: float, growth: Keys) -> Mask:
    """The next mask, with exactly as many pruned as `sparsity` asks for.

    Args:
        evidence: of the weight.
        sparsity: asked for.
        fraction: of the kept weights that move at progress 0.
        growth: which of the pruned weights grow: the highest.
    """
    n, kept = evidence.weight.numel(), evidence.mask.to_bool()
    n_pruned = exact_count(sparsity, n)
    if not evidence.mask.n_pruned and not evidence.progress:
        return prune_smallest(random(evidence), n_pruned)
    moving = fraction * (1 + math.cos(math.pi * evidence.progress)) / 2
    n_grown = min(int(moving * (n - n_pruned)), evidence.mask.n_pruned)
    n_staying = min(n - n_pruned - n_grown, evidence.mask.n_kept)
    staying = _highest(magnitude(evidence), kept, n_staying)
    return Mask.from_bool(staying | _highest(growth, ~kept, n - n_pruned - n_staying))


def _highest(keys: Keys, among: Tensor, count: int) -> Tensor:
    """True at the `count` highest keys among some weights; of ties the last."""
    ordered = Listed(torch.where(among, listed(keys).clamp(max=LARGEST - 1) + 1, 0))
    return prune_smallest(ordered, among.numel() - count).to_bool()
