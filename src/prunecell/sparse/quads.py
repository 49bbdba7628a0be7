"""The product of a matrix with int8 values and quantised samples: which kernel computes it, on which threads."""

import ctypes

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.multiply import TILE, block_rows, threads_for
from prunecell.sparse.packed import Form, Forms, check_outcome

FEW = 2  # samples that are multiplied without a panel

Samples = tuple[int, int, int, int]
"""The address of x, its features and samples, and the address of y; both are float32 and lie in rows."""


def quads_for(matrix: Checked, forms: Forms, n_samples: int) -> Form | None:
    """The packed form for so many samples; None where the matrix cannot be packed."""
    if n_samples <= FEW:
        return forms.sliced_quads(matrix)
    return forms.blocked_quads(matrix, block_rows(matrix.n_rows, matrix.n_entries, TILE))


def multiply_quantised(
    library: ctypes.CDLL, form: Form, epilogue: tuple[int | None, int | None, bool], samples: Samples, n_entries: int
) -> None:
    """Compute y.

    Args:
        library: that packed the form.
        form: as `quads_for` gives it for these samples.
        epilogue: the addresses of scales and bias, and whether max(0, .) is taken.
        samples: see there.
        n_entries: of the matrix.

    Raises:
        MemoryError: there is not enough.
    """
    n_samples = samples[2]
    kernel = library.pc_quantised_few if n_samples <= FEW else library.pc_quantised_many
    team = native.team(threads_for(n_entries, n_samples))
    check_outcome(kernel(form.address, *epilogue, *samples, team))
