"""Trainable: what the cells that learn share, under N2D2's name for it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from n2d2.error_handler import WrongValue
from n2d2.filler import Filler
from n2d2.solver import Solver, with_parameter


class Trainable:
    """A cell with solvers: Conv, Deconv, Fc, BatchNorm2d. Never instantiated itself.

    `solver` stands for all solvers of the cell.
    """

    KINDS: ClassVar[Mapping[str, tuple[type, ...]]]
    _quantizer: Any

    def set_solver(self, solver: Solver) -> None:
        """Train all parameters of the cell by this solver."""
        self.solver = solver

    def set_solver_parameter(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Set one parameter of all solvers of the cell."""
        for option in self.KINDS:
            if option.endswith("_solver"):
                setattr(self, option, with_parameter(getattr(self, option), key, value))

    def set_filler(self, filler: Filler, refill: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - N2D2's signature
        """Refuse: cells with weights have a filler."""
        raise WrongValue(f"filler={filler} is illegal: a {type(self).__name__} has no filler")

    def has_quantizer(self) -> bool:
        """Whether a PruneCell is on this cell."""
        return self._quantizer is not None
