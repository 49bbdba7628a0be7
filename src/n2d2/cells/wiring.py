"""Wiring: a network as plain data, cells and what each takes; a DeepNetCell is assembled of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from n2d2.cells.cell import Cell


@dataclass(frozen=True, eq=False)
class Wiring:
    """Cells and what each takes.

    Attributes:
        cells: by name.
        inputs: cell -> the names of its inputs; what is no cell stands for the input of the network.
        outputs: the cells whose outputs come out.
        input_shape: the sizes of what it takes with the batch, None for a free one; None where they are not known.
    """

    cells: Mapping[str, Cell]
    inputs: Mapping[str, Sequence[str]]
    outputs: Sequence[str]
    input_shape: Sequence[int | None] | None = None


def ends(inputs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The cells whose outputs no other cell takes; `inputs` as in a Wiring."""
    taken = {source for sources in inputs.values() for source in sources}
    return tuple(cell for cell in inputs if cell not in taken)
