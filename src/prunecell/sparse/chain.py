"""Sparse linear layers one after the other as one call of the kernels; a lone layer is a chain of one.

What a call needs is made at the first one and kept. It holds as long as the layers have the tensors that it was made
of, where they were, and as torch counts their changes. A chain runs where nobody sees more than its result: plain
float32 tensors on a CPU, no gradients, modes or compilers. Everywhere else the layers call their operator.
"""

import ctypes
import itertools
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Memory, check_memory, checked
from prunecell.sparse.inputs import may_autocast
from prunecell.sparse.matrix import N_TENSORS
from prunecell.sparse.multiply import BLOCK_ROWS, FEW, link_of, threads_for
from prunecell.sparse.packed import Form, forms_of
from prunecell.sparse.registry import is_plain

Layer = Any
"""A SparseLinear."""


class _Member:
    """A layer of a chain as it was when the chain was made."""

    __slots__ = ("bias", "bias_address", "layer", "parts", "places", "scales", "versions")

    def __init__(self, layer: Layer) -> None:
        self.layer, self.parts, self.bias = layer, layer.parts, layer.bias
        self.scales = None if layer.scales is None else layer.scales.clone()
        starts, indices, values, scales, *_ = self.parts
        self.places = starts.data_ptr(), indices.data_ptr(), values.data_ptr(), _address(scales)
        self.versions = starts._version, indices._version, values._version, _version(scales)  # noqa: SLF001
        self.bias_address = _address(self.bias)

    def holds(self, keep: Memory) -> bool:
        """Whether the layer is still what it was; `keep` gets the memory of its bias, which a kernel reads.

        The tensors must be the same, where they were, and as often changed as torch counts.
        """
        buffers, (starts, indices, values, scales, *_) = self.layer._buffers, self.parts  # noqa: SLF001 - torch's
        bias = self.bias
        if (
            buffers["values"] is not values
            or buffers["indices"] is not indices
            or buffers["starts"] is not starts
            or buffers["scales"] is not scales
            or self.layer._parameters["bias"] is not bias  # noqa: SLF001 - torch's
        ):
            return False
        if bias is not None:  # another thread may give it other memory at any time
            keep.append(memory := bias.untyped_storage())
            if memory.data_ptr() + 4 * bias.storage_offset() != self.bias_address:
                return False
        places = starts.data_ptr(), indices.data_ptr(), values.data_ptr(), _address(scales)
        versions = starts._version, indices._version, values._version, _version(scales)  # noqa: SLF001
        return places == self.places and versions == self.versions


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version  # noqa: SLF001 - as autograd asks for it


