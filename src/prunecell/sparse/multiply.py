"""The product of a compressed matrix and dense samples: which kernel computes it, on how many threads.

Every output is the sum of the same products in the same order, whatever the number of threads is.
"""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.packed import Form, Forms

RELU = native.ACTIVATIONS["relu"]
FEW = 3  # samples that are multiplied without a panel
BLOCK_ROWS = 1024  # that a block has at most: their sums for a tile stay in the second-level cache
LEAST_BLOCK_ROWS = 64  # of a block that is made for a thread: they share the way of its inputs to the first-level cache
TILE = 64  # samples that are computed at once
ENOUGH_WORK = 1 << 16  # products of an entry with 16 samples, from which a second thread pays: about 25 us


class Activations(NamedTuple):
    """Where they are in memory: an address, and the strides between features and between samples, of which one is 1."""

    address: int
    of_feature: int
    of_sample: int


class Product(NamedTuple):
    """y = x W^T + bias, then max(0, .) where asked.

    Attributes:
        library: of the kernels.
        matrix: W and the bias.
        x: the input.
        y: address of the result, in rows of features.
        code: of the dtype of both.
        n_samples: of both.
        relu: see above.
    """

    library: ctypes.CDLL
    matrix: Checked
    x: Activations
    y: int
    code: int
    n_samples: int
    relu: bool

    def chain_of_one(self, form: Form) -> native.Chain:
        """This layer as a kernel takes it."""
        m = self.matrix
        link = native.Link.linear(form.address, m.epilogue, m.n_columns, m.n_rows, RELU * self.relu)
        return native.Chain.of([link], self.code)

    def run(self, kernel: Callable[..., int], *which: int | None) -> None:
        """Call a kernel with what it multiplies.

        Raises:
            StateError: the matrix is damaged.
            MemoryError: there is not enough.
        """
        team = native.team(threads_for(self.matrix.n_entries, self.n_samples))
        if outcome := kernel(*which, *self.x, self.n_samples, self.y, team):
            raise self.matrix.error(outcome, of="multiply by a sparse matrix")


def multiply(product: Product, forms: Forms | None) -> None:
    """Compute a product, by one of the packed forms of the matrix if it has such.

    Raises:
        StateError: the matrix is damaged.
        MemoryError: there is not enough.
    """
    library, matrix = product.library, product.matrix
    few = product.n_samples <= FEW
    if forms is not None and (form := packed_for(matrix, forms, few=few)):
        kernel = library.pc_chain_of_few if few else library.pc_chain_of_many
        chain = product.chain_of_one(form)
        return product.run(kernel, chain.address)
    return product.run(library.pc_linear, matrix.address, matrix.bias, matrix.bias_type, product.relu, product.code)


def packed_for(matrix: Checked, forms: Forms, *, few: bool) -> Form | None:
    """The packed form for few samples or for many; None where the matrix cannot be packed."""
    return forms.sliced(matrix) if few else forms.blocked(matrix, block_rows(matrix.n_rows, matrix.n_entries, TILE))


def threads_for(n_entries: int, n_samples: int) -> int:
    """The threads that pay."""
    return native.n_threads() if n_entries * (n_samples + 15) // 16 > ENOUGH_WORK else 1


def block_rows(n_rows: int, n_entries: int, tile: int) -> int:
    """Rows of a block.

    Where a tile of so many samples is enough work for several threads, each of them has the same number of blocks.
    """
    n_threads, n_blocks = threads_for(n_entries, tile), max(1, -(-n_rows // BLOCK_ROWS))
    return max(-(-n_rows // (-(-n_blocks // n_threads) * n_threads)), min(n_rows, LEAST_BLOCK_ROWS))
