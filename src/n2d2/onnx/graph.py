"""What an ONNX file says, as plain data: nodes in the order of computation, and the tensors that stand in the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shape = tuple[int | None, ...]
"""Sizes, None where the file leaves one open."""


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an operator.

    Attributes:
        op: ONNX's name of the operator.
        version: the version of the operators in which it took the form that it has here.
        inputs: names of tensors; "" stands for an optional one that is not given.
        outputs: names; "" for one that nobody wants.
        attributes: all that the operator has, with ONNX's defaults; None for optional ones that are not given.
    """

    op: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The first output, which names the node, as in N2D2."""
        return next(name for name in self.outputs if name)

    def __getitem__(self, attribute: str) -> Any:  # noqa: ANN401 - attributes are of any type
        return self.attributes.get(attribute)

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}"


@dataclass(eq=False)
class Graph:
    """A network.

    Attributes:
        nodes: each after those whose outputs it takes.
        constants: name -> the tensor, floats as the file has them.
        stored: names of constants that are weights: initializers, and those in another form.
        input: the name of the only input. input_shape: its sizes with the batch; None where the file has none.
        outputs: names of what comes out.
        shapes: name -> sizes, as far as they are known from the file alone.
    """

    nodes: list[Node]
    constants: dict[str, Tensor]
    stored: set[str]
    input: str
    input_shape: Shape | None
    outputs: tuple[str, ...]
    shapes: dict[str, Shape] = field(default_factory=dict)

    def rank(self, name: str) -> int | None:
        """How many dimensions a tensor has; None where the file does not tell."""
        if name in self.constants:
            return self.constants[name].dim()
        return len(self.shapes[name]) if name in self.shapes else None
