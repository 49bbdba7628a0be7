"""compact_: the layers of a model become sparse where that pays, from its own weights or from an archive.

weights, dense in the model or never dense in a file (sources) -> `choose` -> `compress` -> layers (converters); at last
their containers are told of them (joints).
"""

import ctypes
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from prunecell.archive import Archive
from prunecell.errors import StateError
from prunecell.names import plain_names
from prunecell.sparse.choose import Weight, break_even_table, check_wish, choose
from prunecell.sparse.compress import Shape, compress_chunks
from prunecell.sparse.converters import Rows, converter
from prunecell.sparse.joints import join_
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.matrix import Compressed
from prunecell.sparse.sources import Own, Stored, Weights, check_fit

Module = TypeVar("Module", bound=nn.Module)


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
    names = plain_names(model)
    tensors = {names.get(name, name): tensor for name, tensor in model.state_dict(keep_vars=True).items()}
    with ExitStack() as stack:
        source: Weights = Own(tensors)
        if path is not None:
            archive = stack.enter_context(Archive.open(path))
            check_fit(tensors, archive)
            source = Stored(archive)
        run = Conversion(model, tensors, source, prefer=prefer, values=values)
        root = run.replaced(model)
        if path is not None:
            run.load_rest_(root)
    for module in root.modules():
        join_(module)
    return root


class Conversion:
    """One conversion of a model: where its weights come from, which form each takes, and the layers that are made."""

    def __init__(
        self, model: nn.Module, tensors: dict[str, Tensor], source: Weights, *, prefer: str, values: str
    ) -> None:
        check_wish(prefer, values)  # before anything is changed
        self._choose = partial(choose, prefer=prefer, values=values, table=break_even_table())
        self._source = source
        self._names = {id(tensor): name for name, tensor in reversed(tensors.items())}  # tied: the first name
        self._made: dict[str, Compressed | None] = {}
        self._needed_dense = {
            id(parameter)
            for module in model.modules()
            if converter(module) is None
            for parameter in module.parameters(recurse=False)
        }

    def replaced(self, module: nn.Module) -> nn.Module:
        """The module with sparse layers in it, or the layer in its place."""
        if (convert := converter(module)) is not None:
            return convert(self, module).train(module.training)
        for name, child in list(module.named_children()):
            new = self.replaced(child)
            if new is not child:
                setattr(module, name, new)
        return module

    def matrix(self, kind: str, weight: Tensor) -> Compressed | None:
        """The weight compressed; None where it stays dense. Tied weights share theirs."""
        if weight.dtype != torch.float32 or id(weight) in self._needed_dense or weight.numel() == 0:
            return None
        name = self._names[id(weight)]
        if name not in self._made:
            self._made[name] = self._compressed(kind, name, weight.shape)
        return self._made[name]

    def _compressed(self, kind: str, name: str, size: torch.Size) -> Compressed | None:
        weight = Weight(kind=kind, n_rows=size[0], n_columns=size[1:].numel(), n_kept=self._source.n_kept(name))
        form = self._choose(weight)
        if form is None and weight.n_kept:  # a file may count -0.0 as kept
            weight = replace(weight, n_kept=sum(len(chunk.positions) for chunk in self._source.chunks(name)))
            form = self._choose(weight)
        if form is None:
            return None
        shape = Shape(n_rows=weight.n_rows, n_columns=weight.n_columns, n_kept=weight.n_kept)
        made = compress_chunks(self._source.chunks(name), shape, format=form.format, values=form.values)
        n_kept = int(made.values.count_nonzero())
        better = self._choose(replace(weight, n_kept=n_kept)) if n_kept < weight.n_kept else form
        if better not in (form, None):
            made = compress_chunks(self._source.chunks(name), shape, format=better.format, values=better.values)
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


def _give_back_memory() -> None:
    """Let the operating system have what was needed on the way, which glibc would keep between the layers."""
    with suppress(AttributeError, OSError, TypeError):  # elsewhere there is no such function
        ctypes.CDLL(None).malloc_trim(0)
