"""One update after a mini-batch: the solvers of all cells, then the clocks of their PruneCells."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from n2d2.error_handler import WrongValue

if TYPE_CHECKING:
    from n2d2.cells.cell import Cell

UNKNOWN_EPOCH = 1 << 62
"""Samples in an epoch before a provider says how many: no update of a mask comes due."""


def update(cells: "Sequence[Cell]", n_samples: int, epoch_size: int | None) -> None:
    """Step the cells' solvers with the gradients that are there, then advance each Pruner behind them once.

    Args:
        cells: those that took part.
        n_samples: >= 1, samples in the mini-batch.
        epoch_size: samples in an epoch, where they are known.

    Raises:
        WrongValue: a PruneCell counts epochs, and nobody says how many samples one has.
    """
    for cell in cells:
        cell.step(n_samples)
    quantizers = [cell.quantizer for cell in cells if cell.quantizer is not None]
    pruners = {id(q.pruner): (q, q.pruner) for q in quantizers if q.pruner is not None}
    for quantizer, pruner in pruners.values():
        if pruner.epoch_size == UNKNOWN_EPOCH and epoch_size:
            pruner.epoch_size = epoch_size
        if pruner.epoch_size == UNKNOWN_EPOCH and quantizer.prune_mode == "Gradual" and not quantizer.stepsize:
            raise WrongValue(
                "stepsize=0 is illegal here: it means once per epoch, and no DataProvider says how many samples"
                " that is; give a whole number >= 1"
            )
        pruner.step(n_samples)
