"""Where the weights of a model come from while it becomes sparse: from itself, or from an archive."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunecell.archive import Archive
from prunecell.sparse.compress import Chunk, chunks_of

Codes = tuple[Tensor, Iterator[Chunk]]
"""The scales of the rows, float32, and the kept elements as int8: element = code * scale of its row."""


class Weights(Protocol):
    """The tensors that a model is to have: each by the first of its names, beside the one that the model has now."""

    def n_kept(self, name: str, now: Tensor) -> int:
        """About how many elements of a weight are kept; none is decoded for it where a file says so."""
        ...

    def chunks(self, name: str, now: Tensor) -> Iterator[Chunk]:
        """The kept elements of a weight, chunk by chunk, of the model's dtype."""
        ...

    def codes(self, name: str) -> Codes | None:
        """A weight that is stored as int8 with scales, as it is; None for others."""
        ...

    def dense(self, name: str, now: Tensor) -> Tensor:
        """The whole tensor, of the model's dtype and shape."""
        ...


@dataclass(frozen=True)
class Own:
    """The tensors of the model itself. It holds none of them, so that each can go when its layer is sparse."""

    def n_kept(self, name: str, now: Tensor) -> int:  # noqa: ARG002 - one signature for all sources
        """See `Weights`: exactly."""
        return int(now.count_nonzero())

    def chunks(self, name: str, now: Tensor) -> Iterator[Chunk]:  # noqa: ARG002
        """See `Weights`."""
        return chunks_of(now)

    def codes(self, name: str) -> None:
        """See `Weights`: there are none."""

    def dense(self, name: str, now: Tensor) -> Tensor:  # noqa: ARG002
        """See `Weights`."""
        return now.detach()


@dataclass(frozen=True)
class Stored:
    """The tensors in an archive, read when they are asked for, the sparse ones once; the model's own where it has none.

    Attributes:
        archive: open.
        names: name in the model -> name in the archive.
    """

    archive: Archive
    names: Mapping[str, str]
    own: Own = Own()

    def n_kept(self, name: str, now: Tensor) -> int:
        """See `Weights`: what is not +0.0; a tensor that is stored dense is read for it."""
        if name not in self.names:
            return self.own.n_kept(name, now)
        n_nonzero = self.archive.facts(self.names[name]).n_nonzero
        return sum(len(chunk.positions) for chunk in self.chunks(name, now)) if n_nonzero is None else n_nonzero

    def chunks(self, name: str, now: Tensor) -> Iterator[Chunk]:
        """See `Weights`."""
        if name not in self.names:
            yield from self.own.chunks(name, now)
            return
        for chunk in self.archive.chunks(self.names[name]):
            positions, values = chunk.positions, chunk.values.to(now.dtype)
            if not (nonzero := values != 0).all():  # an archive keeps -0.0 apart from 0.0, and a cast may give 0
                positions, values = positions[nonzero], values[nonzero]
            yield Chunk(positions=positions, values=values)

    def codes(self, name: str) -> Codes | None:
        """See `Weights`."""
        found = self.archive.codes(self.names[name]) if name in self.names else None
        if found is None:
            return None
        scales, chunks = found
        return scales, (Chunk(positions=chunk.positions, values=chunk.values) for chunk in chunks)

    def dense(self, name: str, now: Tensor) -> Tensor:
        """See `Weights`."""
        if name not in self.names:
            return self.own.dense(name, now)
        device = torch.device("cpu") if now.is_meta else now.device
        return self.archive[self.names[name]].to(device, now.dtype).view(now.shape)
