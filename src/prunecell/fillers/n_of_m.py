"""NofM: of m neighbours n are kept, as some processors multiply it faster."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.bits.mask import Mask
from prunecell.bits.order import LARGEST, Listed, listed
from prunecell.checks import check_count
from prunecell.choices import by_name
from prunecell.criteria import Criterion, keys_of, magnitude, n_gradients_of, needs_of, revives
from prunecell.described import shown
from prunecell.errors import OptionError
from prunecell.evidence import Evidence, Ranking
from prunecell.fillers.filler import Traits, exact_count, prune_smallest
from prunecell.fillers.lowest import check_criterion, pruned_first


@by_name("n", "m", example="NofM(n=2, m=4)")
@dataclass(frozen=True, kw_only=True, repr=False)
class NofM:
    """Of each m neighbours keep at least n: the others, which score lowest among them, may be pruned.

    At the sparsity (m - n) / m exactly n of each m are kept: 2 of 4 at 0.5, as GPUs multiply it faster (Mishra 2021,
    https://arxiv.org/abs/2104.08378). At a smaller sparsity the lowest of those that may be pruned go first, to the
    exact count, so a schedule that rises to (m - n) / m ends with n of m.

    An allocation that looks at values (`lamp`) may ask for more than (m - n) / m of a weight. It gives up so much, and
    the others share the rest by the same allocation. What is too much by sizes alone, of all or of one weight (`erk`,
    `PerLayer`), the Pruner refuses at once.

    Args:
        n: >= 1, kept of each m neighbours.
        m: > n, neighbours; they begin at the multiples of m.
        dim: >= 0, the dimension of the weight along which they lie: 1 are inputs, of a convolution its channels.
        criterion: Evidence -> scores, higher keeps.

    Raises:
        OptionError: n is not below m; or (by the Pruner) more than (m - n) / m is asked for, the weight has no such
            dimension, or m does not divide it.

    >>> import torch
    >>> from prunecell import PruneSpec, Pruner, Static
    >>> pruner = Pruner(torch.nn.Linear(8, 3), PruneSpec(filler=NofM(n=2, m=4), schedule=Static(sparsity=0.5)))
    >>> pruner.masks["weight"].view(-1, 4).sum(1).tolist()
    [2, 2, 2, 2, 2, 2]
    """

    n: int = 2
    m: int = 4
    dim: int = 1
    criterion: Criterion = magnitude

    def __post_init__(self) -> None:
        check_count("n", self.n, low=1)
        check_count("m", self.m, low=2)
        check_count("dim", self.dim)
        if self.n >= self.m:
            raise OptionError(f"n={self.n} is illegal: it must be a whole number in [1, {self.m - 1}], below m")
        check_criterion(self.criterion)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def traits(self) -> Traits:
        """See `Described`."""
        criterion = self.criterion
        return Traits(needs=needs_of(criterion), n_gradients=n_gradients_of(criterion), revives=revives(criterion))

    def rank(self, evidence: Evidence) -> Ranking:
        """See `Ranks`: what must be kept comes after all that may be pruned."""
        of_weights = keys_of(self.criterion, evidence)
        if evidence.mask.n_pruned and not self.traits.revives:
            of_weights = pruned_first(of_weights, evidence.mask.to_bool())
        keys = listed(of_weights)
        return Ranking(
            keys=Listed(keys.clamp(max=LARGEST - 1).masked_fill(~self._may_go(keys, evidence.name), LARGEST))
        )

    def __call__(self, evidence: Evidence, sparsity: float) -> Mask:
        """Fill one mask; see the class."""
        keys = evidence.ranked(self.rank).keys
        count, n = exact_count(sparsity, keys.shape.numel()), keys.shape.numel()
        if count * self.m > n * (self.m - self.n):
            raise OptionError(
                f"sparsity={sparsity:g} of {evidence.name} is illegal: {self.n} of {self.m} can prune"
                f" {(self.m - self.n) / self.m:g} at most"
            )
        return prune_smallest(keys, count)

    def most(self, name: str, shape: torch.Size) -> int:
        """See `Bounded`."""
        self._check(name, shape)
        return shape.numel() // self.m * (self.m - self.n)

    def _check(self, name: str, shape: torch.Size) -> None:
        if self.dim >= len(shape):
            raise OptionError(f"dim={self.dim} is illegal for {name} of shape {tuple(shape)}")
        if shape[self.dim] % self.m:
            raise OptionError(
                f"{self.n} of {self.m} is illegal for {name} of shape {tuple(shape)}: {self.m} does not divide"
                f" {shape[self.dim]}, its size in dimension {self.dim}"
            )

    def _may_go(self, keys: Tensor, name: str) -> Tensor:
        """True at the m - n lowest of each m neighbours."""
        shape = keys.shape
        self._check(name, shape)
        neighbours = keys.reshape(*shape[: self.dim], -1, self.m, *shape[self.dim + 1 :])
        lowest = neighbours.argsort(stable=True, dim=self.dim + 1).narrow(self.dim + 1, 0, self.m - self.n)
        may_go = torch.zeros_like(neighbours, dtype=torch.bool)
        return may_go.scatter_(self.dim + 1, lowest, value=True).view(shape)
