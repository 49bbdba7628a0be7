"""The product of a matrix with int8 values and quantised samples: which kernel computes it, on which threads."""

import ctypes
from collections.abc import Callable

from prunecell.sparse.checked import Checked
from prunecell.sparse.multiply import TILE, block_rows
from prunecell.sparse.packed import Form, Forms

FEW = 2  # samples that are multiplied without a panel


def quads_for(matrix: Checked, forms: Forms, n_samples: int) -> Form | None:
    """The packed form for so many samples; None where the matrix cannot be packed."""
    if n_samples <= FEW:
        return forms.sliced_quads(matrix)
    return forms.blocked_quads(matrix, block_rows(matrix.n_rows, matrix.n_entries, TILE))


def kernel_for(library: ctypes.CDLL, n_samples: int) -> Callable[..., int]:
    """The kernel for so many samples.

    It takes the address of their packed form, those of scales and bias, the type of that, whether max(0, .) is taken,
    the address of x, its features and samples, the address of y, and a team; x and y are float32 and lie in rows.
    """
    kernel: Callable[..., int] = library.pc_quantised_few if n_samples <= FEW else library.pc_quantised_many
    return kernel
