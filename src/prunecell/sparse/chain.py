"""Sparse linear layers one after the other as one call of the kernels; a lone layer is a chain of one.

What a call needs is made at the first one and kept, as long as the layers are what they were (ready.py).
"""

import ctypes
import itertools

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Memory, check_memory
from prunecell.sparse.multiply import FEW, packed_for, threads_for
from prunecell.sparse.packed import Form, check_outcome
from prunecell.sparse.ready import Layer, Ready, address_of, can_be_packed, takes


class Chain:
    """Some layers, each with or without a ReLU after it, whose formats are packed."""

    def __init__(self, layers: tuple[Layer, ...], relus: tuple[bool, ...], library: ctypes.CDLL) -> None:
        self._relus, self._library = relus, library
        self._members = [Ready(layer, library) for layer in layers]
        self._n_columns, self._n_rows = self._members[0].n_columns, self._members[-1].n_rows
        self._n_entries = sum(member.n_entries for member in self._members)
        self._made: dict[tuple[bool, int], _Links] = {}  # for few samples or many, by the number of threads

    def is_of(self, layers: tuple[Layer, ...], relus: tuple[bool, ...], keep: Memory) -> bool:
        """Whether it is the chain of these layers as they are now."""
        return (
            self._relus == relus
            and len(self._members) == len(layers)
            and all(map(Ready.holds, self._members, layers, itertools.repeat(keep)))
        )

    def __call__(self, x: Tensor) -> Tensor | None:
        """What the last layer gives for (..., features); None where the layers must compute one by one."""
        n_samples, few = x.numel() // self._n_columns, x.numel() <= FEW * self._n_columns
        n_threads = native.n_threads()
        links = self._made[few, n_threads] if (few, n_threads) in self._made else self._links(few, n_threads)
        if links is None or n_samples == 0:
            return None
        if not x.is_contiguous():
            check_memory(x, "x")
            x = x.contiguous()
        keep: Memory = []
        at = address_of(x, keep)
        y = x.new_empty((*x.shape[:-1], self._n_rows))
        kernel = self._library.pc_chain_of_few if few else self._library.pc_chain_of_many
        team = native.team(threads_for(self._n_entries, n_samples))
        check_outcome(kernel(links.address, at, 1, self._n_columns, n_samples, y.data_ptr(), team))
        return y

    def _links(self, few: bool, n_threads: int) -> "_Links | None":  # noqa: FBT001 - of a key
        """The layers as the kernels take them; None where one of them cannot be packed."""
        links, forms = [], []
        for member, relu in zip(self._members, self._relus, strict=True):
            form = member.packed(lambda of, matrix: packed_for(matrix, of, few=few))
            if form is None:
                return None
            links.append(native.Link(form.address, *member.epilogue, member.n_columns, member.n_rows, relu))
            forms.append(form)
        made = self._made[few, n_threads] = _Links(native.Chain.of(links), forms)
        return made


class _Links:
    """The layers of a chain as the kernels take them, with the memory that they read."""

    __slots__ = ("_kept", "address")

    def __init__(self, chain: native.Chain, forms: list[Form]) -> None:
        self.address, self._kept = chain.address, (chain, forms)


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
        if not all(map(can_be_packed, layers)):
            return None
        chain = known[len(layers)] = Chain(layers, relus, library)
        if not chain.is_of(layers, relus, keep):
            return None  # another thread changes them
    return chain(x)


def _takes(x: Tensor, layers: tuple[Layer, ...]) -> bool:
    for layer in layers:
        if not takes(x, layer) or layer.activations != "fp32":
            return False
    return x.ndim > 0 and x.shape[-1] == layers[0].in_features and bool(x.shape[-1])
