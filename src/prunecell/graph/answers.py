"""What a model learns of its tensors while it is traced: their shapes, and what follows from these, by an example."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._pytree import tree_map_only


class Answers(fx.Interpreter):
    """The values of a graph that is still being made.

    All tensors, those of the model too, have shapes and no numbers, so nothing is computed, drawn at random or written.

    Args:
        model: whose graph it is.
        graph: to which nodes are added meanwhile.
        inputs: of the model, in order.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph, inputs: tuple[Any, ...]) -> None:
        super().__init__(model, garbage_collect_values=False, graph=graph)
        self._mode = FakeTensorMode()
        self.args_iter = iter(tree_map_only(Tensor, self._mode.from_tensor, inputs))

    def value(self, node: fx.Node) -> Any:  # noqa: ANN401 - a tensor without numbers, a shape, a number, a truth value
        """What a node gives."""
        with self._mode, torch.no_grad():
            for one in self.graph.nodes:
                if one not in self.env:
                    self.env[one] = self.run_node(one)
        return self.env[node]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as torch has it
        """See `fx.Interpreter`."""
        return tree_map_only(Tensor, self._mode.from_tensor, super().get_attr(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - as torch has it
        """See `fx.Interpreter`."""
        module = self.fetch_attr(target)
        own = chain(module.named_parameters(), module.named_buffers())
        return functional_call(module, {name: self._mode.from_tensor(tensor) for name, tensor in own}, args, kwargs)
