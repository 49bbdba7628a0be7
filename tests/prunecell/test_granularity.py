"""Laws over every granularity of the table."""

import pytest
import torch

from prunecell.bits.mask import Mask
from prunecell.bits.order import Magnitudes
from prunecell.errors import OptionError, OptionTypeError
from prunecell.evidence import Evidence
from prunecell.fillers import Lowest
from prunecell.granularity import GRANULARITIES, Blocks, Heads, Slices, channels, filters, kernels

NEEDED = {"Heads": {"n_heads": 4}}
VALUES = [
    *(made(**NEEDED.get(name, {})) if isinstance(made, type) else made for name, made in GRANULARITIES.items()),
    Blocks(rows=4, columns=4),
    Heads(n_heads=2, dim=1),
    Heads(n_heads=2, stacked=2),
    Heads(n_heads=1),
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


def test_the_slices_that_have_names():
    assert (filters, channels, kernels) == (Slices(dims=(0,)), Slices(dims=(1,)), Slices(dims=(0, 1)))


@pytest.mark.parametrize(
    ("granularity", "shape", "rows_or_columns"),
    [
        (Heads(n_heads=4), (8, 6), [0, 1]),
        (Heads(n_heads=4, dim=1), (6, 8), [0, 1]),
        (Heads(n_heads=2, stacked=3), (12, 6), [0, 1, 4, 5, 8, 9]),
        (Heads(n_heads=2, stacked=3, dim=1), (5, 6), [0, 2, 4]),
    ],
    ids=repr,
)
def test_a_head_has_its_slice_of_each_projection(granularity, shape, rows_or_columns):
    first = torch.arange(granularity.n_heads) == 0
    keep = granularity.spread(Mask.from_bool(first), torch.Size(shape)).to_bool()
    expected = torch.zeros(shape, dtype=torch.bool)
    expected.transpose(0, granularity.dim)[rows_or_columns] = True
    assert torch.equal(keep, expected)


@pytest.mark.parametrize(
    ("granularity", "shape", "message"),
    [
        (
            Heads(n_heads=3, stacked=3),
            (12, 4),
            r"n_heads=3 is illegal for a weight of shape \(12, 4\): 9 slices do not",
        ),
        (Heads(n_heads=3, dim=2), (12, 4), r"dim=2 is illegal for a weight of shape \(12, 4\)"),
        (Blocks(), (4, 6), "blocks of 1 x 4 do not divide a weight"),
        (Slices(dims=(2,)), (4, 6), r"dims=\(2,\) is illegal for a weight"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused_with_the_name(granularity, shape, message):
    weight = torch.randn(shape)
    found = Evidence(name="q.weight", weight=weight, mask=Mask.full(weight.shape), generator=torch.Generator())
    with pytest.raises(OptionError, match=rf"^q\.weight: {message}"):
        Lowest(granularity=granularity)(found, 0.5)


@pytest.mark.parametrize("options", [{"n_heads": 0}, {"n_heads": 2, "dim": -1}, {"n_heads": 2, "stacked": 0}])
def test_illegal_heads_are_refused_by_name(options):
    with pytest.raises(OptionError, match=r"(n_heads=0|dim=-1|stacked=0) is illegal: it must be a whole number"):
        Heads(**options)


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
