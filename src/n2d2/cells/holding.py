"""Holding: what all containers of cells share."""

import copy
from collections.abc import ItemsView, Iterator, Mapping
from collections.abc import Iterable as IterableOf
from collections.abc import Sequence as SequenceOf
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, Union

import numpy as np
import torch
from torch import nn

from n2d2.calling import CheckedCall
from n2d2.cells.cell import Cell
from n2d2.cells.naming import default_name, key_of
from n2d2.cells.trainable import Trainable
from n2d2.cells.weight_cell import WeightCell
from n2d2.checks import check_text
from n2d2.error_handler import (
    UndefinedItemError,
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
)
from n2d2.files import load_weights, save_weights
from n2d2.ini.errors import hint
from n2d2.quantizer import PruneCell
from n2d2.solver import Solver
from n2d2.summary import Summary, summarize
from n2d2.tensor import Tensor
from prunecell.errors import nearest, quoted

Item = Union[Cell, "Holding"]
"""What a container holds."""

HANDED_ON = (
    "quantizer",
    *("solver", "weights_solver", "bias_solver", "scale_solver"),
    *("filler", "weights_filler", "bias_filler"),
    "back_propagate",
)
"""Attributes that are set on all cells of a container that have them."""


class Holding(nn.Module, metaclass=CheckedCall, shared=True):
    """Cells by name. Never instantiated itself; `Block`, which says more, is what users have."""

    name: str = ""

    def __init__(self, cells: IterableOf[Item] = (), name: str | None = None) -> None:
        early = {key: one for key, one in vars(self).items() if isinstance(one, nn.Module)}
        super().__init__()
        if not isinstance(cells, IterableOf) or isinstance(cells, nn.Module | str | Mapping):
            raise WrongInputType(f"cells={quoted(cells)} is illegal: it must be a list of cells")
        check_text("name", "" if name is None else name)
        self.name = name or default_name(type(self).__name__)
        self._held: list[str] = []  # the keys of the cells among the modules, in their order
        for cell in cells:
            self._add(cell)
        for key, one in early.items():
            if not self._holds(one):
                del self.__dict__[key]
                setattr(self, key, one)

    def _add(self, cell: Item) -> None:
        if not isinstance(cell, Cell | Holding):
            raise WrongInputType(f"{self.name!r} takes cells, not a {type(cell).__name__}")
        key = key_of(cell.name)
        if self._modules.get(key) is cell and key in self._held:
            raise WrongValue(f"{self.name!r} has {cell.name!r} already: make another cell for another place")
        if key in self._modules:
            raise WrongValue(f"{self.name!r} has a cell {cell.name!r} already: names must differ")
        self._modules[key] = cell  # not add_module: a cell may be called like a method of ours
        self._held.append(key)

    def _holds(self, module: nn.Module) -> bool:
        """Whether a module, or all cells of a container, are among the modules of this container."""
        ours = {id(one) for one in self.modules()}
        parts: list[nn.Module] = [one for one in module.modules() if isinstance(one, Cell)] or [module]
        return (
            id(module) in ours
            or all(id(one) in ours for one in parts)
            or (isinstance(module, Holding) and not len(module))
        )

    # ---- attributes

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any type
        if isinstance(value, nn.Module):
            self._set_module(name, value)
        elif "_modules" not in self.__dict__ or name in self.__dict__ or hasattr(type(self), name) or name[:1] == "_":
            super().__setattr__(name, value)
        elif name in HANDED_ON:
            self._hand_on(name, value)
        elif "_closed" in vars(type(self)) and not isinstance(value, nn.Parameter | torch.Tensor):
            raise UndefinedParameterError(f"{name} cannot be set on a {type(self).__name__}{_instead(name)}")
        elif isinstance(value, PruneCell) and get_close_matches(name, HANDED_ON):
            raise UndefinedParameterError(f"{name} of {self.name!r} prunes nothing{nearest(name, HANDED_ON)}")
        else:
            super().__setattr__(name, value)

    def _set_module(self, name: str, module: nn.Module) -> None:
        """A cell that is held already is no second registration; what is held is not replaced by another cell."""
        own = self.__dict__
        if "_modules" not in own:
            object.__setattr__(self, name, module)
            return
        before = own.get(name, self._modules.get(name))
        is_cell, is_held = isinstance(module, Cell | Holding), name in own or name in self._held
        of_its_name = name in self._held and is_cell and key_of(str(module.name)) == name
        if is_held and is_cell and isinstance(before, Cell | Holding) and before is not module and not of_its_name:
            raise WrongValue(
                f"{name} of {self.name!r} is {before.name!r}, one of its cells: remove() and insert() exchange it"
            )
        if name not in self._modules and self._holds(module):
            object.__setattr__(self, name, module)
        else:
            super().__setattr__(name, module)

    def _hand_on(self, name: str, value: Any) -> None:  # noqa: ANN401
        """Set an attribute on all cells that have it; nothing is set where it is illegal."""
        if name == "quantizer":
            if not isinstance(value, PruneCell | None):
                raise WrongInputType(f"quantizer={quoted(value)} is illegal: it must be a PruneCell or None")
            takers: list[Cell] = [cell for cell in self._leaves() if isinstance(cell, WeightCell)]
        elif name == "back_propagate":
            takers = [cell for cell in self._leaves() if isinstance(cell, Trainable)]
        else:
            takers = [cell for cell in self._leaves() if name in cell.options or name in cell.ALIASES]
        if not takers:
            raise UndefinedParameterError(f"{name} of {self.name!r} is illegal: no cell in it has such")
        for cell in takers:
            setattr(cell, name, copy.deepcopy(value) if isinstance(value, PruneCell) else value)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - modules of any class
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in HANDED_ON:
                raise UndefinedParameterError(
                    f"{name} belongs to the cells of {self.name!r}: ask one of these"
                ) from None
            meant = hint(name, [*dir(type(self)), *self.__dict__])
            raise UndefinedParameterError(f"{type(self).__name__} has no attribute {name!r}{meant}") from None

    # ---- what it holds

    def get_name(self) -> str:
        """The name of the container."""
        return self.name

    def get_type(self) -> str:
        """N2D2's name of this kind of container."""
        return type(self).__name__

    def _items(self) -> list[Any]:
        return [self._modules[key] for key in self._held]

    def items(self) -> ItemsView[str, Item]:
        """Names and cells of this level, in their order."""
        return {cell.name: cell for cell in self}.items()

    def get_cells(self) -> dict[str, Any]:
        """All cells and containers by name, however deep; of several of one name the last."""
        return {one.name: one for one in self.modules() if isinstance(one, Cell | Holding) and one is not self}

    def _leaves(self) -> list[Cell]:
        """All cells, however deep, without the containers."""
        return [one for one in self.modules() if isinstance(one, Cell)]

    def get_cell(self, item: str) -> Any:  # noqa: ANN401 - a cell or a container
        """The cell or container of this name, however deep.

        Raises:
            UndefinedItemError: (KeyError) there is none.
        """
        found = self.get_cells()
        if item not in found:
            raise UndefinedItemError(f"{self.name!r} has no cell {item!r}{nearest(item, found)}")
        return found[item]

    def __getitem__(self, item: int | str | slice) -> Any:  # noqa: ANN401 - a cell, or a list of cells
        """A cell by its place in this level or by its name at any depth; a list of cells by a slice."""
        if isinstance(item, str):
            return self.get_cell(item)
        if isinstance(item, slice):
            return self._items()[item]
        if isinstance(item, bool) or not isinstance(item, int | np.integer):
            raise WrongInputType(
                f"{quoted(item)} is illegal as a place in {self.name!r}: it must be a number or a name"
            )
        if not -len(self) <= item < len(self):
            raise UndefinedItemError(f"{self.name!r} has no cell {item}: it has {len(self)}, from 0 on")
        return self._items()[item]

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __contains__(self, cell: object) -> bool:
        return cell in self.get_cells() if isinstance(cell, str) else any(cell is one for one in self.modules())

    # ---- what it computes

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """Propagate n2d2.Tensors or torch tensors; several go in as an n2d2.Interface or a list."""
        flat = [one for x in inputs for one in (x if isinstance(x, list | tuple) else [x])]
        wrong = [one for one in flat if not isinstance(one, Tensor | torch.Tensor)]
        if not flat or wrong:
            what = f"not a {type(wrong[0]).__name__}" if wrong else "one at least"
            raise WrongInputType(f"{self.name!r} takes n2d2.Tensors, or torch tensors, {what}")
        return super().__call__(*inputs)

    # ---- what all cells do

    def learn(self) -> Self:
        """Switch all cells to learning."""
        return self.train()

    def test(self) -> Self:
        """Switch all cells to testing."""
        return self.eval()

    def freeze(self) -> Self:
        """Let no solver change any parameter."""
        return self.requires_grad_(False)  # noqa: FBT003 - torch's signature

    def set_solver(self, solver: Solver) -> None:
        """Train all parameters by this solver."""
        for cell in self._leaves():
            if isinstance(cell, Trainable):
                cell.set_solver(solver)

    def set_back_propagate(self, value: bool) -> None:  # noqa: FBT001 - N2D2's signature
        """Whether gradients go on to the inputs of the cells that learn."""
        for cell in self._leaves():
            if isinstance(cell, Trainable):
                cell.back_propagate = value

    def quantizers(self) -> dict[str, PruneCell]:
        """The PruneCells by the names of their cells."""
        return {cell.name: cell.quantizer for cell in self._leaves() if cell.quantizer is not None}

    def is_integral(self) -> bool:
        """Whether all parameters are whole numbers: only where there are none, because nothing is quantized."""
        return not any(True for _ in self.parameters())

    def export_free_parameters(self, dir_name: str | Path, verbose: bool = True) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Write the weights, biases and masks of all cells as `.syntxt` files into a folder.

        Args:
            dir_name: the folder.
            verbose: print where to.

        Raises:
            WrongValue: two cells have one name, so that they would have one file.
        """
        save_weights(self._by_file(), dir_name)
        if verbose:
            print(f"{self.name}: parameters are in {dir_name}")  # noqa: T201 - as N2D2 does

    def import_free_parameters(self, dir_name: str | Path, ignore_not_exists: bool = False) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Read what `export_free_parameters` wrote; masks that are not there are filled on the new weights.

        Args:
            dir_name: the folder.
            ignore_not_exists: cells without files keep their weights, with a warning.
        """
        load_weights(self._by_file(), dir_name, ignore_missing=ignore_not_exists)

    def _by_file(self) -> list[Cell]:
        """All cells, each of which has files of its own."""
        cells, seen = self._leaves(), set[str]()
        for cell in cells:
            if cell.name in seen:
                raise WrongValue(
                    f"two cells of {self.name!r} are called {cell.name!r}, and would have one file: names must differ"
                )
            seen.add(cell.name)
        return cells

    def summary(self, verbose: bool = False, *, input_dims: SequenceOf[int] | None = None) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Print a table of all cells.

        Args:
            verbose: show batch normalizations too; without it they count in the totals only.
            input_dims: [x, y, channels] of what comes in, for shapes and MACs; a provider knows its own.
        """
        made = self._summary(input_dims)
        print(made if verbose else made.without("BatchNorm2d"))  # noqa: T201 - as N2D2 does

    def _summary(self, input_dims: SequenceOf[int] | None = None) -> Summary:
        size = getattr(self, "provider", None) and self.provider.get_size() if input_dims is None else input_dims
        return summarize(self, list(size)[::-1] if size else None)

    def __str__(self) -> str:
        lines = (line for item in self for line in str(item).splitlines())
        return "\n".join([f"{self.get_type()}({self.name!r})(", *(f"\t{line}" for line in lines), ")"])

    __repr__ = __str__


def _instead(name: str) -> str:
    """What to set in place of an attribute that a container has not."""
    of_prunecell = get_close_matches(name, PruneCell.__dataclass_fields__, n=1, cutoff=0.8)
    if of_prunecell:
        return (
            f"; {of_prunecell[0]!r} is a parameter of a PruneCell: quantizer=PruneCell({of_prunecell[0]}=...) sets it"
        )
    return nearest(name, HANDED_ON)
