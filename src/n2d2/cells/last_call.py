"""LastCall: what a cell remembers of the last n2d2.Tensors that it was called with."""

from collections.abc import Sequence
from typing import Any

import torch

from n2d2.error_handler import WrongValue
from n2d2.refusal import Refused
from n2d2.tensor import Tensor
from n2d2.trace import Trace


class LastCall:
    """The inputs, the output and the gradients of the last call, by N2D2's methods. Never instantiated itself.

    Calls with torch tensors leave it as it is. Tensors are in their own memory: nothing is copied to remember them.
    """

    name: str
    _came: Sequence[tuple[torch.Tensor, Trace]] = ()
    _made: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def _remember(self, came: Sequence[tuple[torch.Tensor, Trace]], made: Tensor) -> None:
        scored = made.values if made.logits is None else made.logits
        if scored.requires_grad:
            scored.retain_grad()
        self.__dict__.update(_came=came, _made=(made.values, made.logits))  # torch's __setattr__ takes longer

    def last_call(self) -> Any:  # noqa: ANN401 - for `put_last_call`
        """What is remembered."""
        return self._came, self._made

    def put_last_call(self, call: Any) -> None:  # noqa: ANN401
        """Remember what `last_call` gave, in place of what came after it."""
        self.__dict__.update(_came=call[0], _made=call[1])

    def get_outputs(self) -> Tensor:
        """The last output, with the cells that took part; an empty tensor before the first."""
        if self._made is None:
            return Tensor.from_torch(torch.empty(0))
        made = Tensor.from_torch(self._made[0])
        made.logits = self._made[1]
        made.trace = Trace.after(self, [trace for _, trace in self._came], len(self._made[0]))  # type: ignore[arg-type] # it is a cell
        return made

    def get_inputs(self, index: int = 0) -> Tensor:
        """The last input, or the `index`-th of several; an empty tensor before the first."""
        if not self._came:
            return Tensor.from_torch(torch.empty(0))
        values, trace = self._came[self._check_index(index)]
        made = Tensor.from_torch(values)
        made.trace = trace
        return made

    def get_diffinputs(self) -> Tensor:
        """What came back to the output in the last `back_propagate()`; an empty tensor before it.

        In N2D2's sign, and summed over the batch as there: -batch * gradient of the mean loss.
        """
        if self._made is None:
            return Tensor.from_torch(torch.empty(0))
        values, logits = self._made
        return self._came_back(values if logits is None else logits)

    def get_diffoutputs(self, index: int = 0) -> Tensor:
        """What went back to the input, or to the `index`-th of several, as `get_diffinputs`; empty for data."""
        if not self._came:
            return Tensor.from_torch(torch.empty(0))
        return self._came_back(self._came[self._check_index(index)][0])

    def _came_back(self, values: torch.Tensor) -> Tensor:
        kept = values.requires_grad and (values.retains_grad or values.is_leaf)
        gradient = values.grad if kept else None
        return Tensor.from_torch(torch.empty(0) if gradient is None else -len(values) * gradient)

    def _check_index(self, index: int) -> int:
        if index not in range(len(self._came)):
            raise WrongValue(f"index={index!r} is illegal: {self.name!r} had {len(self._came)} inputs, from 0 on")
        return index

    def dims(self) -> list[int]:
        """The sizes of the last output in N2D2's order, [x, y, outputs, batch]; [] before the first."""
        return [] if self._made is None else list(self._made[0].shape[::-1])

    def get_nb_outputs(self) -> int:
        """How many outputs (channels) the cell has."""
        return int(self._last().shape[1])

    def get_nb_channels(self) -> int:
        """How many input channels the cell has."""
        self._last()
        return sum(values.shape[1] for values, _ in self._came)

    def _last(self) -> torch.Tensor:
        if self._made is None:
            raise WrongValue(f"{self.name!r} has had no n2d2.Tensor yet: its sizes are known after the first")
        return self._made[0]

    def get_input_cells(self) -> list[str]:
        """The names of what made the last inputs: cells, or the provider."""
        makers: list[Any] = [trace.cells[-1] if trace.cells else trace.provider for _, trace in self._came]
        return [maker.get_name() for maker in makers if hasattr(maker, "get_name")]

    def clear_input(self) -> None:
        """Forget the last call."""
        self.__dict__.update(_came=(), _made=None)

    clear_input_tensors = clear_input

    def get_deepnet(self) -> Any:  # noqa: ANN401 - a DeepNet
        """The graph of the last output; None before the first."""
        return None if self._made is None else self.get_outputs().get_deepnet()

    add_input = Refused(
        "call the cell with its inputs, cell(x) or cell([x, y]); what it is called with, it is linked to"
    )
    set_deepnet = Refused("a cell is in the graph of the tensors that it is called with")
