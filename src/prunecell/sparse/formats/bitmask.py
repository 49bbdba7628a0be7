"""bitmask: one bit for every column, uint8 (n_rows, ceil(n_columns / 8)); bit c % 8 of byte c / 8 is column c's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.sparse.formats.format import Elements, Entries, Where


@dataclass(frozen=True)
class Bitmask:
    """See `Format`."""

    name: str = "bitmask"
    code: int = 2
    index_dtype: torch.dtype = torch.uint8
    max_columns: int | None = None
    is_packed: bool = False
    rule: str = "the mask of a row must have as many bits as the row has values, and none beyond the number of columns"

    def index_shape(self, n_rows: int, n_columns: int, n_entries: int) -> tuple[int, ...]:  # noqa: ARG002, D102
        return n_rows, -(-n_columns // 8)

    def index_bytes(self, density: float) -> float:  # noqa: ARG002, D102
        return 1 / 8

    def encode(self, elements: Elements, indices: Tensor) -> Entries:  # noqa: D102
        bytes_ = elements.rows * indices.shape[1] + elements.columns // 8
        indices.view(-1).index_add_(0, bytes_, (1 << elements.columns % 8).to(torch.uint8))
        return Entries(rows=elements.rows, values=elements.values, indices=None)

    def columns(self, where: Where) -> Tensor:  # noqa: D102
        return self._bits(where).nonzero()[:, 1]

    def is_sound(self, where: Where) -> bool:  # noqa: D102
        bits = self._bits(where)
        counted, clean = bits.sum(1) == where.starts.diff(), bits[:, where.n_columns :] == 0
        return bool(counted.all() and clean.all())

    def _bits(self, where: Where) -> Tensor:
        """0 and 1, (n_rows, 8 ceil(n_columns / 8))."""
        shifts = torch.arange(8, device=where.indices.device)
        return (where.indices[:, :, None].bitwise_right_shift(shifts) & 1).flatten(1)


BITMASK = Bitmask()
