"""Which dense layer becomes which sparse one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from prunecell.sparse.attention import SparseMultiheadAttention
from prunecell.sparse.choose import ATTENTION
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.matrix import Compressed, rows_between
from prunecell.sparse.plain import why_not_plain
from prunecell.sparse.recurrent import SparseLSTM

Rows = tuple[int, int]


class Run(Protocol):
    """The conversion of a model, as a converter of one layer sees it."""

    def matrix(self, kind: str, weight: Tensor, *, quantises: bool = False) -> Compressed | None:
        """A weight compressed; None where it stays dense. `quantises`: the layer can have int8 activations."""
        ...

    def activations(self, weight: Tensor) -> str:
        """How the activations of a compressed weight are written."""
        ...

    def layer(self, matrix: Compressed | None, weight: Tensor, rows: Rows, bias: Tensor | None) -> nn.Module:
        """Some rows of a weight as a layer of their own, sparse or dense."""
        ...

    def dense(self, tensor: Tensor) -> Tensor:
        """A tensor of the model as it is to be."""
        ...

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """A bias of the model as it is to be, if there is one; frozen if it is frozen in the model."""
        ...


def _linear(run: Run, dense: nn.Linear) -> nn.Module:
    matrix = run.matrix("linear", dense.weight, quantises=True)
    if matrix is None:
        return dense
    activations = run.activations(dense.weight)
    return SparseLinear(matrix, run.bias(dense.bias), dtype=dense.weight.dtype, activations=activations)


def _convolution(run: Run, dense: nn.Conv2d) -> nn.Module:
    strided = "strided " * (math.prod(dense.stride) > 1)
    matrix = run.matrix(f"{strided}pointwise" if math.prod(dense.kernel_size) == 1 else "convolution", dense.weight)
    if matrix is None:
        return dense
    return SparseConvolution(matrix, run.bias(dense.bias), dense)


def _lstm(run: Run, dense: nn.LSTM) -> nn.Module:
    weights = {name: w for name, w in dense.named_parameters() if name.startswith("weight")}
    matrices = {name: run.matrix("linear", weight) for name, weight in weights.items()}
    if not any(matrices.values()):
        return dense
    layers = {
        name: run.layer(matrices[name], w, (0, len(w)), run.bias(getattr(dense, name.replace("weight", "bias"), None)))
        for name, w in weights.items()
    }
    return SparseLSTM(dense, layers)


def _attention(run: Run, dense: nn.MultiheadAttention) -> nn.Module:
    size = dense.embed_dim
    if dense.in_proj_weight is not None:
        places = [(dense.in_proj_weight, (i * size, (i + 1) * size)) for i in range(3)]
    else:
        places = [(w, (0, size)) for w in (dense.q_proj_weight, dense.k_proj_weight, dense.v_proj_weight)]
    matrices = [(m := run.matrix(ATTENTION, weight)) and rows_between(m, *rows) for weight, rows in places]
    output = run.matrix(ATTENTION, dense.out_proj.weight)
    if not any((*matrices, output)):
        return dense
    biases: list[Tensor | None] = [None] * 3
    if (bias := run.bias(dense.in_proj_bias)) is not None:
        biases = [nn.Parameter(third, bias.requires_grad) for third in bias.detach().view(3, size).clone()]
    query, key, value = (
        run.layer(matrix, weight, rows, third)
        for matrix, (weight, rows), third in zip(matrices, places, biases, strict=True)
    )
    last = run.layer(output, dense.out_proj.weight, (0, size), run.bias(dense.out_proj.bias))
    return SparseMultiheadAttention(dense, query=query, key=key, value=value, output=last)


# ---- fresh layers with the options of another, with which it is compared ---------------------------------------------


def _fresh_linear(like: nn.Linear) -> nn.Linear:
    return nn.Linear(like.in_features, like.out_features, bias=like.bias is not None, device="meta")


def _fresh_convolution(like: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> nn.Module:
    kind: Any = next(kind for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(like, kind))
    fresh: nn.Module = kind(
        like.in_channels,
        like.out_channels,
        like.kernel_size,
        groups=like.groups,
        bias=like.bias is not None,
        device="meta",
    )
    return fresh


def _fresh_lstm(like: nn.LSTM) -> nn.LSTM:
    return nn.LSTM(
        like.input_size,
        like.hidden_size,
        like.num_layers,
        bias=like.bias,
        bidirectional=like.bidirectional,
        proj_size=like.proj_size,
        device="meta",
    )


def _fresh_attention(like: nn.MultiheadAttention) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(
        like.embed_dim,
        like.num_heads,
        bias=like.in_proj_bias is not None,
        add_bias_kv=like.bias_k is not None,
        kdim=like.kdim,
        vdim=like.vdim,
        device="meta",
    )


def _why_attention_stays(dense: nn.MultiheadAttention) -> str:
    for name in ("bias_k", "bias_v"):
        if getattr(dense, name) is not None:
            return f"MultiheadAttention with {name} has no sparse form"
    if dense.add_zero_attn:
        return "MultiheadAttention with add_zero_attn has no sparse form"
    reason = why_not_plain(dense.out_proj, nn.Linear, _fresh_linear)
    return reason and f"out_proj: {reason}"


def _kept(_run: Run, dense: nn.Linear) -> nn.Module:
    """The output of a dense MultiheadAttention, which reads its weight and does not call it."""
    return dense


def _nothing_more(_dense: nn.Module) -> str:
    return ""


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How layers of one kind become sparse.

    Attributes:
        convert: makes the sparse layer; gives the dense one back where nothing of it becomes sparse.
        fresh: makes a dense layer with the options of another, on the meta device. One that has more than a fresh one
            stays dense.
        why_dense: says what else keeps a layer dense; the empty text where nothing does.
    """

    convert: Callable[[Run, Any], nn.Module]
    fresh: Callable[[Any], nn.Module]
    why_dense: Callable[[Any], str] = _nothing_more


_CONVOLUTION = Converter(convert=_convolution, fresh=_fresh_convolution)

CONVERTERS: dict[type[nn.Module], Converter] = {
    nn.Linear: Converter(convert=_linear, fresh=_fresh_linear),
    NonDynamicallyQuantizableLinear: Converter(convert=_kept, fresh=_fresh_linear),
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
    nn.LSTM: Converter(convert=_lstm, fresh=_fresh_lstm),
    nn.MultiheadAttention: Converter(convert=_attention, fresh=_fresh_attention, why_dense=_why_attention_stays),
}
"""Type of a dense layer -> how it becomes sparse. To add one: a converter, a line here, a law in the tests."""


def converter(module: nn.Module) -> Callable[[Run, Any], nn.Module] | None:
    """What converts this module; None for those of which `why_dense` says why."""
    return None if why_dense(module) else CONVERTERS[_kind(module)].convert  # type: ignore[index] # it has a kind


def why_dense(module: nn.Module) -> str:
    """Say why a module stays as it is, whatever its weights are; the empty text where it may become sparse.

    >>> why_dense(nn.GRU(4, 4))
    'GRU has no sparse form'
    >>> why_dense(nn.LSTM(4, 4))
    ''
    """
    kind = _kind(module)
    if kind is None:
        return f"{type(module).__name__} has no sparse form"
    return why_not_plain(module, kind, CONVERTERS[kind].fresh) or CONVERTERS[kind].why_dense(module)


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """The nearest class of the module that is in the table."""
    return next((cls for cls in type(module).__mro__ if cls in CONVERTERS), None)