class Chain:
    """Some layers, each with or without a ReLU after it, whose formats are packed.

    Raises:
        StateError, OptionError: a layer has parts or a bias that no kernel takes.
    """

    def __init__(self, layers: tuple[Layer, ...], relus: tuple[bool, ...], library: ctypes.CDLL) -> None:
        self._layers, self._relus, self._library = layers, relus, library
        self._members = [_Member(layer) for layer in layers]
        self._n_columns, self._n_rows = layers[0].in_features, layers[-1].out_features
        self._n_entries = sum(len(layer.values) for layer in layers)
        self._made: dict[bool, _Links | None] = {}

    def is_of(self, layers: tuple[Layer, ...], relus: tuple[bool, ...], keep: Memory) -> bool:
        """Whether it is the chain of these layers as they are now."""
        return (
            self._library is native.library()
            and self._relus == relus
            and self._layers == layers
            and all(map(_Member.holds, self._members, itertools.repeat(keep)))
        )

    def __call__(self, x: Tensor) -> Tensor | None:
        """What the last layer gives for (..., features); None where the layers must compute one by one."""
        n_samples, few = x.numel() // self._n_columns, x.numel() <= FEW * self._n_columns
        links = self._made[few] if few in self._made else self._links(few=few)
        n_threads = threads_for(self._n_entries, n_samples)
        if links is None or n_samples == 0 or (n_threads > 1 and links.n_tiles(n_samples) < n_threads):
            return None
        if not x.is_contiguous():
            check_memory(x, "x")
            x = x.contiguous()
        memory, offset = x.untyped_storage(), x.storage_offset()
        if memory.nbytes() < 4 * (offset + n_samples * self._n_columns):
            check_memory(x, "x")
        y = x.new_empty((*x.shape[:-1], self._n_rows))
        before = links.address, memory.data_ptr() + 4 * offset, n_samples, y.data_ptr()
        if few:
            _refuse(self._library.pc_chain_of_few(*before))
        elif n_threads == 1:
            _refuse(self._library.pc_chain_of_many(*before, 0, links.n_tiles(n_samples)))
        else:

            def share(t0: int, t1: int) -> None:
                _refuse(self._library.pc_chain_of_many(*before, t0, t1))

            native.in_parallel(share, links.n_tiles(n_samples), n_threads=n_threads)
        return y

    def _links(self, *, few: bool) -> "_Links | None":
        """The layers as the kernels take them; None where one of them cannot be packed."""
        links, forms = [], []
        for member, relu in zip(self._members, self._relus, strict=True):
            matrix, _memory = checked(*(*member.parts, member.bias))
            of = forms_of(matrix, member.parts[:N_TENSORS], self._library)
            form = of and (of.sliced(matrix) if few else of.blocked(matrix, BLOCK_ROWS))
            if not form or (matrix.bias or 0) != member.bias_address:
                return None
            links.append(link_of(matrix, form, member.scales, relu=relu))
            forms.append(form)
        made = self._made[few] = _Links(native.Chain.of(links), forms)
        return made


class _Links:
    """The layers of a chain as the kernels take them, with the memory that they read."""

    __slots__ = ("_kept", "_tile", "address")

    def __init__(self, chain: native.Chain, forms: list[Form]) -> None:
        self.address, self._tile, self._kept = chain.address, forms[0].tile, (chain, forms)

    def n_tiles(self, n_samples: int) -> int:
        """The tiles that so many samples are."""
        return -(-n_samples // self._tile)


def _refuse(outcome: int) -> None:
    if outcome:
        raise MemoryError("no memory to multiply by a sparse matrix")


def chained(layers: tuple[Layer, ...], relus: tuple[bool, ...], x: Tensor) -> Tensor | None:
    """What some layers give, one after the other; None where they must compute one by one.

    Args:
        layers: of which the first keeps the chain for later calls, in its `_chains`: number of layers -> chain.
        relus: whether max(0, .) is taken after each.
        x: of any kind.
    """
    if torch.compiler.is_compiling() or not _takes(x, layers) or (library := native.library()) is None:
        return None
    keep: Memory = []
    known: dict[int, Chain] = layers[0]._chains  # noqa: SLF001 - see above
    chain = known.get(len(layers))
    if chain is None or not chain.is_of(layers, relus, keep):
        if not all(map(_can_be_packed, layers)):
            return None
        chain = known[len(layers)] = Chain(layers, relus, library)
        if not chain.is_of(layers, relus, keep):
            return None  # another thread changes them
    return chain(x)


def _can_be_packed(layer: Layer) -> bool:
    """Whether the kernels read a copy of the matrix, and torch counts its changes."""
    return layer.format.is_packed and not any(t is not None and t.is_inference() for t in layer.parts[:N_TENSORS])


def _takes(x: Tensor, layers: tuple[Layer, ...]) -> bool:
    if type(x) is not Tensor or x.dtype is not torch.float32 or x.ndim == 0 or may_autocast():
        return False
    if x.shape[-1] != layers[0].in_features or not x.shape[-1]:
        return False
    for layer in layers:
        if layer.dtype is not torch.float32:
            return False
        if not is_plain(x, layer._buffers["values"], layer._parameters["bias"]):  # noqa: SLF001 - torch's
            return False
    return True
