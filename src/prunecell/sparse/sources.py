"""Where the weights of a model come from while it becomes sparse: from itself, or from an archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from prunecell.archive import Archive
from prunecell.errors import StateError, nearest
from prunecell.sparse.compress import Chunk, chunks_of


class Weights(Protocol):
    """The tensors of a model, by their names in it."""

    def n_kept(self, name: str) -> int:
        """About how many elements of a weight are kept; none is decoded for it where a file says so."""
        ...

    def chunks(self, name: str) -> Iterator[Chunk]:
        """The kept elements of a weight, chunk by chunk."""
        ...

    def dense(self, name: str) -> Tensor:
        """The whole tensor."""
        ...


@dataclass(frozen=True)
class Own:
    """The tensors of the model itself."""

    tensors: dict[str, Tensor]

    def n_kept(self, name: str) -> int:
        """See `Weights`: exactly."""
        return int(self.tensors[name].count_nonzero())

    def chunks(self, name: str) -> Iterator[Chunk]:
        """See `Weights`."""
        return chunks_of(self.tensors[name])

    def dense(self, name: str) -> Tensor:
        """See `Weights`."""
        return self.tensors[name].detach()


@dataclass(frozen=True)
class Stored:
    """The tensors in an archive, read when they are asked for, the sparse ones once."""

    archive: Archive

    def n_kept(self, name: str) -> int:
        """See `Weights`: what is not +0.0; a tensor that is stored dense is read for it."""
        n_nonzero = self.archive.facts(name).n_nonzero
        return sum(len(chunk.positions) for chunk in self.chunks(name)) if n_nonzero is None else n_nonzero

    def chunks(self, name: str) -> Iterator[Chunk]:
        """See `Weights`."""
        for chunk in self.archive.chunks(name):
            positions, values = chunk.positions, chunk.values
            if not (nonzero := values != 0).all():  # an archive keeps -0.0 apart from 0.0
                positions, values = positions[nonzero], values[nonzero]
            yield Chunk(positions=positions, values=values)

    def dense(self, name: str) -> Tensor:
        """See `Weights`."""
        return self.archive[name]


def check_fit(tensors: dict[str, Tensor], archive: Archive) -> None:
    """Refuse an archive that does not have a model's tensors, all of them and no others.

    Raises:
        StateError: a tensor is missing, left over or of another shape.
    """
    for name, tensor in tensors.items():
        if name not in archive:
            raise StateError(f"the archive has no tensor {name!r}{nearest(name, archive)}")
        facts = archive.facts(name)
        if facts.shape != tuple(tensor.shape):
            raise StateError(f"{name}: the archive has the shape {facts.shape}, the model {tuple(tensor.shape)}")
    for name in archive:
        if name not in tensors:
            raise StateError(f"the model has no tensor {name!r} of the archive{nearest(name, tensors)}")
