"""The traits of the compiled kernels, every stored format with every value type, against their Python twins."""

import pytest
import torch

from prunecell import native
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.matrix import as_argument, decompress, what_is_wrong
from prunecell.sparse.values import VALUES

pytestmark = [pytest.mark.parametrize("format", list(FORMATS)), pytest.mark.parametrize("values", list(VALUES))]
SHAPES = [(1, 1), (3, 7), (5, 16), (9, 65), (4, 300), (2, 1000)]


@pytest.fixture(params=list(native.LEVELS))
def library(request):
    """The library of every level that this CPU runs."""
    found = native.library_of(request.param)
    if found is None or native.LEVELS[request.param] > native.cpu_level():
        pytest.skip("this CPU or this build has no such level")
    return found


def matrices(format, values):  # noqa: A002
    """Matrices of every shape: empty, sparse, and full."""
    generator = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        for density in (0, 0.02, 0.3, 1):
            weight = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)
            yield compress(weight, format=format, values=values)


def found_wrong(library, matrix):
    """What the compiled check says."""
    argument = as_argument(matrix)
    return library.pc_what_is_wrong(argument.address)


def product(library, matrix, inputs):
    """Inputs (n_samples, n_columns) times the transposed matrix."""
    n_samples, argument = len(inputs), as_argument(matrix)
    outputs = torch.full((n_samples, matrix.n_rows), torch.nan)
    failed = library.pc_linear(
        *(argument.address, None, 0),
        *(inputs.data_ptr(), 1, matrix.n_columns, n_samples),
        *(outputs.data_ptr(), None),
    )
    assert not failed
    return outputs


def test_decoding_gives_what_the_twin_decodes(library, format, values):  # noqa: A002
    """Times the identity a matrix is itself, to the last bit."""
    for matrix in matrices(format, values):
        inputs = torch.eye(max(2, matrix.n_columns), matrix.n_columns)
        assert torch.equal(product(library, matrix, inputs)[: matrix.n_columns].T, decompress(matrix))


def test_the_product_with_one_vector_reads_what_the_twin_decodes(library, format, values):  # noqa: A002
    for matrix in matrices(format, values):
        dense = decompress(matrix)
        for column in range(0, matrix.n_columns, max(1, matrix.n_columns // 20)):
            unit = torch.zeros(1, matrix.n_columns)
            unit[0, column] = 1
            assert torch.equal(product(library, matrix, unit)[0], dense[:, column])


def test_a_sound_matrix_is_found_sound(library, format, values):  # noqa: A002
    for matrix in matrices(format, values):
        assert found_wrong(library, matrix) == what_is_wrong(matrix) == 0


def test_what_is_found_wrong_is_what_the_twin_finds(library, format, values):  # noqa: A002
    """Damage at random: one index or one start becomes another number."""
    generator, seen = torch.Generator().manual_seed(1), set()
    for matrix in matrices(format, values):
        for tensor in (matrix.indices, matrix.starts) if len(matrix.values) else ():
            raw = tensor.view(-1)
            at = int(torch.randint(len(raw), (), generator=generator))
            kept = raw[at].clone()
            raw[at] = int(torch.randint(256, (), generator=generator))
            wrong = found_wrong(library, matrix)
            assert wrong == what_is_wrong(matrix)
            seen.add(wrong)
            raw[at] = kept
    assert seen <= {0, 1, *(2 + one.code for one in FORMATS.values())}
    assert len(seen - {0}) == 2
