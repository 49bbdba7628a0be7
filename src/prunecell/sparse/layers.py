"""Layers with a compressed weight: ordinary modules for inference, whose buffers are the parts of the matrix.

Gradients flow to the input, and to the bias if it is thawed, not to the weight. `layer.weight` makes the dense weight
anew, for whoever asks; it cannot be written.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import OptionError, StateError
from prunecell.sparse.chain import Chain, chained
from prunecell.sparse.convolution_op import sparse_convolution
from prunecell.sparse.convolved import convolved
from prunecell.sparse.dense_weight import DenseWeight, dense_matrix, refuse_to_set
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.formats.format import Format
from prunecell.sparse.inputs import (
    COMPUTED,
    REAL,
    as_channels_last,
    check_channels,
    check_features,
    is_channels_last,
    result_dtype,
)
from prunecell.sparse.linear_op import sparse_linear
from prunecell.sparse.matrix import Compressed, Parts, check, matrix_of
from prunecell.sparse.quantised import quantised_shortly
from prunecell.sparse.quantised_op import quantised_linear
from prunecell.sparse.ready import Ready
from prunecell.sparse.route import LINEAR, RELU
from prunecell.sparse.values import INT8

ALONE, ALONE_WITH_RELU = (LINEAR,), (LINEAR, RELU)
_PARTS = ("starts", "indices", "values", "scales")
_FIXED = ("activations", "format", "in_features", "n_columns", "out_features", "weight_shape")
"""What was decided when a layer was made. What was made for calls does not look at it again."""


class SparseMatrix(nn.Module):
    """A compressed matrix as buffers: `starts`, `indices`, `values`, `scales` (matrix.py says what they are).

    A fifth, `format_code`, says in a state_dict how the columns are written; a layer becomes what is loaded into it.

    Attributes:
        dtype: of the inputs and outputs, until `half()`, `to(torch.bfloat16)` and the like change it. The matrix
            and the bias stay as they are stored, and the layer computes in float32.

    Args:
        matrix: checked before anything is made of it.
        weight_shape: the shape of the dense weight, (n_rows, ...).
        dtype: of the dense weight.

    Raises:
        StateError: the matrix would make a kernel read outside of it; also when a state_dict is loaded.
    """

    starts: Tensor
    indices: Tensor
    values: Tensor
    scales: Tensor | None
    format_code: Tensor
    format: Format
    activations = "fp32"  # how what is multiplied by the matrix is written; see SparseLinear

    def __init__(self, matrix: Compressed, weight_shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        check(matrix)
        self.n_columns = matrix.n_columns
        self.weight_shape = torch.Size(weight_shape)
        self.dtype = dtype
        for name in _PARTS:
            self.register_buffer(name, _counted(getattr(matrix, name)))
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
        """The dense weight (n_rows, ...), of the layer's dtype: made anew where its elements are asked for."""
        if torch.compiler.is_compiling():  # then it is a tensor of the program like others
            return self._dense_weight()
        return DenseWeight.of(self._dense_weight, self.weight_shape, self.dtype, self._buffers["starts"].device)  # type: ignore[union-attr]

    def _dense_weight(self) -> Tensor:
        return dense_matrix(*self.parts).view(self.weight_shape).to(self.dtype)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any attribute
        """Set an attribute; the weight is none.

        Raises:
            OptionError: it is the weight, or says what the matrix is.
        """
        if name == "weight":
            refuse_to_set(name)
        if name in _FIXED and name in vars(self):
            raise OptionError(f"{name} of a sparse layer cannot be set: it was decided when the layer was made")
        super().__setattr__(name, value)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401 - torch's
        """Take parts of other lengths too, but only as a whole and if they make a sound matrix."""
        if prefix + "weight" in state_dict:
            raise StateError(
                f"{prefix}weight is the weight of a dense layer, and the layer is sparse: load it into the dense model,"
                " before compact_"
            )
        if given := {name: state_dict[prefix + name] for name in _PARTS if prefix + name in state_dict}:
            self._become(given, state_dict.get(prefix + "format_code"), prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _become(self, given: Mapping[str, Any], format_code: object, prefix: str) -> None:
        """Become the matrix of these parts, at once, as other threads may call the layer; our own serve for the rest.

        Raises:
            StateError: they are not sound, or of another number of rows.
        """
        is_whole = all(name in given for name in _PARTS[:3])
        parts: dict[str, Any] = dict.fromkeys(_PARTS) if is_whole else {name: self._buffers[name] for name in _PARTS}
        for name, part in given.items():
            if not (isinstance(part, Tensor) or (part is None and name == "scales")):
                raise StateError(f"{prefix}starts, indices, values and scales must be tensors")
            parts[name] = None if part is None else _counted(part.detach().to(self.starts.device, copy=True))
        n_rows, n_given = len(self.starts) - 1, parts["starts"].numel() - 1
        if n_given != n_rows:
            raise StateError(f"{prefix}starts are of {n_given} rows, the layer has {n_rows}")
        loaded = _format_of(format_code, self.format)
        check(matrix_of(**parts, n_columns=self.n_columns, format=loaded.name))
        vars(self).update(format=loaded, _buffers={**self._buffers, **parts})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        """Go to other devices; `half()`, `double()` and the like do not change how the matrix is stored.

        Raises:
            OptionError: the layer would no longer compute real numbers.
        """
        before, bias = dict(self._buffers), self._parameters.get("bias")
        values_of_bias = None if bias is None else bias.data
        dtype = fn(torch.empty(0, dtype=self.dtype, device=self.starts.device)).dtype
        if dtype not in REAL:
            raise OptionError(f"a sparse layer cannot become {dtype}: it computes real numbers")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's
        self.dtype = dtype
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        bias = self._parameters.get("bias")
        if bias is not None and values_of_bias is not None and bias.dtype != values_of_bias.dtype:
            bias.data = values_of_bias.to(bias.device)
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


def _counted(part: Tensor | None) -> Tensor | None:
    """A part whose changes torch counts, which it does not for one that was made under inference mode."""
    if part is None or not part.is_inference():
        return part
    with torch.inference_mode(mode=False):
        return part.clone()


def _parameter(bias: Tensor) -> nn.Parameter:
    """A bias as a kernel reads it, and frozen."""
    return nn.Parameter(bias.detach().contiguous(), requires_grad=False)


def _in_float32(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float32 else x.float()


def _operand(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An input as an operator takes it, whose result has its dtype: float32 where that would be rounded twice."""
    return x if x.dtype is dtype and dtype in COMPUTED else _in_float32(x)


class SparseLinear(SparseMatrix):
    """`nn.Linear` with a compressed weight: y = x W^T + bias.

    Args:
        matrix: of the weight.
        bias: (out_features,) or None.
        dtype: of the dense weight.
        activations: "fp32"; or "int8": each sample is quantised by itself, and multiplied by int8 values
            (quantised_op.py).

    >>> from prunecell.sparse.compress import compress
    >>> dense = nn.Linear(8, 4)
    >>> x = torch.randn(2, 3, 8)
    >>> torch.allclose(SparseLinear(compress(dense.weight), dense.bias)(x), dense(x), atol=1e-6)
    True
    """

    bias: nn.Parameter | None

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: without what was made for calls."""
        return {**super().__getstate__(), "_chains": {}, "_ready": None}

    def __init__(
        self,
        matrix: Compressed,
        bias: Tensor | None,
        *,
        dtype: torch.dtype = torch.float32,
        activations: str = "fp32",
    ) -> None:
        super().__init__(matrix, (matrix.n_rows, matrix.n_columns), dtype)
        self.activations = activations
        self.in_features, self.out_features = matrix.n_columns, matrix.n_rows
        self._chains: dict[int, Chain] = {}
        self._ready: Ready | None = None
        self.register_parameter("bias", None if bias is None else _parameter(bias))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), of the dtype of x; computed in float32."""
        return self.computed(x)

    def computed(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The same, joined with what comes after the layer.

        Args:
            x: as for `forward`.
            relu: take max(0, .) of the result.

        Raises:
            OptionError: x has another dtype, device or number of features than the layer.
        """
        if self.activations == INT8.name:
            if (y := quantised_shortly(self, x, relu=relu)) is not None:
                return y
        elif (found := chained((self,), ALONE_WITH_RELU if relu else ALONE, x)) is not None:
            return found[0]
        dtype = result_dtype(x, self.dtype)
        if x.ndim != 2:  # noqa: PLR2004 - samples, features
            check_features(x, self.n_columns)
            flat = x.unsqueeze(0) if x.ndim == 1 else x.flatten(0, -2)
            return self.computed(flat, relu=relu).reshape(*x.shape[:-1], self.out_features)
        if self.activations == INT8.name:
            y = quantised_linear(_in_float32(x), *self.parts, self.bias, relu)
        else:
            y = sparse_linear(_operand(x, dtype), *self.parts, self.bias, relu)
        return y if y.dtype is dtype else y.to(dtype)

    def in_float32(self, x: Tensor) -> Tensor:
        """(samples, in_features) -> (samples, out_features), both float32, whatever the dtype of the layer is."""
        operator, relu = quantised_linear if self.activations == INT8.name else sparse_linear, False
        return operator(x, *self.parts, self.bias, relu)

    def _become(self, given: Mapping[str, Any], format_code: object, prefix: str) -> None:
        """See SparseMatrix."""
        values = given.get("values")
        if self.activations == INT8.name and isinstance(values, Tensor) and values.dtype != INT8.dtype:
            raise StateError(f"{prefix}values are {values.dtype}: a layer with int8 activations has int8 values")
        super()._become(given, format_code, prefix)

    def extra_repr(self) -> str:
        """Of activations too, where they are quantised."""
        return super().extra_repr() + (f", {self.activations} activations" if self.activations == INT8.name else "")


class SparseConvolution(SparseMatrix):
    """`nn.Conv1d`, `2d` or `3d` with a compressed weight; the options are those of the dense layer.

    Args:
        matrix: a row for every output channel.
        bias: (out_channels,) or None.
        dense: the layer whose options are taken.
    """

    bias: nn.Parameter | None

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: without what was made for calls."""
        return {**super().__getstate__(), "_ready": None, "_chains": {}}

    def __init__(self, matrix: Compressed, bias: Tensor | None, dense: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__(matrix, dense.weight.shape, dense.weight.dtype)
        self.in_channels, self.out_channels, self.groups = dense.in_channels, dense.out_channels, dense.groups
        self.kernel_size, self.stride, self.dilation = dense.kernel_size, dense.stride, dense.dilation
        self.padding, self.padding_mode = dense.padding, dense.padding_mode
        self.transposed, self.output_padding = dense.transposed, dense.output_padding
        self._padding_around: list[int] = list(dense._reversed_padding_repeated_twice)  # noqa: SLF001 - as F.pad has it
        self.channels_last = is_channels_last(dense.weight)
        self._ready: Ready | None = None
        self._chains: dict[int, Chain] = {}
        self.register_parameter("bias", None if bias is None else _parameter(bias))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, *size) or one sample without the batch -> the same with out_channels; as for linear."""
        return self.computed(x)

    def computed(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The same, joined with what comes after the layer.

        Args:
            x: as for `forward`.
            relu: take max(0, .) of the result.

        Raises:
            OptionError: x has another dtype, device, number of channels or of axes than the layer, or is too small.
        """
        dtype = result_dtype(x, self.dtype)
        n_axes = len(self.kernel_size)
        if x.ndim != n_axes + 2:
            check_channels(x, self.in_channels, n_axes)
            return self.computed(x.unsqueeze(0), relu=relu).squeeze(0)
        around, kernel = self.kernel()
        if around:
            check_channels(x, self.in_channels, n_axes)
            x = F.pad(x, around, "constant" if self.padding_mode == "zeros" else self.padding_mode)
        if not self.channels_last and (y := convolved(self, x, kernel, relu=relu)) is not None:
            return y
        y = sparse_convolution(_operand(x, dtype), *self.parts, self.bias, *kernel, relu)
        if y.dtype is not dtype:
            y = y.to(dtype)
        return as_channels_last(y) if self.channels_last or is_channels_last(x) else y

    def kernel(self) -> tuple[list[int], tuple[list[int], list[int], list[int], list[int], int]]:
        """What is added around the input, as F.pad takes it; then kernel size, stride, padding, dilation and groups."""
        inside, around = self._paddings()
        return around, (list(self.kernel_size), list(self.stride), inside, list(self.dilation), self.groups)

    def _paddings(self) -> tuple[list[int], list[int]]:
        """Zeros on both sides of each axis that the operator adds, and what is added before it, as F.pad takes it."""
        if self.padding_mode != "zeros":
            return [0] * len(self.kernel_size), self._padding_around
        if not isinstance(self.padding, str):
            return list(self.padding), []
        low, high = self._padding_around[::2][::-1], self._padding_around[1::2][::-1]  # what "same" comes to
        return (low, []) if low == high else ([0] * len(low), self._padding_around)
