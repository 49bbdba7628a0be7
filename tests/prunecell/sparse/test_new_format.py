"""A format is one object: the laws hold for one that is made here, on the code that stands in for the kernels."""

from dataclasses import dataclass

import pytest
import torch

from prunecell import native
from prunecell.sparse import matrix as matrices
from prunecell.sparse.choose import Form
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.formats.format import Entries
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.matrix import check, decompress
from prunecell.sparse.values import VALUES


@dataclass(frozen=True)
class Columns32:
    """The column of every entry in 4 bytes."""

    name: str = "columns32"
    code: int = 9
    index_dtype: torch.dtype = torch.int32
    max_columns: int | None = None
    is_packed: bool = False
    rule: str = "columns must be smaller than their number"

    def index_shape(self, _rows, _columns, n_entries):
        return (n_entries,)

    def index_bytes(self, density):
        return 4 * density

    def encode(self, elements, _):
        return Entries(rows=elements.rows, values=elements.values, indices=elements.columns)

    def columns(self, where):
        return where.indices.long()

    def is_sound(self, where):
        return bool(((where.indices >= 0) & (where.indices < where.n_columns)).all())


@pytest.fixture(autouse=True)
def _one_more(monkeypatch):
    monkeypatch.setitem(FORMATS, "columns32", Columns32())
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.mark.parametrize("values", VALUES)
def test_it_is_written_read_and_checked(values):
    weight = torch.randn(7, 90_000) * (torch.rand(7, 90_000) < 0.01)
    made = compress(weight, format="columns32", values=values)
    torch.testing.assert_close(decompress(made), weight, atol=0.02, rtol=1e-3)
    check(made)
    made.indices[3] = 90_000
    with pytest.raises(matrices.StateError, match="columns must be smaller than their number"):
        check(made)
    assert Form(format=made.format, values=VALUES["fp32"]).n_bytes(0.5) == 4


def test_layers_of_it_compute_travel_and_load():
    weight, x = torch.randn(6, 3, 3, 3), torch.randn(2, 3, 8, 8)
    dense = torch.nn.Conv2d(3, 6, 3)
    dense.weight.data = weight
    layer = SparseConvolution(compress(weight, format="columns32"), dense.bias, dense)
    torch.testing.assert_close(layer(x), dense(x), atol=1e-5, rtol=1e-4)
    linear = SparseLinear(compress(weight.flatten(1), format="bitmask"), None)
    other = SparseLinear(compress(weight.flatten(1), format="columns32"), None)
    linear.load_state_dict(other.state_dict())
    assert linear.format is FORMATS["columns32"]
    exported = torch.export.export(other, (x.flatten(1)[:, :27],)).module()
    torch.testing.assert_close(exported(x.flatten(1)[:, :27]), linear(x.flatten(1)[:, :27]))
