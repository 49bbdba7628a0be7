"""Containers whose order says what feeds what: Sequence (one after another), Layer (side by side)."""

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from typing import Any

from n2d2.cells.block import Block, Item
from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.error_handler import UndefinedParameterError, WrongInputType, WrongValue
from prunecell.errors import nearest


class _Ordered(Block):
    """What Sequence and Layer share: cells can be put in and taken out."""

    def append(self, cell: Item) -> None:
        """Put a cell at the end."""
        self.insert(len(self), cell)

    def insert(self, index: int, cell: Item) -> None:
        """Put a cell before the one at `index`."""
        cells = self.items()
        cells.insert(index, cell)
        self._replace(cells)

    def remove(self, cell: Item | str) -> None:
        """Take a cell of this level out, by itself or by its name."""
        cells = self.items()
        name = cell if isinstance(cell, str) else cell.name
        kept = [one for one in cells if one.name != name]
        if len(kept) == len(cells):
            raise UndefinedParameterError(
                f"{self.name!r} has no cell {name!r}{nearest(name, (one.name for one in cells))}"
            )
        self._replace(kept)

    def index(self, cell: Item) -> int:
        """The place of a cell of this level."""
        return self.items().index(cell)

    def _replace(self, cells: list[Item]) -> None:
        before = dict(self._modules)
        self._modules.clear()
        try:
            for cell in cells:
                self._add(cell)
        except (WrongInputType, WrongValue):
            self._modules.update(before)
            raise


class Sequence(_Ordered):
    """Cells one after another.

    >>> import torch
    >>> from n2d2.cells import Fc
    >>> model = Sequence([Fc(4, 3, name="one"), Fc(3, 2, name="two")])
    >>> model(torch.zeros(5, 4)).shape, model["two"] is model[1]
    (torch.Size([5, 2]), True)
    """

    def to_deepnet_cell(self, provider: Any = None, target: Any = None) -> DeepNetCell:  # noqa: ANN401 - any of ours
        """The same cells as a DeepNetCell, each fed by the one before."""
        names = [cell.name for cell in self]
        inputs = {name: [before] for name, before in zip(names, ["", *names], strict=False)}
        return DeepNetCell(self.items(), inputs, provider=provider, target=target, name=self.name)

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Through all cells."""
        for cell in self.items():
            x = cell(x)
        return x


class Layer(_Ordered):
    """Cells side by side: each gets the same input; a list of their outputs comes out.

    Args:
        cells: cells or containers.
        mapping: inputs x cells, which cell sees which of several inputs; by default each sees all.
        name: by default the class and a number.
    """

    def __init__(
        self,
        cells: Iterable[Item] = (),
        mapping: SequenceOf[SequenceOf[int]] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(cells, name)
        self.mapping = mapping

    def forward(self, x: Any) -> list[Any]:  # noqa: ANN401
        """Each cell's output."""
        if self.mapping is None:
            return [cell(x) for cell in self.items()]
        inputs = x if isinstance(x, list | tuple) else [x]
        return [
            cell([one for one, row in zip(inputs, self.mapping, strict=True) if row[place]])
            for place, cell in enumerate(self.items())
        ]
