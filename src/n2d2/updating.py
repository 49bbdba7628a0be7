"""One update after a mini-batch: the solvers of all that took part, then the clocks of their masks."""

from collections.abc import Sequence
from typing import Protocol

from n2d2.error_handler import WrongValue
from prunecell.pruning import Pruner

UNKNOWN_EPOCH = 1 << 62
"""Samples in an epoch before a provider says how many: no update of a mask comes due."""


class Masks(Protocol):
    """What an update needs of a PruneCell."""

    @property
    def pruner(self) -> Pruner | None:
        """The engine's Pruner, whose clock is advanced; None where nothing is pruned."""

    @property
    def counts_epochs(self) -> bool:
        """Whether a mask is due once an epoch, so that the epoch's size must be known."""


class Updatable(Protocol):
    """What an update needs of a cell."""

    def step(self, n_samples: int = 1) -> None:
        """One step of the cell's solvers."""

    @property
    def quantizer(self) -> Masks | None:
        """What prunes the cell's weights, or None."""


def update(cells: Sequence[Updatable], n_samples: int, epoch_size: int | None) -> None:
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
    found = [cell.quantizer for cell in cells if cell.quantizer is not None]
    pruners = {id(masks.pruner): (masks, masks.pruner) for masks in found if masks.pruner is not None}
    for masks, pruner in pruners.values():
        if pruner.epoch_size == UNKNOWN_EPOCH and epoch_size:
            pruner.epoch_size = epoch_size
        if pruner.epoch_size == UNKNOWN_EPOCH and masks.counts_epochs:
            raise WrongValue(
                "stepsize=0 is illegal here: it means once per epoch, and no DataProvider says how many samples"
                " that is; give a whole number >= 1"
            )
        pruner.step(n_samples)
