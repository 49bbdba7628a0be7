"""Which dense layer becomes which sparse one."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from prunecell.sparse.attention import SparseMultiheadAttention
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.matrix import Compressed, rows_between
from prunecell.sparse.recurrent import SparseLSTM

Rows = tuple[int, int]


class Run(Protocol):
    """The conversion of a model, as a converter of one layer sees it."""

    def matrix(self, kind: str, weight: Tensor) -> Compressed | None:
        """A weight compressed; None where it stays dense."""
        ...

    def layer(self, matrix: Compressed | None, weight: Tensor, rows: Rows, bias: Tensor | None) -> nn.Module:
        """Some rows of a weight as a layer of their own, sparse or dense."""
        ...

    def dense(self, tensor: Tensor) -> Tensor:
        """A tensor of the model as it is to be."""
        ...

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """A bias of the model as it is to be, if there is one."""
        ...


def _linear(run: Run, dense: nn.Linear) -> nn.Module:
    matrix = run.matrix("linear", dense.weight)
    if matrix is None:
        return dense
    return SparseLinear(matrix, run.bias(dense.bias))


def _convolution(run: Run, dense: nn.Conv2d) -> nn.Module:
    matrix = run.matrix("pointwise" if math.prod(dense.kernel_size) == 1 else "convolution", dense.weight)
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
    if dense.bias_k is not None or dense.add_zero_attn:
        return dense
    if dense.in_proj_weight is not None:
        places = [(dense.in_proj_weight, (i * size, (i + 1) * size)) for i in range(3)]
    else:
        places = [(w, (0, size)) for w in (dense.q_proj_weight, dense.k_proj_weight, dense.v_proj_weight)]
    matrices = [(m := run.matrix("linear", weight)) and rows_between(m, *rows) for weight, rows in places]
    output = run.matrix("linear", dense.out_proj.weight)
    if not any((*matrices, output)):
        return dense
    biases = [None] * 3 if dense.in_proj_bias is None else run.dense(dense.in_proj_bias).view(3, size).clone().unbind()
    query, key, value = (
        run.layer(matrix, weight, rows, bias)
        for matrix, (weight, rows), bias in zip(matrices, places, biases, strict=True)
    )
    last = run.layer(output, dense.out_proj.weight, (0, size), run.bias(dense.out_proj.bias))
    return SparseMultiheadAttention(dense, query=query, key=key, value=value, output=last)


CONVERTERS: dict[type[nn.Module], Callable[[Run, Any], nn.Module]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.LSTM: _lstm,
    nn.MultiheadAttention: _attention,
}
"""Type of a dense layer -> what makes the sparse one. To add one: a function, a line here, a law in the tests."""


def converter(module: nn.Module) -> Callable[[Run, Any], nn.Module] | None:
    """What converts this module; None for other modules, and for layers that do more than their type does."""
    for kind, convert in CONVERTERS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            plain = not module._forward_hooks and not module._forward_pre_hooks  # noqa: SLF001 - no public name
            return convert if plain and not hasattr(module, "parametrizations") else None
    return None


def why_dense(module: nn.Module) -> str:
    """Say why a module stays as it is, whatever its weights are; the empty text where it may become sparse."""
    name = type(module).__name__
    if not isinstance(module, tuple(CONVERTERS)):
        return f"{name} has no sparse form"
    return "" if converter(module) is not None else f"{name} does more than its type does"
