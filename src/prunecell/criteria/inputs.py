"""Criteria that look at the inputs of the layer."""

import torch
from torch import Tensor

from prunecell.criteria.criterion import needs
from prunecell.evidence import Evidence, Needs, wide


@needs(Needs.INPUTS)
def wanda(evidence: Evidence) -> Tensor:
    """|w| ||x||: the magnitude times the norm of the input it multiplies (Sun 2024, arxiv.org/abs/2306.11695)."""
    return evidence.weight.abs() * evidence.input_norms


@needs(Needs.INPUTS)
def ria(evidence: Evidence) -> Tensor:
    """(|w| / sum of |w| of its row + |w| / sum of its column) sqrt(||x||): relative importance and activations.

    So no channel is lost whole. Rows are the first dimension; all others are columns (Zhang et al. 2024,
    openreview.net/forum?id=Tr0lPx9woF, with the exponent a = 1/2).
    """
    sizes = wide(evidence.weight).abs()
    rows = sizes.reshape(len(sizes), -1)
    smallest = torch.finfo(rows.dtype).tiny  # a row of zeros has no share of itself
    shares = rows / rows.sum(0, keepdim=True).clamp_min(smallest) + rows / rows.sum(1, keepdim=True).clamp_min(smallest)
    return shares.view(sizes.shape) * evidence.input_norms.sqrt()
