"""Criteria: Evidence -> scores. How much a weight matters; higher keeps.

criterion    what a criterion is, and what it declares
values       by the weights alone: magnitude, random
saliency     by the gradient: Taylor, SNIP, GraSP, SynFlow, movement
fisher       by the curvature: the diagonal, and blocks
inputs       by the inputs of the layer: Wanda, RIA
filters      of whole rows: the scale of the BatchNorm behind them, the geometric median
"""

from collections.abc import Callable

from prunecell.criteria.criterion import Criterion, Needy, keys_of, n_gradients_of, needs, needs_of, revives
from prunecell.criteria.filters import fpgm, norm_scale
from prunecell.criteria.fisher import BlockFisher, fisher
from prunecell.criteria.inputs import ria, wanda
from prunecell.criteria.saliency import grasp, movement, snip, synflow, taylor
from prunecell.criteria.values import magnitude, random

CRITERIA: dict[str, Criterion | Callable[[], Criterion]] = {
    "magnitude": magnitude,
    "random": random,
    "taylor": taylor,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "movement": movement,
    "fisher": fisher,
    "BlockFisher": BlockFisher,
    "wanda": wanda,
    "ria": ria,
    "norm_scale": norm_scale,
    "fpgm": fpgm,
}
"""Name -> criterion: a function that is one itself, or a class. The laws of the tests run over all of them."""

__all__ = [
    "CRITERIA",
    "BlockFisher",
    "Criterion",
    "Needy",
    "fisher",
    "fpgm",
    "grasp",
    "keys_of",
    "magnitude",
    "movement",
    "n_gradients_of",
    "needs",
    "needs_of",
    "norm_scale",
    "random",
    "revives",
    "ria",
    "snip",
    "synflow",
    "taylor",
    "wanda",
]
