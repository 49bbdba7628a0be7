"""Layers one after the other as one call of the kernels; a lone linear layer is a chain of one.

What a call needs is made at the first one of its kind and kept, as long as the layers are what they were (ready.py).
"""

import ctypes
import itertools
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Checked, Memory, check_memory
from prunecell.sparse.convolve import Convolution
from prunecell.sparse.convolved import MOST_SHAPES
from prunecell.sparse.inputs import code_of
from prunecell.sparse.multiply import FEW, packed_for, threads_for
from prunecell.sparse.packed import Form, Forms, check_outcome
from prunecell.sparse.ready import Layer, Ready, address_of, can_be_ready, takes
from prunecell.sparse.route import CONVOLUTION, FLATTEN, Link, Stop, route

ALIKE = 8  # samples, from which on calls need the same


class _Made(NamedTuple):
    """What calls with inputs of one kind need.

    Attributes:
        chain: as the kernels take it.
        kept: what it reads.
        shape: of a sample of the result.
        n_links: that it takes.
        work: products of an entry with a sample.
    """

    chain: native.Chain
    kept: object
    shape: tuple[int, ...]
    n_links: int
    work: int


class Chain:
    """Some layers whose formats are packed, and what stands between and behind them."""

    def __init__(self, layers: Sequence[Layer], links: tuple[Link, ...], library: ctypes.CDLL) -> None:
        self._links, self._library = links, library
        self._members = [Ready(layer, library) for layer in layers]
        self._n_columns = self._members[0].n_columns
        self._is_of_pictures = links[0][0] == CONVOLUTION
        self._made: dict[Hashable, tuple[_Made | None]] = {}

    def is_of(self, layers: Sequence[Layer], links: tuple[Link, ...], dtype: torch.dtype) -> bool:
        """Whether it is the chain of these layers as they are now, which all take this dtype."""
        return self._links == links and all(map(Ready.holds, self._members, layers, itertools.repeat(dtype)))

    def __call__(self, layers: Sequence[Layer], x: Tensor) -> tuple[Tensor, int] | None:
        """What the links give for x, and how many were taken; None where the layers must compute one by one.

        Args:
            layers: as for `is_of`.
            x: (..., features), or (samples, channels, *size).
        """
        shape, of_pictures = x.shape, self._is_of_pictures
        if of_pictures:
            n_samples = shape[0] if len(shape) > 2 and x.is_contiguous() else 0  # noqa: PLR2004 - samples, channels, size
        else:
            n_samples = x.numel() // shape[-1] if shape and shape[-1] == self._n_columns > 0 else 0
        if n_samples == 0:
            return None
        few, n_threads = n_samples <= FEW, native.n_threads()
        code = code_of(x)
        key = (min(n_samples, ALIKE), shape[1:], n_threads, code) if of_pictures else (few, len(shape), n_threads, code)
        known = self._made.get(key)  # at once: another thread may clear it
        made = known[0] if known else self._make(key, layers, x)
        if made is None:
            return None
        n_threads = threads_for(made.work, n_samples)
        if not x.is_contiguous():
            check_memory(x, "x")
            x = x.contiguous()
        keep: Memory = []
        at, team = address_of(x, keep), native.team(n_threads)
        first = (n_samples,) if of_pictures or len(shape) == 2 else shape[:-1]  # noqa: PLR2004 - samples, features
        y = x.new_empty(*first, *made.shape)
        chain, to = made.chain.address, y.data_ptr()
        if of_pictures:
            check_outcome(self._library.pc_chain_of_pictures(chain, few, at, n_samples, to, team))
        else:
            run = self._library.pc_chain_of_few if few else self._library.pc_chain_of_many
            check_outcome(run(chain, at, 1, self._n_columns, n_samples, to, team))
        return y, made.n_links

    def _make(self, key: Hashable, layers: Sequence[Layer], x: Tensor) -> _Made | None:
        """What calls with inputs like x need; None where there is nothing to do at once."""
        if len(self._made) >= MOST_SHAPES:
            self._made.clear()
        shape, links = tuple(x.shape), self._links
        if self._is_of_pictures:
            made = self._made_of(links, layers, shape[1:], shape[0], code_of(x))
        else:
            if len(shape) != 2:  # noqa: PLR2004 - only (samples, features) are flat
                links = (*itertools.takewhile(FLATTEN.__ne__, links),)
            made = self._made_of(links, layers, shape[-1:], math.prod(shape[:-1]), code_of(x))
        self._made[key] = (made,)
        return made

    def _made_of(
        self, links: tuple[Link, ...], layers: Sequence[Layer], shape: tuple[int, ...], n_samples: int, code: int
    ) -> _Made | None:
        way = route(links, layers, self._members, shape)
        if not way.stops or way.is_lone_convolution:
            return None
        n_at_once, made, forms = min(way.n_at_once, n_samples), [], []
        for stop in way.stops:
            form = None if stop.member is None else self._packed(stop, n_at_once, few=n_samples <= FEW)
            if form is None and stop.member is not None:  # the way ends before it
                return self._made_of(links[: stop.place], layers, shape, n_samples, code)
            made.append(stop.link(None if form is None else form.address))
            forms.append(form)
        kept = forms, [stop.picture for stop in way.stops]
        return _Made(native.Chain.of(made, code, n_at_once), kept, way.shape, way.n_links, way.work)

    def _packed(self, stop: Stop, n_at_once: int, *, few: bool) -> Form | None:
        def pack(forms: Forms, matrix: Checked) -> Form | None:
            if stop.kind == native.LINEAR:
                return packed_for(matrix, forms, few=few)
            blocked = Convolution(self._library, matrix, stop.picture, n_at_once, 1).blocked(forms)
            return blocked and blocked.form

        return None if stop.member is None else stop.member.packed(pack)


def chained(layers: Sequence[Layer], links: tuple[Link, ...], x: Tensor) -> tuple[Tensor, int] | None:
    """What links give, one after the other, and how many were taken; None where modules must compute one by one.

    Args:
        layers: the sparse ones of them. The first keeps the chain for later calls: in `_chains`, number of layers ->
            chain.
        links: of which the first is sparse.
        x: of any kind.
    """
    if not takes(x) or (library := native.library()) is None:
        return None
    known: dict[int, Chain] = layers[0]._chains  # noqa: SLF001 - see above
    chain = known.get(len(layers))
    if chain is None or not chain.is_of(layers, links, x.dtype):
        if not all(map(can_be_ready, layers)):
            return None
        chain = known[len(layers)] = Chain(layers, links, library)
        if not chain.is_of(layers, links, x.dtype):
            return None  # another thread changes them
    return chain(layers, x)
