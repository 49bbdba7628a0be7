"""The product of a matrix with int8 values and quantised samples: which kernel computes it, on which threads."""

import ctypes

from prunecell import native
from prunecell.sparse.checked import Checked
from prunecell.sparse.multiply import BLOCK_ROWS, threads_for
from prunecell.sparse.packed import Form, Forms, check_outcome

FEW = 2  # samples that are multiplied without a panel

Samples = tuple[int, int, int, int]
"""The address of x, its features and samples, and the address of y; both are float32 and lie in rows."""


def quads_for(matrix: Checked, forms: Forms, n_samples: int) -> Form | None:
    """The packed form for so many samples; None where the matrix cannot be packed."""
    return forms.sliced_quads(matrix) if n_samples <= FEW else forms.blocked_quads(matrix, BLOCK_ROWS)


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
    few = n_samples <= FEW
    kernel = library.pc_quantised_few if few else library.pc_quantised_tiles
    n_parts = form.n_parts if few else -(-n_samples // form.tile)
    native.in_parallel(
        lambda begin, end: check_outcome(kernel(form.address, *epilogue, *samples, begin, end)),
        n_parts,
        n_threads=threads_for(n_entries, n_samples),
    )
