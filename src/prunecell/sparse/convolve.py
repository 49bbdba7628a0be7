"""The product of a compressed matrix and the patches of pictures: which kernel computes it.

Every output is the sum of the same products in the same order, whatever the number of threads is.
"""

import ctypes
from typing import Any, NamedTuple

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.multiply import block_rows
from prunecell.sparse.packed import Form, Forms, check_outcome

TILE = 224  # positions of the output that are computed at once, at most
LEAST_GROUP_ROWS = 4
"""Output channels of a group, from which on panels pay: each is made for one group."""


class Blocked(NamedTuple):
    """A convolution by a packed form.

    Attributes:
        form: of the matrix.
        geometry: of the convolution.
    """

    form: Form
    geometry: native.Geometry

    def run(self, library: ctypes.CDLL, arguments: tuple[Any, ...], n_threads: int) -> None:
        """Compute it.

        Args:
            library: of the kernels.
            arguments: scales, bias, whether max(0, .) is taken, the addresses of input and output, number of samples.
            n_threads: that share the work.

        Raises:
            MemoryError: there is not enough.
        """
        before = self.form.address, self.geometry.address, *arguments
        check_outcome(library.pc_blocked_convolution(*before, native.team(n_threads)))


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
        rows = block_rows(group_rows, self.matrix.n_entries // self.geometry.groups, TILE)
        packed = forms.of_convolution(self.matrix, geometry, form, rows)
        return None if packed is None else Blocked(packed, geometry)

    def as_stored(self, x: int, y: int, *, relu: bool) -> None:
        """Compute it from the matrix as it is stored, bounded on the way.

        Args:
            x: address of the input.
            y: address of the output.
            relu: whether max(0, .) is taken.

        Raises:
            StateError: the matrix is damaged.
            MemoryError: there is not enough.
        """
        of, where = (self.matrix.address, self.matrix.bias, relu), (self.geometry.address, x, y, self.n_samples)
        if outcome := self.library.pc_convolution(*of, *where, native.team(self.n_threads)):
            raise self.matrix.error(outcome, of="convolve by a sparse matrix")
