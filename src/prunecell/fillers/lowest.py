"""Lowest: what scores lowest goes first. KeepZeros: and what is zero already."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys, Magnitudes, Scores
from prunecell.choices import by_name, check_callable, example_of
from prunecell.criteria import CRITERIA, Criterion, keys_of, magnitude, n_gradients_of, needs_of, revives
from prunecell.described import shown
from prunecell.errors import OptionError
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers.filler import Traits, exact_count, prune_smallest
from prunecell.granularity import SINGLE, Granularity, check_granularity


@by_name("criterion", "granularity", "revives", example="Lowest()")
@dataclass(frozen=True, kw_only=True, repr=False)
class Lowest:
    """Prune what scores lowest by a criterion: the exact count, ties by index.

    Prunes the fewest groups whose weights make up the sparsity: with single weights, the smallest m with
    m / n >= sparsity. NaN scores highest. Where nothing revives, groups that are pruned already come first; one of
    which some weights are pruned is judged by its score, and lives or dies whole.

    Args:
        criterion: Evidence -> scores, higher keeps.
        granularity: which weights live and die together.
        revives: whether pruned weights are judged by their hidden values at the next filling, and may come back
            (Zhu & Gupta 2017, https://arxiv.org/abs/1710.01878, let them); otherwise they are zeros and stay pruned.
            None: as the criterion's authors do it; of ours only `movement` revives.

    >>> import torch
    >>> from prunecell import PruneSpec, Pruner, Static
    >>> net = torch.nn.Linear(10, 10)
    >>> Pruner(net, PruneSpec(filler=Lowest(), schedule=Static(sparsity=0.9))).masks["weight"].sum().item()
    10
    """

    criterion: Criterion = magnitude
    granularity: Granularity = SINGLE
    revives: bool | None = None

    def __post_init__(self) -> None:
        check_criterion(self.criterion)
        check_granularity(self.granularity)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def traits(self) -> Traits:
        """See `Described`."""
        may_revive = revives(self.criterion) if self.revives is None else self.revives
        return Traits(needs=needs_of(self.criterion), n_gradients=n_gradients_of(self.criterion), revives=may_revive)

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        try:
            groups = self.granularity.group(keys_of(self.criterion, evidence))
            if evidence.mask.n_pruned and not self.traits.revives:
                alive = self.granularity.group(Scores(evidence.mask.to_bool().float())).scores() > 0
                groups = pruned_first(groups, alive)
        except OptionError as error:
            raise OptionError(f"{evidence.name}: {error}") from None
        return Ranking(keys=groups, group_size=evidence.weight.numel() // max(groups.shape.numel(), 1))

    def group_size(self, shape: torch.Size) -> int:
        """See `Grouping`."""
        groups = self.granularity.group(Scores(torch.empty(shape, device="meta"))).shape.numel()
        return shape.numel() // max(groups, 1)

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        ranking = evidence.ranked(self.rank)
        groups = prune_smallest(ranking.keys, exact_count(sparsity, ranking.n_groups))
        return self.granularity.spread(groups, evidence.weight.shape)


@by_name(example="KeepZeros()")
@dataclass(frozen=True, kw_only=True)
class KeepZeros:
    """Prune what is zero already, and the smallest magnitudes beside it where more is asked for.

    For a model that is sparse before it comes here, and is to be trained on: `Static(sparsity=0)` keeps its zeros.
    """

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`."""
        return Ranking(keys=magnitude(evidence))

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        n = evidence.weight.numel()
        n_zero = n - int(evidence.weight.count_nonzero())
        return prune_smallest(evidence.ranked(self.rank).keys, max(n_zero, exact_count(sparsity, n)))


def check_criterion(criterion: object) -> None:
    """Refuse what is no criterion, with what is legal.

    Raises:
        OptionTypeError: it cannot be called.
    """
    check_callable(
        "criterion", criterion, {name: example_of(value, "prunecell.criteria") for name, value in CRITERIA.items()}
    )


def pruned_first(keys: Keys, alive: Tensor) -> Keys:
    """The same keys, but that what is pruned already comes before all others.

    Args:
        keys: of weights or groups.
        alive: bool, of their shape.
    """
    return keys.after(alive) if isinstance(keys, Scores | Magnitudes) else keys  # draws say it themselves
