"""nn.LSTM with compressed weights."""

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunecell.errors import OptionError
from prunecell.sparse.dense_weight import refuse_to_set
from prunecell.sparse.inputs import HALVES, check_features, may_autocast
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.plain import has_hooks

State = tuple[Tensor, Tensor]

Products = Mapping[str, Callable[[Tensor], Tensor]]
"""The name of each weight -> what multiplies by it."""


class SparseLSTM(nn.Module):
    """`nn.LSTM` whose matrices are layers of their own, sparse or dense: `matrices["weight_ih_l0"]` and so on.

    It is called as nn.LSTM is: padded (batch_first or not), unbatched, or with a PackedSequence. Its dense weights can
    be read by the names that they have there (`weight_ih_l0` and so on), as those of a sparse layer can.

    Args:
        dense: the layer whose options are taken.
        matrices: "weight_ih_l0" and so on, as nn.LSTM names its weights -> the layer in its place.
    """

    def __init__(self, dense: nn.LSTM, matrices: dict[str, nn.Module]) -> None:
        super().__init__()
        self.mode, self.input_size, self.bias = dense.mode, dense.input_size, dense.bias
        self.hidden_size, self.proj_size, self.num_layers = dense.hidden_size, dense.proj_size, dense.num_layers
        self.batch_first, self.bidirectional, self.dropout = dense.batch_first, dense.bidirectional, dense.dropout
        self.matrices = nn.ModuleDict(matrices)

    def forward(self, x: Tensor | PackedSequence, state: State | None = None) -> tuple[Any, State]:
        """As nn.LSTM: (output, (last hidden, last cell)).

        Raises:
            OptionError: the shapes or dtypes of the input and the states do not fit the layer or each other.
        """
        if isinstance(x, PackedSequence):
            check_features(x.data, self.input_size)
            self._check_state(state, x.data, (int(x.batch_sizes[0]),))
            if state is not None and x.sorted_indices is not None:
                state = state[0][:, x.sorted_indices], state[1][:, x.sorted_indices]
            y, last = self._packed(x.data, x.batch_sizes.tolist(), state)
            packed = PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
            unsort = x.unsorted_indices
            return packed, last if unsort is None else (last[0][:, unsort], last[1][:, unsort])
        single = x.ndim == 2  # noqa: PLR2004 - (time, features)
        if x.ndim not in {2, 3}:
            raise OptionError(f"x must have 2 or 3 dimensions, not the shape {tuple(x.shape)}")
        check_features(x, self.input_size)
        self._check_state(state, x, () if single else (x.shape[0 if self.batch_first else 1],))
        if single:
            x, state = x.unsqueeze(1), state and (state[0].unsqueeze(1), state[1].unsqueeze(1))
        elif self.batch_first:
            x = x.transpose(0, 1)
        n_times, n_samples = x.shape[:2]
        if n_times == 0:
            raise OptionError("x must have one time step or more")
        y, last = self._packed(x.flatten(0, 1), [n_samples] * n_times, state)
        y = y.reshape(n_times, n_samples, y.shape[1])
        if single:
            return y.squeeze(1), (last[0].squeeze(1), last[1].squeeze(1))
        return (y.transpose(0, 1) if self.batch_first else y), last

    def _check_state(self, state: State | None, x: Tensor, samples: tuple[int, ...]) -> None:
        """Refuse states that are no (layers x directions, *samples, features) of the dtype of x."""
        if state is None:
            return
        if len(state) != 2:  # noqa: PLR2004 - hidden, cell
            raise OptionError(f"the state must be a pair, h_0 and c_0, not {len(state)} tensors")
        n_layers = self.num_layers * (2 if self.bidirectional else 1)
        for name, given, size in zip(
            ("h_0", "c_0"), state, (self.proj_size or self.hidden_size, self.hidden_size), strict=True
        ):
            if given.shape != (n_layers, *samples, size):
                raise OptionError(f"{name} must have the shape {(n_layers, *samples, size)}, not {tuple(given.shape)}")
            if given.dtype != x.dtype:
                raise OptionError(f"{name} must be {x.dtype} as x is, not {given.dtype}")

    def flatten_parameters(self) -> None:
        """Do nothing: for programs that call it on nn.LSTM, where it puts the weights in one piece of memory."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - torch's
        """The weights and biases too, by their names in nn.LSTM."""
        kind, _, rest = name.partition("_")
        matrices = self._modules.get("matrices") if kind in {"weight", "bias"} else None
        if isinstance(matrices, nn.ModuleDict) and f"weight_{rest}" in matrices:
            found = getattr(matrices[f"weight_{rest}"], kind)
            if found is not None:
                return found
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any attribute
        """Set an attribute; the weights and biases are none.

        Raises:
            OptionError: it is a weight or bias.
        """
        if name.startswith(("weight_", "bias_")):
            refuse_to_set(name)
        super().__setattr__(name, value)

    def _packed(self, data: Tensor, sizes: list[int], state: State | None) -> tuple[Tensor, State]:
        """Run over steps that lie one after the other in `data`, the first with sizes[0] samples, then never more.

        What is computed of halves is float32 from the first product to the last, and is rounded once.
        """
        dtype, matrices = data.dtype, dict(self.matrices.items())
        if dtype in HALVES and not may_autocast():
            products = {name: _in_float32(layer, dtype) for name, layer in matrices.items()}
            y, last = self._layers(products, data.float(), sizes, state and (state[0].float(), state[1].float()))
            return y.to(dtype), (last[0].to(dtype), last[1].to(dtype))
        return self._layers(matrices, data, sizes, state)

    def _layers(self, products: Products, data: Tensor, sizes: list[int], state: State | None) -> tuple[Tensor, State]:
        directions = ["", "_reverse"] if self.bidirectional else [""]
        hidden, cells = [], []
        for layer in range(self.num_layers):
            outputs = []
            for i, direction in enumerate(directions):
                first = state and tuple(s[layer * len(directions) + i] for s in state)
                y, h, c = self._direction(products, data, sizes, first, f"_l{layer}{direction}")
                outputs.append(y)
                hidden.append(h)
                cells.append(c)
            data = torch.cat(outputs, 1)
            if layer + 1 < self.num_layers:
                data = nn.functional.dropout(data, self.dropout, self.training)
        return data, (torch.stack(hidden), torch.stack(cells))

    def _direction(
        self, products: Products, data: Tensor, sizes: list[int], first: tuple[Tensor, ...] | None, suffix: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer in one direction: its outputs in the order of `data`, its last hidden values and cells."""
        gates_of_inputs = products[f"weight_ih{suffix}"](data)
        if first is None:
            hidden = data.new_zeros(sizes[0], self.proj_size or self.hidden_size)
            cell = data.new_zeros(sizes[0], self.hidden_size)
        else:
            hidden, cell = first[0].clone(), first[1].clone()
        ends = list(accumulate(sizes))
        outputs: list[Tensor] = [data] * len(sizes)
        times = range(len(sizes) - 1, -1, -1) if suffix.endswith("reverse") else range(len(sizes))
        for time in times:
            n = sizes[time]
            gates = gates_of_inputs[ends[time] - n : ends[time]] + products[f"weight_hh{suffix}"](hidden[:n])
            i, f, g, o = gates.chunk(4, 1)
            now = f.sigmoid() * cell[:n] + i.sigmoid() * g.tanh()
            out = o.sigmoid() * now.tanh()
            if self.proj_size:
                out = products[f"weight_hr{suffix}"](out)
            hidden, cell = torch.cat([out, hidden[n:]]), torch.cat([now, cell[n:]])
            outputs[time] = out
        return torch.cat(outputs), hidden, cell


def _in_float32(layer: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """What multiplies float32 numbers by the matrix of a layer of halves; the result of a dense layer is rounded."""
    if isinstance(layer, SparseLinear) and layer.dtype is dtype and not has_hooks(layer):
        return layer.in_float32

    def through_halves(x: Tensor) -> Tensor:
        y: Tensor = layer(x.to(dtype))
        return y.float()

    return through_halves
