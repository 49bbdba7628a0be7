"""The summary of a network: a table of its cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from n2d2.cells.cell import Cell
from n2d2.cells.weight_cell import WeightCell
from n2d2.cells.weights import Deconv
from prunecell.report.terminal import columns_of


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell.

    Attributes:
        shape: of its output, without the batch; empty where nobody said what comes in.
        parameters: that exist. kept: those that are not pruned weights; None where the cell has none to prune.
        macs: multiplications of one stimulus, dense; None where the shape is not known.
        inputs: names of the cells before.
    """

    layer: str
    shape: tuple[int, ...]
    parameters: int
    kept: int | None
    macs: int | None
    inputs: tuple[str, ...]


TITLES = ("Layer (type)", "Output shape", "Parameters", "Kept", "MACs", "Connected to")


@dataclass(frozen=True)
class Summary:
    """All cells, in the order in which they compute."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        """The table, then the totals."""
        lines = [TITLES, *(tuple(_cell(getattr(row, f.name)) for f in fields(row)) for row in self.rows)]
        table = columns_of(lines, words=(0, len(TITLES) - 1))
        rule = "-" * max(len(line) for row in table for line in row.split("\n"))
        parameters = sum(row.parameters for row in self.rows)
        macs = sum(row.macs or 0 for row in self.rows)
        dropped = sum(row.parameters - row.kept for row in self.rows if row.kept is not None)
        totals = [f"Total parameters: {parameters:,}", f"Total kept: {parameters - dropped:,}", f"Total MACs: {macs:,}"]
        return "\n".join([table[0], rule, *table[1:], rule, *totals])


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def summary_of(cells: Iterable[Cell]) -> Summary:
    """Look at cells in the order in which they computed; shapes are those of their last outputs."""
    return Summary(tuple(_row(cell, tuple(cell.get_outputs().shape()[1:]), ()) for cell in cells))


def summarize(model: nn.Module, input_shape: Sequence[int] | None = None) -> Summary:
    """Look at every cell; with `input_shape` (channels, y, x), run one stimulus of zeros to see the shapes.

    >>> from n2d2.cells import Fc, Sequence
    >>> print(summarize(Sequence([Fc(4, 3, name="fc")]), [4]))
    Layer (type)  Output shape  Parameters  Kept  MACs  Connected to
    ----------------------------------------------------------------
    fc (Fc)       3             15          15    12    -
    ----------------------------------------------------------------
    Total parameters: 15
    Total kept: 15
    Total MACs: 12
    """
    cells = [module for module in model.modules() if isinstance(module, Cell)]
    if input_shape is None:
        return Summary(tuple(_row(cell, (), ()) for cell in cells))
    rows: list[Row] = []
    makers: dict[int, tuple[str, Tensor]] = {}  # the tensors too, so that no address is used twice

    def look(cell: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(cell, Cell):
            return
        before = tuple(makers[id(x)][0] for x in inputs if id(x) in makers)
        rows.append(_row(cell, tuple(output.shape[1:]), before, tuple(inputs[0].shape[1:])))
        makers[id(output)] = (cell.name, output)

    hooks = [cell.register_forward_hook(look) for cell in cells]
    training = model.training
    parameter = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model.eval()(parameter.new_zeros(1, *input_shape))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return Summary(tuple(rows))


def _row(cell: Cell, shape: tuple[int, ...], before: tuple[str, ...], came: tuple[int, ...] = ()) -> Row:
    n_parameters = sum(p.numel() for p in cell.parameters())
    kept, macs = None, 0
    if isinstance(cell, WeightCell):
        there = cell.weight.numel() if cell.connections is None else int(cell.connections.sum())
        n_parameters -= cell.weight.numel() - there
        kept = n_parameters - there + int(cell.weight.count_nonzero())
        macs = there * cell.n_positions(came, shape)
    return Row(
        layer=f"{cell.name} ({cell.get_type()})",
        shape=shape,
        parameters=n_parameters,
        kept=kept,
        macs=macs if shape and (came or not isinstance(cell, Deconv)) else None,
        inputs=before,
    )
