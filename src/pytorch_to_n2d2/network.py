"""TorchNetwork: a torch module as a network of N2D2's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from n2d2.cells import DeepNetCell
from n2d2.cells.cell import Cell
from n2d2.error_handler import WrongValue
from n2d2.refusal import Refused
from n2d2.tensor import Tensor
from n2d2.trace import Trace
from pytorch_to_n2d2.shown import cells_of

INSTEAD = "the torch module computes, so change it before it is wrapped"


class TorchNetwork(DeepNetCell):
    """A torch module that computes as it does, with cells that show its layers: each Conv, Deconv and Fc can be pruned.

    Cells are called by the paths of their modules, `layer1.0.conv1`, in the order of the module. It is called with
    torch tensors, or with n2d2.Tensors as other networks.

    Args:
        module: what computes; its parameters are trained and pruned in place.
        input_size: of its input, the batch first.
    """

    torch_module: nn.Module
    _input_size: list[int]
    _parts: list[tuple[nn.Module, Cell]]

    def __init__(self, module: nn.Module, input_size: Sequence[int]) -> None:
        shown = list(cells_of(module, reserved="torch_module"))
        names = [cell.name for _, cell in shown]
        inputs = {name: [before] for name, before in zip(names, ["", *names], strict=False)}
        super().__init__([cell for _, cell in shown], inputs)
        self.torch_module = module
        self.training = module.training
        self.__dict__.update(_input_size=list(input_size), _parts=shown)  # a cell may have any other name

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - torch tensors or ours
        """What the module gives."""
        if not isinstance(x, Tensor):
            with self._watched(remember=False):
                return self.torch_module(x)
        sizes = self._input_size[1:]
        n = len(x.values)
        if x.values[:1].numel() != torch.Size(sizes).numel():
            raise WrongValue(f"{self.name!r} takes stimuli of {sizes}, not of {list(x.values.shape[1:])}")
        values = x.values.reshape(n, *sizes)
        with self._watched(remember=True), torch.set_grad_enabled(self.training):
            made = self.torch_module(values)
        trace = x.trace
        for _, cell in self._parts:
            trace = Trace.after(cell, [trace], n)
        if isinstance(made, torch.Tensor):
            return _as_ours(made, trace)
        return [_as_ours(one, trace) for one in made]

    @contextmanager
    def _watched(self, *, remember: bool) -> Iterator[None]:
        """Run the forward hooks of a cell when its layer is called; let it remember what that took and gave.

        Layers that the module does not call, but whose weights it may use, count as called with nothing at the end.
        """
        waiting = {cell: None for _, cell in self._parts if cell._forward_hooks}  # noqa: SLF001

        def look(cell: Cell, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - of any layer
            if not inputs or not all(isinstance(x, torch.Tensor) for x in (*inputs, output)):
                return
            if remember:
                cell._remember([(x, Trace()) for x in inputs], Tensor.from_torch(output))  # noqa: SLF001 - it is one of ours
            waiting.pop(cell, None)
            for hook in list(cell._forward_hooks.values()):  # noqa: SLF001
                hook(cell, inputs, output)

        hooks = [
            part.register_forward_hook(lambda _, inputs, output, cell=cell: look(cell, inputs, output))
            for part, cell in self._parts
            if remember or cell._forward_hooks  # noqa: SLF001
        ]
        try:
            yield
            for cell in list(waiting):
                look(cell, (torch.empty(1),), torch.empty(1))
        finally:
            for hook in hooks:
                hook.remove()

    def summary(self, verbose: bool = False, *, input_dims: Sequence[int] | None = None) -> None:  # noqa: FBT001, FBT002 - N2D2's signature
        """Print a table of the cells in the order in which they compute; arguments as for Block."""
        super().summary(verbose, input_dims=input_dims or self._input_size[:0:-1])

    remove = Refused(INSTEAD)


def _as_ours(values: torch.Tensor, trace: Trace) -> Tensor:
    """An n2d2.Tensor; vectors have four dimensions."""
    made = Tensor.from_torch(values[..., None, None] if values.dim() == 2 else values)  # noqa: PLR2004 - (batch, values)
    made.trace = trace
    return made
