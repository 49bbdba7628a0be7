"""Criteria that look at the gradient, or at what is computed like one.

g is the gradient of the loss and H its matrix of second derivatives. GraSP and SynFlow need `Pruner.calibrate`.
"""

from torch import Tensor

from prunecell.criteria.criterion import needs
from prunecell.evidence import Evidence, Needs, wide


@needs(Needs.GRADIENT)
def taylor(evidence: Evidence) -> Tensor:
    """|w g|: the change of the loss without the weight, to first order (Molchanov 2017, arxiv.org/abs/1611.06440)."""
    return (wide(evidence.weight) * wide(evidence.gradient)).abs()


@needs(Needs.GRADIENT)
def snip(evidence: Evidence) -> Tensor:
    """|w g| before any training: the connection's sensitivity (Lee et al. 2019, arxiv.org/abs/1810.02340).

    The same number as `taylor`. The paper divides it by the sum over all weights, which changes no order. With
    `calibrate(..., rounds=n)` it is iterative SNIP, and with `Lowest(revives=True)` FORCE (de Jorge et al. 2021,
    arxiv.org/abs/2006.09081).
    """
    return taylor(evidence)


@needs(Needs.HESSIAN_GRADIENT)
def grasp(evidence: Evidence) -> Tensor:
    """Keeps the flow of gradients: w (H g), half of what a weight adds to |g|^2 (Wang 2020, arxiv.org/abs/2002.07376).

    To first order. A weight whose removal would make the gradient smaller scores high. The paper's S(-w) = -w (H g) has
    the opposite sign, because there the highest go. It divides the outputs by 200 before the softmax of the loss.
    """
    return wide(evidence.weight) * wide(evidence.hessian_gradient)


@needs(Needs.SYNAPTIC_FLOW)
def synflow(evidence: Evidence) -> Tensor:
    """|w| dR/d|w|, R the sum of the outputs of the network of all |w|, for inputs of ones, in float64.

    It needs no data, and only the shape of an input. The paper prunes in 100 rounds: `calibrate(..., rounds=100)`, with
    `global_ranking` (Tanaka et al. 2020, arxiv.org/abs/2006.05467).
    """
    return evidence.weight.double().abs() * evidence.synaptic_flow


@needs(Needs.MOVEMENT, revives=True)
def movement(evidence: Evidence) -> Tensor:
    """-sum over all steps of w g: what moves away from zero is kept (Sanh et al. 2020, arxiv.org/abs/2005.07683).

    Pruned weights are judged on by their hidden values, and may come back, as in the paper.
    """
    return evidence.movement
