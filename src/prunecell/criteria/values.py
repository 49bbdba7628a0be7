"""Criteria that look at the weights alone."""

import torch

from prunecell.bits.order import Draws, Magnitudes
from prunecell.evidence import Evidence


def magnitude(evidence: Evidence) -> Magnitudes:
    """|w|, exact to the bit in every dtype; NaN and inf are the highest (Han et al. 2015, arxiv.org/abs/1506.02626)."""
    return Magnitudes(evidence.weight)


def random(evidence: Evidence) -> Draws:
    """Uniform over the weights; what is pruned already and then exact zeros come first."""
    seed = int(torch.randint(1 << 62, (), generator=evidence.generator))
    return Draws(evidence.weight, evidence.mask, seed)
