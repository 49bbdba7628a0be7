"""The product of a compressed matrix and dense samples: which kernel computes it, and how threads share it.

Every output is the sum of the same products in the same order, whatever the number of threads is.
"""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.packed import Form, Forms

FEW = 3  # samples that are multiplied without a panel
BLOCK_ROWS = 1024  # that a block has at most: their sums for a tile stay in the second-level cache
ENOUGH_WORK = 1 << 18  # products of an entry with 16 samples, from which a second thread pays: about 0.1 ms


class Activations(NamedTuple):
    """Where they are in memory: an address, and the strides between features and between samples, of which one is 1."""

    address: int
    of_feature: int
    of_sample: int

    def from_sample(self, s: int) -> "Activations":
        """Those from a sample on."""
        return self._replace(address=self.address + 4 * s * self.of_sample)


class Product(NamedTuple):
    """y = x W^T + bias, then max(0, .) where asked.

    Attributes:
        library: of the kernels.
        matrix: W and the bias.
        x, y: float32.
        n_samples: of both.
        relu: see above.
    """

    library: ctypes.CDLL
    matrix: Checked
    x: Activations
    y: Activations
    n_samples: int
    relu: bool

    @property
    def epilogue(self) -> tuple[int | None, int | None, bool]:
        """What happens to a sum, as a kernel takes it."""
        return self.matrix.scales, self.matrix.bias, self.relu

    def run(self, task: Callable[[int, int], int], n_parts: int, n_threads: int) -> None:
        """Share out a kernel.

        Raises:
            StateError: the matrix is damaged.
            MemoryError: there is not enough.
        """

        def share(begin: int, end: int) -> None:
            if outcome := task(begin, end):
                raise self.matrix.error(outcome, of="multiply by a sparse matrix")

        native.in_parallel(share, n_parts, n_threads=n_threads)


def multiply(product: Product, forms: Forms | None) -> None:
    """Compute a product, by one of the packed forms of the matrix if it has such.

    Raises:
        StateError: the matrix is damaged.
        MemoryError: there is not enough.
    """
    matrix = product.matrix
    n_threads = threads_for(matrix.n_entries, product.n_samples)
    if forms is not None and product.n_samples <= FEW:
        if form := forms.sliced(matrix):
            return _sliced(product, form, n_threads)
    elif forms is not None and (form := forms.blocked(matrix, _block_rows(matrix.n_rows, n_threads))):
        return _blocked(product, form, n_threads)
    before = matrix.address, matrix.bias, product.relu, *product.x, product.n_samples, *product.y
    return product.run(lambda r0, r1: product.library.pc_linear(*before, r0, r1), matrix.n_rows, n_threads)


def threads_for(n_entries: int, n_samples: int) -> int:
    """The threads that pay."""
    return native.n_threads() if n_entries * (n_samples + 15) // 16 > ENOUGH_WORK else 1


def _block_rows(n_rows: int, n_threads: int) -> int:
    """Rows of a block, so that every thread has the same number of blocks."""
    n_blocks = -(-n_rows // BLOCK_ROWS)
    return -(-n_rows // (-(-n_blocks // n_threads) * n_threads))


def _sliced(product: Product, form: Form, n_threads: int) -> None:
    before = form.address, *product.epilogue, *product.x, product.n_samples, *product.y
    product.run(lambda s0, s1: product.library.pc_sliced_part(*before, s0, s1), form.n_parts, n_threads)


def _blocked(product: Product, form: Form, n_threads: int) -> None:
    """Threads share the tiles; where there are too few, the features and then the row blocks of every tile."""
    library, matrix, tile = product.library, product.matrix, form.tile
    n_tiles = -(-product.n_samples // tile)
    if n_tiles >= n_threads:
        before = form.address, *product.epilogue, *product.x, product.n_samples, *product.y
        return product.run(lambda t0, t1: library.pc_blocked_tiles(*before, t0, t1), n_tiles, n_threads)
    panel = torch.empty(tile * matrix.n_columns, dtype=torch.float32, device="cpu")
    for s in range(0, product.n_samples, tile):
        n = min(tile, product.n_samples - s)
        filled = *product.x.from_sample(s), n, panel.data_ptr()
        product.run(lambda f0, f1, to=filled: library.pc_panel(*to, f0, f1), matrix.n_columns, n_threads)  # type: ignore[misc]
        of = form.address, *product.epilogue, panel.data_ptr(), n, *product.y.from_sample(s)
        product.run(lambda b0, b1, of=of: library.pc_blocked_tile(*of, b0, b1), form.n_parts, n_threads)  # type: ignore[misc]
    return None
