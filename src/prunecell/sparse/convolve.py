"""The product of a compressed matrix and the patches of pictures: which kernel computes it, and how threads share it.

Every output is the sum of the same products in the same order, whatever the number of threads is.
"""

import ctypes
from typing import Any, NamedTuple

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.multiply import BLOCK_ROWS
from prunecell.sparse.packed import Form, Forms, check_outcome

LEAST_GROUP_ROWS = 4
"""Output channels of a group, from which on panels pay: each is made for one group."""


class Blocked(NamedTuple):
    """A convolution by a packed form.

    Attributes:
        form: of the matrix.
        geometry: of the convolution.
        n_tiles: of output positions, that threads can share out.
    """

    form: Form
    geometry: native.Geometry
    n_tiles: int

    def run(self, library: ctypes.CDLL, arguments: tuple[Any, ...], n_threads: int) -> None:
        """Compute it: threads share whole tiles, and the row blocks of those that are left.

        Args:
            library: of the kernels.
            arguments: scales, bias, whether max(0, .) is taken, the addresses of input and output, number of samples.
            n_threads: that share the work.

        Raises:
            MemoryError: there is not enough.
        """
        kernel, before = library.pc_blocked_convolution, (self.form.address, self.geometry.address, *arguments)
        n_parts, n_tiles = self.form.n_parts, self.n_tiles
        if n_threads == 1:
            check_outcome(kernel(*before, 0, n_parts, 0, n_tiles))
            return
        n_shared = n_tiles // n_threads * n_threads
        native.in_parallel(
            lambda t0, t1: check_outcome(kernel(*before, 0, n_parts, t0, t1)), n_shared, n_threads=n_threads
        )
        if n_shared < n_tiles:
            native.in_parallel(
                lambda b0, b1: check_outcome(kernel(*before, b0, b1, n_shared, n_tiles)), n_parts, n_threads=n_threads
            )


class Convolution(NamedTuple):
    """One call of the operator.

    Attributes:
        library: of the kernels.
        matrix: a row for every output channel, with the bias.
        geometry: of the convolution.
        n_samples: of input and output.
        n_threads: that share the work.
    """

    library: ctypes.CDLL
    matrix: Checked
    geometry: native.Geometry
    n_samples: int
    n_threads: int

    def blocked(self, forms: Forms) -> Blocked | None:
        """How it is computed by a packed form; None where the matrix is read as it is stored."""
        geometry, library = self.geometry, self.library
        group_rows = geometry.out_channels // geometry.groups
        if group_rows < LEAST_GROUP_ROWS or not self.n_samples:
            return None
        form = library.pc_convolution_form(geometry.address, self.n_samples, self.matrix.n_entries)
        rows = BLOCK_ROWS if self.n_threads == 1 else -(-group_rows // self.n_threads)
        packed = forms.of_convolution(self.matrix, geometry, form, min(rows, BLOCK_ROWS))
        if packed is None:
            return None
        return Blocked(packed, geometry, library.pc_convolution_tiles(geometry.address, self.n_samples, form))

    def as_stored(self, x: tuple[int, int], y: tuple[int, int], *, relu: bool) -> None:
        """Compute it from the matrix as it is stored, bounded on the way.

        Args:
            x: address of the input, and bytes of a sample.
            y: the same of the output.
            relu: whether max(0, .) is taken.

        Raises:
            StateError: the matrix is damaged.
            MemoryError: there is not enough.
        """
        n_samples, n_rows, n_threads = self.n_samples, self.matrix.n_rows, self.n_threads

        def compute(s0: int, s1: int, r0: int, r1: int) -> None:
            addresses = (at + s0 * size for at, size in (x, y))
            where = self.geometry.address, *addresses, s1 - s0, r0, r1
            if outcome := self.library.pc_convolution(self.matrix.address, self.matrix.bias, relu, *where):
                raise self.matrix.error(outcome, of="convolve by a sparse matrix")

        if n_samples >= n_threads:
            native.in_parallel(lambda s0, s1: compute(s0, s1, 0, n_rows), n_samples, n_threads=n_threads)
        elif n_samples:
            native.in_parallel(lambda r0, r1: compute(0, n_samples, r0, r1), n_rows, n_threads=n_threads)
