"""columns16: the column of every entry, uint16 (n_entries,)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.sparse.formats.format import Elements, Entries, Where


@dataclass(frozen=True)
class Columns16:
    """See `Format`."""

    name: str = "columns16"
    code: int = 0
    index_dtype: torch.dtype = torch.uint16
    max_columns: int | None = 1 << 16
    is_packed: bool = True
    rule: str = "the columns of a row must ascend and be smaller than the number of columns"

    def index_shape(self, n_rows: int, n_columns: int, n_entries: int) -> tuple[int, ...]:  # noqa: ARG002, D102
        return (n_entries,)

    def index_bytes(self, density: float) -> float:  # noqa: D102
        return 2 * density

    def encode(self, elements: Elements, indices: Tensor) -> Entries:  # noqa: ARG002, D102
        return Entries(rows=elements.rows, values=elements.values, indices=elements.columns)

    def columns(self, where: Where) -> Tensor:  # noqa: D102
        return where.indices.long()

    def is_sound(self, where: Where) -> bool:  # noqa: D102
        columns, same_row = where.indices.long(), where.rows.diff() == 0
        return bool((columns < where.n_columns).all() and (columns.diff()[same_row] > 0).all())


COLUMNS16 = Columns16()
