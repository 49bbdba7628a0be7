"""Layers with a compressed weight: ordinary modules for inference, whose buffers are the parts of the matrix.

Gradients flow to the input, not to the weight. `layer.weight` makes the dense weight anew, for whoever asks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import StateError
from prunecell.sparse.convolution_op import sparse_convolution
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.formats.format import Format
from prunecell.sparse.linear_op import sparse_linear
from prunecell.sparse.matrix import Compressed, Parts, check, decompress, matrix_of

_PARTS = ("starts", "indices", "values", "scales")


class SparseMatrix(nn.Module):
    """A compressed matrix as buffers: `starts`, `indices`, `values`, `scales` (matrix.py says what they are).

    A fifth, `format_code`, says in a state_dict how the columns are written; a layer becomes what is loaded into it.

    Args:
        matrix: checked before anything is made of it.
        weight_shape: the shape of the dense weight, (n_rows, ...).

    Raises:
        StateError: the matrix would make a kernel read outside of it; also when a state_dict is loaded.
    """

    starts: Tensor
    indices: Tensor
    values: Tensor
    scales: Tensor | None
    format_code: Tensor
    format: Format

    def __init__(self, matrix: Compressed, weight_shape: Sequence[int]) -> None:
        super().__init__()
        check(matrix)
        self.n_columns = matrix.n_columns
        self.weight_shape = torch.Size(weight_shape)
        for name in _PARTS:
            self.register_buffer(name, getattr(matrix, name))
        self.format = matrix.format
        self.register_buffer("format_code", torch.tensor(matrix.format.code, dtype=torch.uint8))

    @property
    def matrix(self) -> Compressed:
        """The matrix that the buffers are."""
        return matrix_of(*self.parts)

    @property
    def parts(self) -> Parts:
        """The matrix as the operators take it."""
        parts = self._buffers  # directly: attributes of a module take their time
        return parts["starts"], parts["indices"], parts["values"], parts["scales"], self.n_columns, self.format.name  # type: ignore[return-value]

    @property
    def weight(self) -> Tensor:
        """The dense weight, made anew at each call, float32 (n_rows, ...)."""
        return decompress(self.matrix).view(self.weight_shape)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401 - torch's
        """Take parts of other lengths too, but only as a whole and if they make a sound matrix."""
        if any(prefix + name in state_dict for name in _PARTS):
            whole = all(prefix + name in state_dict for name in _PARTS[:3])
            own = (
                dict.fromkeys(_PARTS) if whole else self._buffers
            )  # where only some are given, ours serve for the rest
            parts: list[Any] = [state_dict.get(prefix + name, own[name]) for name in _PARTS]
            starts, indices, values, scales = parts
            if not all(
                isinstance(part, Tensor) for part in (starts, indices, values, *([] if scales is None else [scales]))
            ):
                raise StateError(f"{prefix}starts, indices, values and scales must be tensors")
            if len(starts) != len(self.starts):
                raise StateError(f"{prefix}starts are of {len(starts) - 1} rows, the layer has {len(self.starts) - 1}")
            loaded = _format_of(state_dict.get(prefix + "format_code"), self.format)
            check(matrix_of(starts, indices, values, scales, self.n_columns, loaded.name))
            self.format = loaded
            for name, part in zip(_PARTS, parts, strict=True):
                setattr(self, name, None if part is None else torch.empty_like(part, device=self.starts.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        """Go to other devices; `half()`, `double()` and the like do not change how the matrix is stored."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled; torch cannot pickle uint16, so such indices travel as int16."""
        buffers = {
            n: b.view(torch.int16) if b is not None and b.dtype == torch.uint16 else b for n, b in self._buffers.items()
        }
        return {**self.__dict__, "_buffers": buffers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo `__getstate__`."""
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch's
        if self.indices.dtype == torch.int16:
            self.indices = self.indices.view(torch.uint16)

    def extra_repr(self) -> str:
        """Format, values and density."""
        matrix = self.matrix
        n_weights = max(self.weight_shape.numel(), 1)
        dtype = str(matrix.values.dtype).removeprefix("torch.")
        shape = " x ".join(map(str, self.weight_shape))
        return f"{shape}, {matrix.format.name}, {dtype}, density {len(matrix.values) / n_weights:.1%}"


def _format_of(code: object, otherwise: Format) -> Format:
    """The format that a state_dict names; `otherwise` where it names none.

    Raises:
        StateError: there is no format of this code.
    """
    if not isinstance(code, Tensor):
        return otherwise
    known = {format.code: format for format in FORMATS.values()}  # noqa: A001 - what it is
    if code.numel() != 1 or int(code) not in known:
        raise StateError(f"format_code={code.tolist()} is illegal: the formats are {', '.join(FORMATS)}")
    return known[int(code)]


class SparseLinear(SparseMatrix):
    """`nn.Linear` with a compressed weight: y = x W^T + bias, then max(0, y) where `relu` says so.

    Attributes:
        relu: whether a following ReLU is done here.
        feature_major: whether the output lies features first in memory, as the next sparse layer reads it without a
            copy. Its shape is the same.

    >>> from prunecell.sparse.compress import compress
    >>> dense = nn.Linear(8, 4)
    >>> x = torch.randn(2, 3, 8)
    >>> torch.allclose(SparseLinear(compress(dense.weight), dense.bias)(x), dense(x), atol=1e-6)
    True
    """

    bias: Tensor | None

    def __init__(self, matrix: Compressed, bias: Tensor | None, *, relu: bool = False) -> None:
        super().__init__(matrix, (matrix.n_rows, matrix.n_columns))
        self.in_features, self.out_features = matrix.n_columns, matrix.n_rows
        self.relu, self.feature_major = relu, False
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), of the dtype of x; computed in float32."""
        if x.dtype != torch.float32:
            return self.forward(x.float()).to(x.dtype)
        flat = x if x.ndim == 2 else x.reshape(-1, self.in_features)  # noqa: PLR2004 - samples, features
        y = sparse_linear(flat, *self.parts, self._buffers["bias"], self.relu, self.feature_major)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.out_features)  # noqa: PLR2004


