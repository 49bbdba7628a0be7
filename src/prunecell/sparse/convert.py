"""compact_: the layers of a model become sparse where that pays, from its own weights or from an archive.

weights, dense in the model or never dense in a file -> `choose` -> `compress` -> layers; at last the layers of an
nn.Sequential are joined: a ReLU goes into the layer before it, activations stay feature-major.
"""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from prunecell.archive import Archive
from prunecell.errors import StateError, nearest
from prunecell.sparse.attention import SparseMultiheadAttention
from prunecell.sparse.choose import Weight, break_even_table, check_wish, choose
from prunecell.sparse.compress import Chunk, Shape, chunks_of, compress_chunks
from prunecell.sparse.formats import Compressed
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.recurrent import SparseLSTM

Module = TypeVar("Module", bound=nn.Module)
Rows = tuple[int, int]


class _Weights(Protocol):
    """Where tensors come from, by their names in the model."""

    def chunks(self, name: str) -> Iterator[Chunk]:
        """The kept elements of a weight, stretch by stretch."""

    def dense(self, name: str) -> Tensor:
        """The whole tensor."""


@dataclass(frozen=True)
class _Own:
    """The tensors of the model itself."""

    tensors: dict[str, Tensor]

    def chunks(self, name: str) -> Iterator[Chunk]:
        return chunks_of(self.tensors[name])

    def dense(self, name: str) -> Tensor:
        return self.tensors[name].detach()


@dataclass(frozen=True)
class _Stored:
    """The tensors in an archive, read when they are asked for."""

    archive: Archive

    def chunks(self, name: str) -> Iterator[Chunk]:
        for chunk in self.archive.chunks(name):
            positions, values = chunk.positions, chunk.values
            if not (nonzero := values != 0).all():  # an archive keeps -0.0 apart from 0.0
                positions, values = positions[nonzero], values[nonzero]
            yield Chunk(positions=positions, values=values)

    def dense(self, name: str) -> Tensor:
        return self.archive[name]


def compact_(
    model: Module, path: str | Path | None = None, *, prefer: str = "speed", values: str = "fp32"
) -> Module | nn.Module:
    """Make a model small in memory and fast on a CPU: its layers become sparse in place, where that pays.

    Linear, Conv1d, Conv2d, Conv3d, LSTM and MultiheadAttention with float32 weights are looked at; each becomes the
    compressed form that is best by measured times, or stays dense where none is (see `tune_runtime`). The model is for
    inference then: gradients reach its inputs, not its sparse weights.

    Args:
        model: trained, or, with `path`, of the architecture that was saved: built on the meta device
            (`with torch.device("meta"): ...`) it is never dense on the way.
        path: an archive that `save` wrote; None: the model's own weights.
        prefer: "speed": the fastest form; "memory": the smallest that is not slower than dense on many samples.
        values: "fp32" (the same outputs up to rounding), "fp16" or "int8" (one scale a row) in sparse layers.

    Returns:
        The model; where the model itself is such a layer, the layer in its place.

    Raises:
        StateError: the archive does not fit the model: a tensor is missing, left over or of another shape.
        FormatError: the archive is damaged. Layers that were converted before stay so.
        UnknownNameError: `prefer` or `values` is no such name.

    >>> net = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    >>> _ = torch.nn.init.sparse_(net[0].weight, sparsity=0.95)
    >>> x = torch.randn(3, 256)
    >>> before = net(x)
    >>> torch.allclose(compact_(net)(x), before, atol=1e-5)
    True
    """
    tensors = model.state_dict(keep_vars=True)
    with ExitStack() as stack:
        source: _Weights = _Own(tensors)
        if path is not None:
            archive = stack.enter_context(Archive.open(path))
            _check_fit(tensors, archive)
            source = _Stored(archive)
        run = _Run(model, tensors, source, prefer=prefer, values=values)
        root = run.replaced(model)
        if path is not None:
            run.load_rest_(root)
    for module in root.modules():
        if type(module) is nn.Sequential:
            _join_(module)
        _keep_to_modules_(module)
    return root


