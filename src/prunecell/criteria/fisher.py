"""Criteria that look at the curvature of the loss, by the empirical Fisher matrix: the mean of g g^T."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from prunecell.checks import check_count, check_number
from prunecell.choices import by_name
from prunecell.criteria.criterion import needs
from prunecell.errors import OptionError
from prunecell.evidence import Evidence, Needs, wide

_N_BLOCKS = 1024
"""Blocks that are inverted at a time, so that the matrices of a large weight never stand in memory all at once."""


@needs(Needs.SQUARED_GRADIENT)
def fisher(evidence: Evidence) -> Tensor:
    """w^2 g^2: to second order, by the empirical Fisher matrix's diagonal (Theis 2018, arxiv.org/abs/1801.05787)."""
    return wide(evidence.weight).square() * evidence.squared_gradient


@by_name("block_size", "damping", "n_gradients", example="prunecell.criteria.BlockFisher()")
@dataclass(frozen=True, kw_only=True)
class BlockFisher:
    """w^2 / (2 [F^-1]_ww): the loss without the weight, when the others of its block make up for it.

    F = damping I + (1 / m) sum of g g^T over m gradients, within blocks of consecutive weights. So a weight that others
    can replace scores low (Hassibi & Stork 1992, optimal brain surgeon; WoodFisher, Singh & Alistarh 2020,
    arxiv.org/abs/2004.14340; oBERT, Kurtic et al. 2022, arxiv.org/abs/2203.07259, whose block and damping are the
    defaults).

    Args:
        block_size: >= 1, weights in a block, in C order; with 1 it is the diagonal.
        damping: > 0, in the unit of squared gradients.
        n_gradients: >= 1, steps before an update whose gradients are kept, each of the weight's size; of `calibrate`
            the last so many batches. The papers take hundreds.

    Raises:
        OptionError: (when it is called) the damping is too small for these gradients.
    """

    block_size: int = 50
    damping: float = 1e-7
    n_gradients: int = 64
    needs: ClassVar[Needs] = Needs.GRADIENT_SAMPLES

    def __post_init__(self) -> None:
        check_count("block_size", self.block_size, low=1)
        check_number("damping", self.damping, low=0, open_low=True)
        check_count("n_gradients", self.n_gradients, low=1)

    def __call__(self, evidence: Evidence) -> Tensor:
        """The scores, float64."""
        weight = evidence.weight.double()
        samples = evidence.gradient_samples.flatten(1)  # (m, n)
        step = self.block_size * _N_BLOCKS
        inverse = [self._inverse_diagonal(part.double(), evidence.name) for part in torch.split(samples, step, 1)]
        return weight.square() / (2 * torch.cat(inverse).view(weight.shape))

    def _inverse_diagonal(self, gradients: Tensor, name: str) -> Tensor:
        """(m, n) -> the diagonal of F^-1, (n,)."""
        m, n = gradients.shape
        blocks = F.pad(gradients, (0, -n % self.block_size)).view(m, -1, self.block_size).transpose(0, 1)  # (k, m, B)
        fisher = blocks.mT @ blocks / m
        fisher.diagonal(dim1=1, dim2=2).add_(self.damping)
        factor, failed = torch.linalg.cholesky_ex(fisher)
        if bool(failed.any()):
            raise OptionError(
                f"damping={self.damping!r} is illegal for {name!r}: too small beside squared gradients of"
                f" {float(gradients.square().mean()):.3g}"
            )
        return torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2).flatten()[:n]