class SparseConvolution(SparseMatrix):
    """`nn.Conv1d`, `2d` or `3d` with a compressed weight; the options are those of the dense layer.

    Args:
        matrix: a row for every output channel.
        bias: (out_channels,) or None.
        dense: the layer whose options are taken.
    """

    bias: Tensor | None

    def __init__(self, matrix: Compressed, bias: Tensor | None, dense: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        in_channels = dense.in_channels // dense.groups
        super().__init__(matrix, (dense.out_channels, in_channels, *dense.kernel_size))
        self.in_channels, self.out_channels, self.groups = dense.in_channels, dense.out_channels, dense.groups
        self.kernel_size, self.stride, self.dilation = map(list, (dense.kernel_size, dense.stride, dense.dilation))
        both_sides: list[int] = list(dense._reversed_padding_repeated_twice)  # noqa: SLF001 - has "same" worked out
        low, high = both_sides[::2][::-1], both_sides[1::2][::-1]
        inside = dense.padding_mode == "zeros" and low == high
        self.padding = low if inside else [0] * len(low)
        self.pad_before = None if inside else both_sides
        self.padding_mode = "constant" if dense.padding_mode == "zeros" else dense.padding_mode
        self.relu = False
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, *size) or one sample without the batch -> the same with out_channels; as for linear."""
        if x.dtype != torch.float32:
            return self.forward(x.float()).to(x.dtype)
        batched = x if x.ndim == len(self.kernel_size) + 2 else x.unsqueeze(0)
        if self.pad_before is not None:
            batched = F.pad(batched, self.pad_before, self.padding_mode)
        kernel = self.kernel_size, self.stride, self.padding, self.dilation
        y = sparse_convolution(batched, *self.parts, self.bias, *kernel, self.groups, self.relu)
        return y if x.ndim == batched.ndim else y.squeeze(0)