class _Run:
    """One run over a model."""

    def __init__(
        self, model: nn.Module, tensors: dict[str, Tensor], source: _Weights, *, prefer: str, values: str
    ) -> None:
        check_wish(prefer, values)  # before anything is changed
        self._choose = partial(choose, prefer=prefer, values=values, table=break_even_table())
        self._source = source
        self._names = {id(tensor): name for name, tensor in reversed(tensors.items())}  # tied: the first name
        self._made: dict[tuple[str, Rows | None], Compressed | None] = {}
        self._needed_dense = {
            id(parameter)
            for module in model.modules()
            if _converter(module) is None
            for parameter in module.parameters(recurse=False)
        }

    def replaced(self, module: nn.Module) -> nn.Module:
        """The module with sparse layers in it, or the layer in its place."""
        if (convert := _converter(module)) is not None:
            return convert(self, module).train(module.training)
        for name, child in list(module.named_children()):
            new = self.replaced(child)
            if new is not child:
                setattr(module, name, new)
        return module

    def matrix(self, kind: str, weight: Tensor, rows: Rows | None = None) -> Compressed | None:
        """The weight, or some rows of it, compressed; None where it stays dense. Tied weights share theirs."""
        if weight.dtype != torch.float32 or id(weight) in self._needed_dense or weight.numel() == 0:
            return None
        key = self._names[id(weight)], rows
        if key not in self._made:
            self._made[key] = self._compressed(kind, key[0], weight.shape, rows)
        return self._made[key]

    def _compressed(self, kind: str, name: str, size: torch.Size, rows: Rows | None) -> Compressed | None:
        n_rows, n_columns = size[0] if rows is None else rows[1] - rows[0], size[1:].numel()

        def chunks() -> Iterator[Chunk]:
            every = self._source.chunks(name)
            return every if rows is None else _between(every, rows[0] * n_columns, rows[1] * n_columns)

        n_kept = sum(len(chunk.positions) for chunk in chunks())
        # a part is judged as the whole: the parts of a projection are called together
        whole = Weight(kind=kind, n_rows=size[0], n_columns=n_columns, n_kept=n_kept * size[0] // n_rows)
        form = self._choose(whole)
        if form is None:
            return None
        shape = Shape(n_rows=n_rows, n_columns=n_columns, n_kept=n_kept)
        made = compress_chunks(chunks, shape, format=form.format, values=form.values)
        _give_back_memory()
        return made

    def layer(self, matrix: Compressed | None, weight: Tensor, rows: Rows, bias: Tensor | None) -> nn.Module:
        """Some rows of a weight as a layer of their own, sparse or dense."""
        if matrix is not None:
            return SparseLinear(matrix, bias)
        dense = nn.Linear(weight.shape[1], rows[1] - rows[0], bias=bias is not None, device="meta")
        dense.weight = nn.Parameter(self.dense(weight)[slice(*rows)].clone())
        if bias is not None:
            dense.bias = nn.Parameter(bias)
        return dense

    def dense(self, tensor: Tensor) -> Tensor:
        """A tensor of the model as it is to be."""
        return self._source.dense(self._names[id(tensor)])

    def bias(self, tensor: Tensor | None) -> Tensor | None:
        """A bias of the model as it is to be, if there is one."""
        return None if tensor is None else self.dense(tensor)

    def load_rest_(self, model: nn.Module) -> None:
        """Read what no sparse layer took: dense layers, norms, buffers.

        Raises:
            StateError: a tensor on the meta device is in no state_dict, so it has no values.
        """
        read: dict[int, Tensor] = {}
        for path, module in model.named_modules():
            for tensors, wrap in ((module._parameters, nn.Parameter), (module._buffers, Tensor)):  # noqa: SLF001
                for name, tensor in tensors.items():
                    if tensor is None:
                        continue
                    if id(tensor) in self._names:
                        if id(tensor) not in read:
                            values = self.dense(tensor)
                            read[id(tensor)] = values if wrap is Tensor else wrap(values, tensor.requires_grad)
                        tensors[name] = read[id(tensor)]
                    elif tensor.is_meta:
                        raise StateError(
                            f"{path}.{name} is on the meta device and in no state_dict: build it elsewhere"
                        )


# ---- which modules become what ---------------------------------------------------------------------------------------


def _linear(run: _Run, dense: nn.Linear) -> nn.Module:
    matrix = run.matrix("linear", dense.weight)
    if matrix is None:
        return dense
    return SparseLinear(matrix, run.bias(dense.bias))


def _convolution(run: _Run, dense: nn.Conv2d) -> nn.Module:
    matrix = run.matrix("pointwise" if math.prod(dense.kernel_size) == 1 else "convolution", dense.weight)
    if matrix is None:
        return dense
    return SparseConvolution(matrix, run.bias(dense.bias), dense)


def _lstm(run: _Run, dense: nn.LSTM) -> nn.Module:
    weights = {name: w for name, w in dense.named_parameters() if name.startswith("weight")}
    matrices = {name: run.matrix("linear", weight) for name, weight in weights.items()}
    if not any(matrices.values()):
        return dense
    layers = {
        name: run.layer(matrices[name], w, (0, len(w)), run.bias(getattr(dense, name.replace("weight", "bias"), None)))
        for name, w in weights.items()
    }
    return SparseLSTM(dense, layers)


def _attention(run: _Run, dense: nn.MultiheadAttention) -> nn.Module:
    size = dense.embed_dim
    if dense.bias_k is not None or dense.add_zero_attn:
        return dense
    if dense.in_proj_weight is not None:
        places = [(dense.in_proj_weight, (i * size, (i + 1) * size)) for i in range(3)]
    else:
        places = [(w, (0, size)) for w in (dense.q_proj_weight, dense.k_proj_weight, dense.v_proj_weight)]
    matrices = [run.matrix("linear", weight, rows) for weight, rows in places]
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


_CONVERTERS: dict[type[nn.Module], Callable[[_Run, Any], nn.Module]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.LSTM: _lstm,
    nn.MultiheadAttention: _attention,
}
"""Type of a dense layer -> what makes the sparse one. To add one: a function, a line here, a law in the tests."""


def _converter(module: nn.Module) -> Callable[[_Run, Any], nn.Module] | None:
    """What converts this module; None for other modules, and for layers that do more than their type does."""
    for kind, convert in _CONVERTERS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            plain = not module._forward_hooks and not module._forward_pre_hooks  # noqa: SLF001 - no public name
            return convert if plain and not hasattr(module, "parametrizations") else None
    return None


# ---- the joints between layers ---------------------------------------------------------------------------------------


def _join_(sequential: nn.Sequential) -> None:
    """Do each ReLU within the sparse layer before it, and hand activations on feature-major between linear layers."""
    modules = list(sequential)
    for i, (layer, after) in enumerate(pairwise(modules)):
        if isinstance(layer, SparseLinear | SparseConvolution) and type(after) is nn.ReLU:
            layer.relu = True
            sequential[i + 1] = nn.Identity()
    layers = [module for module in sequential if not isinstance(module, nn.Identity)]
    for layer, after in pairwise(layers):
        if isinstance(layer, SparseLinear):
            layer.feature_major = isinstance(after, SparseLinear)


def _keep_to_modules_(module: nn.Module) -> None:
    """Close the way around the modules that torch's transformer layers take, reading dense weights, when evaluating."""
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0


# ---- memory and the file ---------------------------------------------------------------------------------------------


def _give_back_memory() -> None:
    """Let the operating system have what was needed on the way, which glibc would keep between the layers."""
    with suppress(AttributeError, OSError, TypeError):  # elsewhere there is no such function
        ctypes.CDLL(None).malloc_trim(0)


def _between(chunks: Iterator[Chunk], start: int, stop: int) -> Iterator[Chunk]:
    """The elements in [start, stop), counted from `start`."""
    for chunk in chunks:
        low, high = torch.searchsorted(chunk.positions, torch.tensor([start, stop])).tolist()
        yield Chunk(positions=chunk.positions[low:high] - start, values=chunk.values[low:high])


def _check_fit(tensors: dict[str, Tensor], archive: Archive) -> None:
    for name, tensor in tensors.items():
        if name not in archive:
            raise StateError(f"the archive has no tensor {name!r}{nearest(name, archive)}")
        facts = archive.facts(name)
        if facts.shape != tuple(tensor.shape):
            raise StateError(f"{name}: the archive has the shape {facts.shape}, the model {tuple(tensor.shape)}")
    for name in archive:
        if name not in tensors:
            raise StateError(f"the model has no tensor {name!r} of the archive{nearest(name, tensors)}")
