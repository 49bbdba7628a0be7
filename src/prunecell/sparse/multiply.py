"""The product of a compressed matrix and dense samples: which kernel computes it, and how threads share it.

Every output is the sum of the same products in the same order, whatever the number of threads is.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.packed import Form, Forms

FEW = 3  # samples that are multiplied without a panel
BLOCK_ROWS = 1024  # that a block has at most: their sums for a tile stay in the second-level cache
ENOUGH_WORK = 1 << 18  # products of an entry with 16 samples, from which a second thread pays: about 0.1 ms

Place = tuple[int, int, int]
"""Where activations are: an address, the stride between features and that between samples, of which one is 1."""


def multiply(
    library: ctypes.CDLL, matrix: Checked, forms: Forms | None, x: Place, y: Place, n_samples: int, *, relu: bool
) -> None:
    """Y = x W^T + bias, then max(0, .) where asked.

    Args:
        library: of the kernels.
        matrix: W and the bias.
        forms: the packed forms of W, if it has such.
        x, y: float32.
        n_samples: of both.
        relu: see above.

    Raises:
        StateError: the matrix is damaged.
        MemoryError: there is not enough.
    """
    n_threads = threads_for(matrix.n_entries, n_samples)
    if forms is not None:
        if n_samples <= FEW:
            if form := forms.sliced(matrix):
                return _sliced(library, matrix, form, x, y, n_samples, relu, n_threads)
        elif form := forms.blocked(matrix, _block_rows(matrix.n_rows, n_threads)):
            return _blocked(library, matrix, form, x, y, n_samples, relu, n_threads)
    before = matrix.address, matrix.bias, relu, *x, n_samples, *y
    return _run(matrix, lambda r0, r1: library.pc_linear(*before, r0, r1), matrix.n_rows, n_threads)


def threads_for(n_entries: int, n_samples: int) -> int:
    """The threads that pay."""
    return native.n_threads() if n_entries * (n_samples + 15) // 16 > ENOUGH_WORK else 1


def _block_rows(n_rows: int, n_threads: int) -> int:
    """Rows of a block, so that every thread has the same number of blocks."""
    n_blocks = -(-n_rows // BLOCK_ROWS)
    return -(-n_rows // (-(-n_blocks // n_threads) * n_threads))


def _run(matrix: Checked, task: Callable[[int, int], int], n_parts: int, n_threads: int) -> None:
    def share(begin: int, end: int) -> None:
        if outcome := task(begin, end):
            raise matrix.error(outcome, of="multiply by a sparse matrix")

    native.in_parallel(share, n_parts, n_threads=n_threads)


def _sliced(
    library: ctypes.CDLL, matrix: Checked, form: Form, x: Place, y: Place, n_samples: int, relu: bool, n_threads: int
) -> None:
    before = form.address, matrix.scales, matrix.bias, relu, *x, n_samples, *y
    _run(matrix, lambda s0, s1: library.pc_sliced_part(*before, s0, s1), form.n_parts, n_threads)


def _blocked(
    library: ctypes.CDLL, matrix: Checked, form: Form, x: Place, y: Place, n_samples: int, relu: bool, n_threads: int
) -> None:
    """Threads share the tiles; where there are too few, the features and then the row blocks of every tile."""
    tile, n_tiles = form.tile, -(-n_samples // form.tile)
    if n_tiles >= n_threads:
        before = form.address, matrix.scales, matrix.bias, relu, *x, n_samples, *y
        return _run(matrix, lambda t0, t1: library.pc_blocked_tiles(*before, t0, t1), n_tiles, n_threads)
    panel = torch.empty(tile * matrix.n_columns)
    for s in range(0, n_samples, tile):
        n = min(tile, n_samples - s)
        here, there = ((at + 4 * s * of_sample, of_feature, of_sample) for at, of_feature, of_sample in (x, y))
        filled = *here, n, panel.data_ptr()
        _run(matrix, lambda f0, f1, to=filled: library.pc_panel(*to, f0, f1), matrix.n_columns, n_threads)
        before = form.address, matrix.scales, matrix.bias, relu, panel.data_ptr(), n, *there
        _run(matrix, lambda b0, b1, of=before: library.pc_blocked_tile(*of, b0, b1), form.n_parts, n_threads)
    return None


def link_of(matrix: Checked, form: Form, scales: Tensor | None, *, relu: bool) -> native.Link:
    """A layer as a chain has it; the form, the scales and the bias must live as long."""
    address = None if scales is None else scales.data_ptr()
    return native.Link(form.address, address, matrix.bias, matrix.n_columns, matrix.n_rows, relu)
