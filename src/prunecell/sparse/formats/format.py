"""What a format of a sparse matrix must be able to do."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the entries of a matrix are, as its format wrote it.

    Attributes:
        starts: int32, n_rows + 1: the entries [starts[r], starts[r + 1]) are row r's.
        indices: see the format.
        n_columns: of the matrix.
    """

    starts: Tensor
    indices: Tensor
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def rows(self) -> Tensor:
        """The row of every entry, int64."""
        return torch.repeat_interleave(self.starts.diff().long())


@dataclass(frozen=True, kw_only=True)
class Elements:
    """Some kept elements of a matrix, in the order of rows and then columns.

    Attributes:
        rows, columns: int64, of each.
        values: as they are stored.
        before: (row, column) of the element before the first one; (0, -1) at the beginning.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    before: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Entries of a matrix, as a format makes them of elements.

    Attributes:
        rows, values: of each.
        indices: of each; None where the format wrote them itself.
    """

    rows: Tensor
    values: Tensor
    indices: Tensor | None


class Format(Protocol):
    """One way to write columns."""

    @property
    def name(self) -> str:
        """By which users call it."""
        ...

    @property
    def code(self) -> int:
        """By which the kernels do (`native/formats/formats.h`)."""
        ...

    @property
    def index_dtype(self) -> torch.dtype:
        """Of the indices."""
        ...

    @property
    def max_columns(self) -> int | None:
        """More cannot be written; None: no limit."""
        ...

    @property
    def is_packed(self) -> bool:
        """Whether a kernel reads a packed copy of it, which is made at the first call: the fastest, and twice there."""
        ...

    @property
    def rule(self) -> str:
        """What sound indices fulfil, for the message where they do not."""
        ...

    def index_shape(self, n_rows: int, n_columns: int, n_entries: int) -> tuple[int, ...]:
        """The shape of the indices."""
        ...

    def index_bytes(self, density: float) -> float:
        """Bytes of the indices for each element of the matrix, about, where this fraction is kept."""
        ...

    def encode(self, elements: Elements, indices: Tensor) -> Entries:
        """The entries that stand for some elements, of which there may be more.

        Args:
            elements: those that come next.
            indices: of the whole matrix; a format whose indices are not one an entry writes into them itself.
        """
        ...

    def columns(self, where: Where) -> Tensor:
        """The column of every entry, int64: the slow twin of the kernels' decoder."""
        ...

    def is_sound(self, where: Where) -> bool:
        """Whether no index leads outside; `starts` are sound. The slow twin of the kernels' check."""
        ...
