"""Criteria of whole rows: a filter, or a unit of a Linear. All weights of a row score alike.

They are meant for `Slices(dims=(0,))`.
"""

import torch
from torch import Tensor

from prunecell.criteria.criterion import needs
from prunecell.evidence import Evidence, Needs


@needs(Needs.NORM_SCALE)
def norm_scale(evidence: Evidence) -> Tensor:
    """|gamma| of the BatchNorm behind the row: network slimming (Liu et al. 2017, arxiv.org/abs/1708.06519).

    The paper trains with a penalty on the sum of all |gamma|, which is a term of your loss.
    """
    return evidence.norm_scale.expand_as(evidence.weight)


def fpgm(evidence: Evidence) -> Tensor:
    """The sum of the distances from the row to all others: what lies near their geometric median can be replaced.

    Filter pruning via geometric median (He et al. 2019, arxiv.org/abs/1811.00250); a row costs as many distances as
    there are rows.
    """
    weight = evidence.weight
    rows = weight.double().reshape(weight.shape[0] if weight.ndim else 1, -1)
    sums = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
    return sums.view(-1, 1).expand_as(rows).reshape(weight.shape)
