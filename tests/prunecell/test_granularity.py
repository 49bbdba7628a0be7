"""Laws over every granularity of the table."""

import pytest
import torch

from prunecell.bits.mask import Mask
from prunecell.bits.order import Magnitudes
from prunecell.errors import OptionError, OptionTypeError
from prunecell.granularity import GRANULARITIES, Blocks, Slices

VALUES = [
    *(make() for make in GRANULARITIES.values()),
    Slices(dims=(1,)),
    Slices(dims=(0, 1)),
    Blocks(rows=4, columns=4),
]


@pytest.mark.parametrize("granularity", VALUES, ids=repr)
@pytest.mark.parametrize("shape", [(8, 12), (4, 4, 3, 4)])
def test_laws_that_hold_for_every_granularity(granularity, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    keys = granularity.group(Magnitudes(weight))
    n_groups, n = keys.shape.numel(), weight.numel()
    assert n % n_groups == 0
    everything = Mask.full(keys.shape)
    assert granularity.spread(everything, weight.shape).equals(Mask.full(weight.shape))
    for group in range(n_groups):
        one = torch.arange(n_groups).view(keys.shape) == group
        keep = granularity.spread(Mask.from_bool(one), weight.shape).to_bool()
        assert int(keep.sum()) == n // n_groups
        if n_groups < n:
            assert float(keys.scores().flatten()[group]) == pytest.approx(float(weight.abs()[keep].mean()), rel=1e-5)


def test_blocks_are_neighbours():
    one = Mask.from_bool(torch.tensor([[False, True], [False, False]]))
    keep = Blocks(rows=2, columns=3).spread(one, torch.Size([4, 6])).to_bool()
    assert keep.nonzero().tolist() == [[row, column] for row in (0, 1) for column in (3, 4, 5)]


@pytest.mark.parametrize("dims", [(), (1, 0), (0, 0)])
def test_dimensions_out_of_order_are_refused(dims):
    with pytest.raises(OptionError, match=r"dims=.* is illegal: it must be dimensions in ascending order"):
        Slices(dims=dims)


def test_what_does_not_fit_the_weight_is_refused():
    keys = Magnitudes(torch.ones(6, 6))
    with pytest.raises(OptionError, match=r"dims=\(2,\) is illegal for a weight of shape \(6, 6\)"):
        Slices(dims=(2,)).group(keys)
    with pytest.raises(OptionError, match=r"blocks of 1 x 4 do not divide a weight of shape \(6, 6\), 6 rows of 6"):
        Blocks().group(keys)
    with pytest.raises(OptionError, match="rows=0 is illegal"):
        Blocks(rows=0)
    with pytest.raises(OptionTypeError, match=r"columns=1\.5 is illegal"):
        Blocks(columns=1.5)
