"""Whole numbers -> a record and a blob: which pictures and which tensor above make it smallest."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from prunecell.codecs.contexts import NO_ROWS, Grid, grid_of, square_side, write_contexts
from prunecell.codecs.dtypes import ElementType, Numbers
from prunecell.codecs.integers import Integers
from prunecell.codecs.records import IntegerRecord

_TRIED = 1 << 20  # numbers on which is tried what a tensor four times as large would take
_TRIED_KEPT = 1 << 18  # of which so many should not be zero, because those take the time


def encode_integers(
    found: Integers, kind: ElementType, shape: tuple[int, ...], before: Mapping[str, Numbers], limit: int
) -> tuple[IntegerRecord, list[bytes], Numbers] | None:
    """Encode a tensor that is not all zero.

    Args:
        found: the tensor as whole numbers.
        kind: the element type of the tensor.
        shape: its shape.
        before: the rows that live of tensors before it, by name.
        limit: None is returned if the blob would take as many bytes.

    Returns:
        (the record, the blob, its rows that live: uint8)
    """
    limit -= found.prefix.nbytes
    grid = grid_of(shape)
    if grid is None:
        return None
    name, above = _above(grid.columns, before)
    side = _best_side(found.numbers, shape, above, limit)
    if side is None or (data := write_contexts(found.numbers, _grid(shape, side), above)) is None or len(data) >= limit:
        return None
    prefix = [found.prefix.tobytes()] if len(found.prefix) else []
    record = IntegerRecord(
        kind=kind,
        shape=shape,
        meaning=found.meaning,
        stored=found.stored,
        side=side,
        above=name,
        count=int(np.count_nonzero(found.numbers)),
        n_before=found.n_before,
        n_book=len(found.prefix) if found.meaning == "book" else 0,
        n_bytes=found.prefix.nbytes + len(data),
    )
    rows = (found.numbers.reshape(grid.rows, -1) != 0).any(1).astype(np.uint8)
    return record, [*prefix, data], rows


def _grid(shape: tuple[int, ...], side: int) -> Grid:
    grid = grid_of(shape, side)
    if grid is None:
        raise AssertionError("only sides that divide the columns are tried")
    return grid


def _above(n_columns: int, before: Mapping[str, Numbers]) -> tuple[str | None, Numbers]:
    """Find the last tensor whose rows divide the columns; none if all of its rows live, because that tells nothing."""
    for name in reversed([*before]):
        rows = before[name]
        if len(rows) > 1 and n_columns % len(rows) == 0:
            return (None, NO_ROWS) if rows.all() else (name, rows)
    return None, NO_ROWS


def _sides(shape: tuple[int, ...], above: Numbers) -> Iterator[int]:
    """Give the sides of pictures that a matrix's columns may be: grey, in colours, or of the channels above."""
    yield 0
    for n_planes in sorted({1, 3, len(above)} - {0}) if len(shape) == 2 else ():  # noqa: PLR2004 - a matrix
        if side := square_side(shape[1], n_planes):
            yield side


def _some_rows(numbers: Numbers, shape: tuple[int, ...]) -> Numbers | None:
    """Rows of a large tensor on which is tried what it takes."""
    if len(shape) < 2:  # noqa: PLR2004 - a vector is one row
        return None
    part = min(_TRIED / len(numbers), _TRIED_KEPT / np.count_nonzero(numbers))
    if part > 1 / 4:
        return None
    chosen = np.linspace(0, shape[0] - 1, max(1, int(part * shape[0]))).astype(np.int64)
    some: Numbers = numbers.reshape(shape[0], -1)[chosen]
    return some if some.any() else None


def _best_side(numbers: Numbers, shape: tuple[int, ...], above: Numbers, limit: int) -> int | None:
    """Return the side of the smallest stream; None where even that is too large, as a part of a large tensor tells."""
    sides, part = [*_sides(shape, above)], shape
    if (some := _some_rows(numbers, shape)) is not None:
        numbers, part = some.reshape(-1), (len(some), *shape[1:])
    elif len(sides) == 1:
        return 0
    sizes = {side: len(write_contexts(numbers, _grid(part, side), above) or numbers.tobytes()) for side in sides}
    best = min(sides, key=sizes.__getitem__)
    return best if sizes[best] * math.prod(shape) < limit * len(numbers) else None
