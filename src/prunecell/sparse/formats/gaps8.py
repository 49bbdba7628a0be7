"""gaps8: how many columns were skipped since the entry before, or since column -1, uint8 (n_entries,).

A gap that is too long for one byte is bridged by entries of value 0, each 256 columns after the one before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunecell.sparse.formats.format import Elements, Entries, Where

LONGEST_GAP = 255


@dataclass(frozen=True)
class Gaps8:
    """See `Format`."""

    name: str = "gaps8"
    code: int = 1
    index_dtype: torch.dtype = torch.uint8
    max_columns: int | None = None
    is_packed: bool = False
    rule: str = "the gaps of a row must not lead beyond the number of columns"

    def index_shape(self, n_rows: int, n_columns: int, n_entries: int) -> tuple[int, ...]:  # noqa: ARG002, D102
        return (n_entries,)

    def index_bytes(self, density: float) -> float:  # noqa: D102
        return density + 1 / (LONGEST_GAP + 1)

    def encode(self, elements: Elements, indices: Tensor) -> Entries:  # noqa: ARG002, D102
        rows, columns = elements.rows, elements.columns
        rows_before, columns_before = (
            torch.cat([torch.tensor([first]), numbers[:-1]])
            for first, numbers in zip(elements.before, (rows, columns), strict=True)
        )
        gaps = columns - 1 - torch.where(rows == rows_before, columns_before, -1)
        n_bridges = gaps // (LONGEST_GAP + 1)
        last = (n_bridges + 1).cumsum(0) - 1
        rows = rows.repeat_interleave(n_bridges + 1)
        bytes_, values = torch.full_like(rows, LONGEST_GAP), elements.values.new_zeros(len(rows))
        bytes_[last], values[last] = gaps % (LONGEST_GAP + 1), elements.values
        return Entries(rows=rows, values=values, indices=bytes_)

    def columns(self, where: Where) -> Tensor:  # noqa: D102
        walked = (where.indices.long() + 1).cumsum(0)
        before_row = torch.cat([walked.new_zeros(1), walked])[where.starts[:-1].long()]
        return walked - 1 - before_row[where.rows]

    def is_sound(self, where: Where) -> bool:  # noqa: D102
        walked = torch.zeros(where.n_rows, dtype=torch.int64, device=where.indices.device)
        walked.index_add_(0, where.rows, where.indices.long() + 1)
        return bool((walked <= where.n_columns).all())


GAPS8 = Gaps8()
