"""A node and the arithmetic on shapes that it hangs on, as a small program that can be run again and again."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from n2d2.onnx.arithmetic import OF_SHAPES
from n2d2.onnx.graph import Graph, Node
from n2d2.onnx.host import Host
from n2d2.onnx.operators import Value, compute
from n2d2.onnx.simplify import argument


@dataclass(frozen=True, eq=False)
class Step:
    """One node, ready to be computed.

    Attributes:
        node: the node.
        arguments: of each input the name of a tensor, or its numbers, or None where it is not given.
    """

    node: Node
    arguments: tuple[str | Host | None, ...]

    def run(self, known: dict[str, Value], device: torch.device) -> None:
        """Take the inputs out of `known`, and put the outputs there."""
        values = [known[one] if isinstance(one, str) else one for one in self.arguments]
        known.update(zip(self.node.outputs, compute(self.node, values, device), strict=False))


@dataclass(frozen=True, eq=False)
class Program:
    """Steps, the last of which is a node that is no arithmetic on shapes, and what they take.

    Attributes:
        steps: in order.
        inputs: names of the activations, each once.
        constants: names of constants that stay tensors.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    constants: tuple[str, ...]


def shape_arithmetic(graph: Graph) -> dict[str, Node]:
    """Output -> its node, of all nodes that hang on sizes of tensors alone. Such outputs have no batch."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        given = [name for name in node.inputs if name and name not in graph.constants]
        if node.op in OF_SHAPES or all(name in found for name in given):
            found.update(dict.fromkeys(filter(None, node.outputs), node))
    return found


def program(graph: Graph, node: Node, arithmetic: Mapping[str, Node]) -> Program:
    """What it takes to compute a node; `arithmetic` is what `shape_arithmetic` found."""
    nodes = [*_before(node, arithmetic), node]
    steps = tuple(_step(graph, one, arithmetic=one.name in arithmetic) for one in nodes)
    names = [name for step in reversed(steps) for name in step.arguments if isinstance(name, str)]
    made = {name for one in nodes[:-1] for name in one.outputs}
    inputs = dict.fromkeys(name for name in names if name not in graph.constants and name not in made)
    constants = dict.fromkeys(name for name in names if name in graph.constants)
    return Program(steps, tuple(inputs), tuple(constants))


def _before(node: Node, arithmetic: Mapping[str, Node]) -> list[Node]:
    """The arithmetic that a node takes, each after what it takes itself."""
    found: dict[int, Node] = {}
    waiting = [(node, False)]
    while waiting:
        one, done = waiting.pop()
        if done:
            found[id(one)] = one
            continue
        waiting.append((one, True))
        waiting += [
            (arithmetic[name], False) for name in one.inputs if name in arithmetic and id(arithmetic[name]) not in found
        ]
    del found[id(node)]
    return list(found.values())


def _step(graph: Graph, node: Node, *, arithmetic: bool) -> Step:
    arguments: list[str | Host | None] = [name or None for name in node.inputs]
    for place, name in enumerate(node.inputs):
        if name in graph.constants:
            value = argument(graph.constants, node, place, arithmetic=arithmetic)
            arguments[place] = value if isinstance(value, Host) else name
    return Step(node, tuple(arguments))
