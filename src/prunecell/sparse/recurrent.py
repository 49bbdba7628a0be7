"""nn.LSTM with compressed weights."""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

State = tuple[Tensor, Tensor]


class SparseLSTM(nn.Module):
    """`nn.LSTM` whose matrices are layers of their own, sparse or dense: `matrices["weight_ih_l0"]` and so on.

    It is called as nn.LSTM is: padded (batch_first or not), unbatched, or with a PackedSequence.

    Args:
        dense: the layer whose options are taken.
        matrices: "weight_ih_l0" and so on, as nn.LSTM names its weights -> the layer in its place.
    """

    def __init__(self, dense: nn.LSTM, matrices: dict[str, nn.Module]) -> None:
        super().__init__()
        self.hidden_size, self.proj_size, self.num_layers = dense.hidden_size, dense.proj_size, dense.num_layers
        self.batch_first, self.bidirectional, self.dropout = dense.batch_first, dense.bidirectional, dense.dropout
        self.matrices = nn.ModuleDict(matrices)

    def forward(self, x: Tensor | PackedSequence, state: State | None = None) -> tuple[Any, State]:
        """As nn.LSTM: (output, (last hidden, last cell))."""
        if isinstance(x, PackedSequence):
            if state is not None and x.sorted_indices is not None:
                state = state[0][:, x.sorted_indices], state[1][:, x.sorted_indices]
            y, last = self._packed(x.data, x.batch_sizes.tolist(), state)
            packed = PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
            unsort = x.unsorted_indices
            return packed, last if unsort is None else (last[0][:, unsort], last[1][:, unsort])
        single = x.ndim == 2  # noqa: PLR2004 - (time, features)
        if single:
            x, state = x.unsqueeze(1), state and (state[0].unsqueeze(1), state[1].unsqueeze(1))
        elif self.batch_first:
            x = x.transpose(0, 1)
        n_times, n_samples = x.shape[:2]
        y, last = self._packed(x.reshape(n_times * n_samples, -1), [n_samples] * n_times, state)
        y = y.view(n_times, n_samples, -1)
        if single:
            return y.squeeze(1), (last[0].squeeze(1), last[1].squeeze(1))
        return (y.transpose(0, 1) if self.batch_first else y), last

    def _packed(self, data: Tensor, sizes: list[int], state: State | None) -> tuple[Tensor, State]:
        """Run over steps that lie one after the other in `data`, the first with sizes[0] samples, then never more."""
        directions = ["", "_reverse"] if self.bidirectional else [""]
        hidden, cells = [], []
        for layer in range(self.num_layers):
            outputs = []
            for i, direction in enumerate(directions):
                first = state and tuple(s[layer * len(directions) + i] for s in state)
                y, h, c = self._direction(data, sizes, first, f"_l{layer}{direction}")
                outputs.append(y)
                hidden.append(h)
                cells.append(c)
            data = torch.cat(outputs, 1)
            if layer + 1 < self.num_layers:
                data = nn.functional.dropout(data, self.dropout, self.training)
        return data, (torch.stack(hidden), torch.stack(cells))

    def _direction(
        self, data: Tensor, sizes: list[int], first: tuple[Tensor, ...] | None, suffix: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer in one direction: its outputs in the order of `data`, its last hidden values and cells."""
        matrices = self.matrices
        gates_of_inputs = matrices[f"weight_ih{suffix}"](data)
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
            gates = gates_of_inputs[ends[time] - n : ends[time]] + matrices[f"weight_hh{suffix}"](hidden[:n])
            i, f, g, o = gates.chunk(4, 1)
            now = f.sigmoid() * cell[:n] + i.sigmoid() * g.tanh()
            out = o.sigmoid() * now.tanh()
            if self.proj_size:
                out = matrices[f"weight_hr{suffix}"](out)
            hidden, cell = torch.cat([out, hidden[n:]]), torch.cat([now, cell[n:]])
            outputs[time] = out
        return torch.cat(outputs), hidden, cell
