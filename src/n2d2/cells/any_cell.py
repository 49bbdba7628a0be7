"""Cell: what N2D2 calls a cell, one that computes or a container of such."""

from typing import Any

from n2d2.calling import CheckedCall
from n2d2.cells.cell import Cell as NeuralNetworkCell
from n2d2.cells.holding import Holding
from n2d2.error_handler import WrongInputType


class _AnyCell(CheckedCall):
    """The type of a class that containers are of too, though they do not inherit it."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805 - of any class
        if cls is Cell:
            raise WrongInputType("Cell is what cells share: make a Conv, an Fc, a Pool2d, ..., or a Sequence of cells")
        return super().__call__(*args, **kwargs)

    def __subclasscheck__(cls, other: type) -> bool:  # noqa: N805 - of a metaclass
        return super().__subclasscheck__(other) or (cls is Cell and issubclass(other, NeuralNetworkCell | Holding))

    def __instancecheck__(cls, one: object) -> bool:  # noqa: N805 - of a metaclass
        return issubclass(type(one), cls)


class Cell(NeuralNetworkCell, metaclass=_AnyCell):
    """A cell that computes or a container of cells, for `isinstance`. Who inherits it makes one that computes."""
