"""Block: cells by name, what all containers of cells share."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any, Union

from torch import nn

from n2d2.cells.cell import Cell
from n2d2.cells.naming import default_name, key_of
from n2d2.cells.summary import summarize
from n2d2.error_handler import UndefinedParameterError, WrongInputType, WrongValue
from n2d2.files import load_weights, save_weights
from n2d2.quantizer import PruneCell
from n2d2.solver import Solver
from prunecell.errors import nearest

Item = Union[Cell, "Block"]
"""What a container holds."""


class Block(nn.Module):
    """Cells by name, without an order of computation.

    Iteration goes one level deep; `get_cells()` all the way. `block[0]` and `block["name"]` find a cell, the latter at
    any depth.

    Args:
        cells: cells or containers, of different names.
        name: by default the class and a number.
    """

    def __init__(self, cells: Iterable[Item] = (), name: str | None = None) -> None:
        super().__init__()
        self.name = name or default_name(type(self).__name__)
        for cell in cells:
            self._add(cell)

    def _add(self, cell: Item) -> None:
        if not isinstance(cell, Cell | Block):
            raise WrongInputType(f"{self.name!r} takes cells, not a {type(cell).__name__}")
        if key_of(cell.name) in self._modules:
            raise WrongValue(f"{self.name!r} has a cell {cell.name!r} already: names must differ")
        self._modules[key_of(cell.name)] = cell  # not add_module: a cell may be called like a method of ours

    def get_name(self) -> str:
        """The name of the container."""
        return self.name

    def get_type(self) -> str:
        """N2D2's name of this kind of container."""
        return type(self).__name__

    def items(self) -> list[Item]:
        """The cells and containers of this level, in their order."""
        return [module for module in self._modules.values() if isinstance(module, Cell | Block)]

    def get_cells(self) -> dict[str, Cell]:
        """All cells by name, however deep."""
        return {cell.name: cell for cell in self.modules() if isinstance(cell, Cell)}

    def get_cell(self, name: str) -> Item:
        """The cell or container of this name, however deep."""
        found = next((m for m in self.modules() if isinstance(m, Cell | Block) and m.name == name), None)
        if found is None:
            raise UndefinedParameterError(f"{self.name!r} has no cell {name!r}{nearest(name, self.get_cells())}")
        return found

    def __getitem__(self, which: int | str | slice) -> Any:  # noqa: ANN401 - a cell, or a list of cells
        return self.get_cell(which) if isinstance(which, str) else self.items()[which]

    def __len__(self) -> int:
        return len(self.items())

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items())

    def __contains__(self, cell: object) -> bool:
        return cell in self.items() or cell in self.get_cells()

    def learn(self) -> "Block":
        """Switch all cells to learning."""
        return self.train()

    def test(self) -> "Block":
        """Switch all cells to testing."""
        return self.eval()

    def freeze(self) -> "Block":
        """Let no solver change any parameter."""
        return self.requires_grad_(False)  # noqa: FBT003 - torch's signature

    def set_solver(self, solver: Solver) -> None:
        """Train all parameters by this solver."""
        for cell in self.get_cells().values():
            if hasattr(cell, "set_solver"):
                cell.set_solver(solver)

    def set_back_propagate(self, value: bool) -> None:  # noqa: FBT001 - N2D2's signature
        """Whether gradients go on to the cells' inputs."""
        for cell in self.get_cells().values():
            cell.back_propagate = value

    def quantizers(self) -> dict[str, PruneCell]:
        """The PruneCells by the names of their cells."""
        return {name: cell.quantizer for name, cell in self.get_cells().items() if cell.quantizer is not None}

    def export_free_parameters(self, dir_name: str | Path) -> None:
        """Write the weights, biases and masks of all cells as `.syntxt` files into a folder."""
        save_weights(self.get_cells().values(), dir_name)

    def import_free_parameters(self, dir_name: str | Path, ignore_not_exists: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Read what `export_free_parameters` wrote; masks that are not there are filled on the new weights.

        Args:
            dir_name: the folder.
            ignore_not_exists: cells without files keep their weights, with a warning.
        """
        load_weights(self.get_cells().values(), dir_name, ignore_missing=ignore_not_exists)

    def summary(self, verbose: bool = False, *, input_dims: SequenceOf[int] | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 - N2D2's signature
        """Print a table of all cells.

        Args:
            verbose: accepted, without effect.
            input_dims: [x, y, channels] of what comes in, for shapes and MACs; a provider knows its own.
        """
        size = input_dims or getattr(getattr(self, "provider", None), "size", None)
        print(summarize(self, None if size is None else list(size)[::-1]))  # noqa: T201 - as N2D2 does

    def __str__(self) -> str:
        lines = (line for item in self for line in str(item).splitlines())
        return "\n".join([f"{self.get_type()}({self.name!r})(", *(f"\t{line}" for line in lines), ")"])

    __repr__ = __str__
