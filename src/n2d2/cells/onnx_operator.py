"""Operator: a cell that computes as an operator of an ONNX file, which has no cell of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from n2d2 import global_variables
from n2d2.cells.cell import Cell
from n2d2.cells.trainable import Trainable
from n2d2.onnx.host import Host, to_tensor
from n2d2.onnx.steps import Program
from n2d2.solver import SGD, SOLVERS, Solver


class Operator(Cell):
    """One operator, and the arithmetic on shapes that it hangs on.

    Args:
        name: of the cell, one of the outputs of the last step.
        program: what is computed.
        tensors: name -> tensor, for all constants of the program.
        ranks: input -> how many dimensions it has, where that is known.
        learned: names of those tensors that are parameters.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        tensors: Mapping[str, Tensor],
        ranks: Mapping[str, int | None],
        learned: Sequence[str] = (),
    ) -> None:
        super().__init__(name=name, fixed={"operator": program.steps[-1].node.op})
        self._program, self._ranks = program, dict(ranks)
        self._places: dict[str, str] = {}
        device = global_variables.device()
        for place, constant in enumerate(program.constants):
            tensor = tensors[constant].to(device)
            self._places[constant] = f"{'learned' if constant in learned else 'constant'}_{place}"
            if constant in learned:
                self.register_parameter(self._places[constant], nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(self._places[constant], tensor, persistent=False)

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - what the operator gives
        """What the operator gives for activations, in the order of the program's inputs."""
        known: dict[str, Any] = {constant: getattr(self, place) for constant, place in self._places.items()}
        for name, x in zip(self._program.inputs, inputs, strict=True):
            kept = x if self.options["back_propagate"] else x.detach()
            known[name] = of_rank(kept, self._ranks.get(name))
        for step in self._program.steps:
            step.run(known, inputs[0].device)
        made = known[self.name]
        return to_tensor(made, inputs[0].device, global_variables.dtype()) if isinstance(made, Host) else made


class LearningOperator(Trainable, Operator):
    """An Operator with tensors that are weights by their place, as the slopes of a PRelu; they have a solver."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {"weights_solver": SGD}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"weights_solver": tuple(SOLVERS.values())}
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {"solver": ("weights_solver",)}

    def get_type(self) -> str:
        """An Operator, in a file and when it is printed."""
        return "Operator"

    def changed(self, option: str) -> None:  # noqa: ARG002 - whatever it was
        """A new solver begins without momentum."""
        self._optimizer = None

    def solvers(self) -> dict[nn.Parameter, Solver]:
        """Each parameter that learns, and its solver."""
        return {parameter: self.weights_solver for parameter in self.parameters() if parameter.requires_grad}


def of_rank(x: Tensor, rank: int | None) -> Tensor:
    """The dimensions that the file knows: those of 1 that N2D2's tensors have in addition are taken off.

    N2D2 has two behind vectors, and one before an input of three dimensions, which it takes for an image.
    """
    if rank == 2 and x.dim() == 4 and x.shape[2:] == (1, 1):  # noqa: PLR2004 - (batch, values)
        return x.flatten(1)
    return x.squeeze(0) if rank == 3 and x.dim() == 4 and x.shape[0] == 1 else x  # noqa: PLR2004 - (batch, ..., values)
