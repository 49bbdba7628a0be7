"""The summary of a network: a table of its cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunecell.console.terminal import columns_of
from prunecell.disk.atomic import replacing


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

    hidden: frozenset[str] = frozenset()
    """The layers that the table leaves out, and the totals count."""

    def without(self, kind: str) -> "Summary":
        """The same without the rows of a type of cell; those behind them are connected to what is before them."""
        return Summary(self.rows, frozenset(row.layer for row in self.rows if row.layer.endswith(f"({kind})")))

    def __str__(self) -> str:
        """The table, then the totals."""
        shown = self._shown()
        lines = [TITLES, *(tuple(_cell(getattr(row, f.name)) for f in fields(row)) for row in shown)]
        table = columns_of(lines, words=(0, len(TITLES) - 1))
        rule = "-" * max(len(line) for row in table for line in row.split("\n"))
        parameters = sum(row.parameters for row in self.rows)
        macs = sum(row.macs or 0 for row in self.rows)
        dropped = sum(row.parameters - row.kept for row in self.rows if row.kept is not None)
        totals = [f"Total parameters: {parameters:,}", f"Total kept: {parameters - dropped:,}", f"Total MACs: {macs:,}"]
        return "\n".join([table[0], rule, *table[1:], rule, *totals])

    def _shown(self) -> list[Row]:
        """The rows that are not hidden, connected to such."""
        seen: dict[str, tuple[str, ...]] = {}  # hidden cell -> what is shown in its place
        shown = []
        for row in self.rows:
            inputs = tuple(dict.fromkeys(one for name in row.inputs for one in seen.get(name, (name,))))
            if row.layer in self.hidden:
                seen[row.layer.rpartition(" (")[0]] = inputs
            else:
                shown.append(replace(row, inputs=inputs))
        return shown


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def summary_of(cells: Iterable[Any]) -> Summary:
    """Look at cells in the order in which they computed; shapes are those of their last outputs."""
    known = {cell.get_name(): cell for cell in cells}
    rows = []
    for cell in known.values():
        before = tuple(name for name in cell.get_input_cells() if name in known)
        came = tuple(cell.get_inputs().shape()[1:])
        rows.append(_row(cell, tuple(cell.get_outputs().shape()[1:]), before, came))
    return Summary(tuple(rows))


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
    cells: list[Any] = [module for module in model.modules() if hasattr(module, "get_outputs")]
    if input_shape is None:
        return Summary(tuple(_row(cell, (), ()) for cell in cells))
    rows: list[Row] = []
    makers: dict[int, tuple[str, Tensor]] = {}  # the tensors too, so that no address is used twice

    def look(cell: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ANN401 - a cell
        before = tuple(makers[id(x)][0] for x in inputs if id(x) in makers)
        rows.append(_row(cell, tuple(output.shape[1:]), before, tuple(inputs[0].shape[1:])))
        makers[id(output)] = (cell.name, output)

    hooks = [cell.register_forward_hook(look) for cell in cells]
    training = {module: module.training for module in model.modules()}
    parameter = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model.eval()(parameter.new_zeros(1, *input_shape))
    finally:
        for module, was in training.items():
            module.training = was
        for hook in hooks:
            hook.remove()
    return Summary(tuple(rows))


def write_stats(folder: str | Path, summary: Summary) -> None:
    """Write the table to `stats.log` in a folder, which is made."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with replacing(Path(folder) / "stats.log") as file:
        file.write(f"{summary}\n".encode())


def _row(cell: Any, shape: tuple[int, ...], before: tuple[str, ...], came: tuple[int, ...] = ()) -> Row:  # noqa: ANN401
    n_parameters = sum(p.numel() for p in cell.parameters())
    kept: int | None = None
    macs: int | None = 0
    if hasattr(cell, "n_positions"):  # it has weights
        there = cell.weight.numel() if cell.connections is None else int(cell.connections.sum())
        n_parameters -= cell.weight.numel() - there
        kept = n_parameters - there + int(cell.weight.count_nonzero())
        macs = there * cell.n_positions(came, shape) if shape and came else None
    return Row(
        layer=f"{cell.get_name()} ({cell.get_type()})",
        shape=shape,
        parameters=n_parameters,
        kept=kept,
        macs=macs if shape else None,
        inputs=before,
    )
