"""Containers whose order says what feeds what: Sequence (one after another), Layer (side by side)."""

from collections.abc import Iterable as IterableOf
from collections.abc import Sequence as SequenceOf
from typing import Any, ClassVar

import numpy as np

from n2d2.calling import checked
from n2d2.cells.cell import Cell
from n2d2.cells.deepnet_cell import Block, DeepNetCell
from n2d2.cells.holding import Item
from n2d2.cells.mapping import as_table
from n2d2.error_handler import UndefinedItemError, WrongInputType, WrongValue
from n2d2.tensor import Interface, Tensor
from prunecell.errors import nearest, quoted


class Iterable(Block, shared=True):
    """What Sequence and Layer share: cells can be put in and taken out. Never instantiated itself."""

    @checked
    def append(self, cell: Item) -> None:
        """Put a cell at the end."""
        self.insert(len(self), cell)

    @checked
    def insert(self, index: int, cell: Item) -> None:
        """Put a cell before the one at `index`, as into a list; behind the last is the end.

        Raises:
            WrongInputType: it is no cell, or no whole number.
            WrongValue: there is one of its name, or `index` is negative.
        """
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise WrongInputType(f"index={quoted(index)} is illegal: it must be a whole number >= 0")
        if index < 0:
            raise WrongValue(f"index={index} is illegal: it must be a whole number >= 0")
        self._add(cell)
        self._held.insert(index, self._held.pop())
        self._reorder()

    @checked
    def remove(self, cell: Item | str) -> None:
        """Take a cell of this level out, by itself or by its name.

        Raises:
            UndefinedItemError: there is none.
        """
        key = self._held.pop(self.index(cell))
        del self._modules[key]

    @checked
    def index(self, cell: Item | str) -> int:
        """The place of a cell of this level, by itself or by its name.

        Raises:
            UndefinedItemError: there is none.
        """
        names = [one.name for one in self]
        for place, one in enumerate(self):
            if one is cell or one.name == cell:
                return place
        name = cell if isinstance(cell, str) else getattr(cell, "name", cell)
        raise UndefinedItemError(f"{self.name!r} has no cell {quoted(name)}{nearest(str(name), names)}")

    def _reorder(self) -> None:
        """Let the modules stand in the order of the cells."""
        modules = {key: self._modules.pop(key) for key in self._held}
        self._modules.update(modules)


class Sequence(Iterable):
    """Cells one after another. An empty one gives back what it gets.

    >>> import torch
    >>> from n2d2.cells import Fc
    >>> model = Sequence([Fc(4, 3, name="one"), Fc(3, 2, name="two")])
    >>> model(torch.zeros(5, 4)).shape, model["two"] is model[1]
    (torch.Size([5, 2]), True)
    """

    _closed: ClassVar[bool] = True

    def to_deepnet_cell(self, provider: Any = None, target: Any = None) -> DeepNetCell:  # noqa: ANN401 - any of ours
        """The same cells as a DeepNetCell, see `Block.to_deepnet_cell`; cells one after another need no provider."""
        if provider is not None:
            return super().to_deepnet_cell(provider, target)
        cells = self._flat()
        inputs = {cell.name: [before] for cell, before in zip(cells, ["", *(one.name for one in cells)], strict=False)}
        return DeepNetCell(cells, inputs, target=target, name=self.name)

    def _flat(self) -> list[Cell]:
        """All cells, where nothing but a Sequence is between them."""
        cells: list[Cell] = []
        for item in self:
            if isinstance(item, Sequence) and type(item).forward is Sequence.forward:
                cells += item._flat()  # noqa: SLF001 - of its own kind
            elif isinstance(item, Cell):
                cells.append(item)
            else:
                raise WrongValue(f"to_deepnet_cell needs a provider: what {item.name!r} computes hangs on its input")
        if len({cell.name for cell in cells}) < len(cells):
            raise WrongValue(f"two cells of {self.name!r} have one name: names must differ")
        return cells

    def forward(self, x: Any, *more: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Through all cells."""
        if more:
            x = together([x, *more])
        for cell in self:
            x = cell(x)
        return x


class Layer(Iterable):
    """Cells side by side: each gets the same inputs; an Interface of their outputs comes out (a list of torch tensors).

    Args:
        cells: cells or containers.
        mapping: inputs x cells, 1 where a cell sees an input of several; by default each sees all.
        name: by default the class and a number.

    Raises:
        WrongInputType, WrongValue: the mapping is no table, or a cell of it sees nothing.
    """

    _closed: ClassVar[bool] = True
    mapping: list[list[int]] | None = None

    def __init__(
        self,
        cells: IterableOf[Item] = (),
        mapping: SequenceOf[SequenceOf[int]] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(cells, name)
        self.mapping = None if mapping is None else as_table(mapping).int().tolist()
        if self.mapping is not None:
            self._check(len(self.mapping))

    def _check(self, n_inputs: int) -> None:
        """Refuse a mapping of another number of inputs or of cells."""
        table = self.mapping or []
        sizes = {len(row) for row in table}
        if len(table) != n_inputs or sizes != {len(self)}:
            raise WrongValue(
                f"mapping={table} of {self.name!r} is illegal: it must be {n_inputs} rows (inputs) of {len(self)} cells"
            )

    def forward(self, x: Any, *more: Any) -> Any:  # noqa: ANN401
        """The outputs of all cells, in their order."""
        given = [*(x if isinstance(x, list | tuple) else [x]), *more]
        if self.mapping is not None:
            self._check(len(given))
        outputs: list[Any] = []
        for place, cell in enumerate(self):
            seen = (
                given
                if self.mapping is None
                else [one for one, row in zip(given, self.mapping, strict=True) if row[place]]
            )
            if not seen:
                raise WrongValue(f"mapping of {self.name!r} is illegal: {cell.name!r} sees no input")
            made = cell(together(seen))
            outputs += made if isinstance(made, list | tuple) else [made]
        return Interface(outputs) if all(isinstance(one, Tensor) for one in outputs) else outputs


def together(inputs: SequenceOf[Any]) -> Any:  # noqa: ANN401 - torch tensors or ours
    """What a cell takes of several inputs: the only one, an Interface, or a list of torch tensors."""
    if len(inputs) == 1:
        return inputs[0]
    return Interface(inputs) if all(isinstance(one, Tensor) for one in inputs) else list(inputs)
