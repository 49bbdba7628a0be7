"""No slice whose norm a layer divides by loses all its weights."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from prunecell import Cubic, IterNonStruct, KeepZeros, Lowest, Pruner, PruneSpec, Random, Static, global_ranking
from prunecell.bits.mask import Mask
from prunecell.errors import OptionError
from prunecell.evidence import Evidence
from prunecell.granularity import Slices
from prunecell.pruning.normed import n_starved, spared

SHAPE = (5, 4, 3)
DIMS = [dims for n in range(4) for dims in itertools.combinations(range(3), n)]


def evidence(weight, rank=None):
    mask = Mask.full(weight.shape)
    return Evidence(name="w", weight=weight, mask=mask, generator=torch.Generator(), rank=rank)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.filterwarnings("ignore:.*is pruned, not")
def test_a_mask_loses_no_slice_and_as_little_sparsity_as_it_can(dims, sparsity):
    torch.manual_seed(0)
    weight = torch.randn(SHAPE)
    known = evidence(weight, Lowest().rank)
    first = Lowest()(known, sparsity)
    mask = spared(first, known, dims, sparsity)
    keep = mask.to_bool()
    kept = keep.movedim(dims, tuple(range(len(dims)))) if dims else keep.unsqueeze(0)
    n_slices = torch.Size(SHAPE[dim] for dim in dims).numel()
    assert kept.reshape(n_slices, -1).any(1).all()
    assert n_starved(mask, weight, dims) == 0
    assert mask.n_pruned == min(first.n_pruned, weight.numel() - n_slices)
    if not n_starved(first, weight, dims):
        assert mask.equals(first)


def test_what_is_kept_instead_is_the_largest_and_what_goes_instead_is_the_lowest():
    weight = torch.tensor([[0.1, -0.3, 0.2], [5.0, 4.0, 6.0], [7.0, 8.0, 9.0]])
    known = evidence(weight, Lowest().rank)
    mask = spared(Lowest()(known, 0.4), known, (0,), 0.4)
    assert mask.to_bool().tolist() == [[False, True, False], [False, False, True], [True, True, True]]


def test_a_slice_of_zeros_and_nan_is_left_as_it_is():
    weight = torch.tensor([[0.0, 0.0], [1.0, torch.nan], [3.0, 2.0]])
    known = evidence(weight, Lowest().rank)
    mask = Mask.from_bool(torch.tensor([[False, False], [True, False], [True, False]]))
    assert spared(mask, known, (0,), 0.5).equals(mask)


@pytest.mark.parametrize("filler", [Lowest(), Lowest(revives=True), Random(), KeepZeros(), IterNonStruct()])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.filterwarnings("ignore:.*is pruned, not")
def test_training_under_weight_norm_meets_no_nan(filler, dim):
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Linear(6, 16), dim=dim), nn.Tanh(), weight_norm(nn.Linear(16, 1), dim=dim))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    spec = PruneSpec(schedule=Cubic(sparsity=0.99, steps=6), filler=filler)
    pruner = Pruner(model, spec, optimizer=optimizer)
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 6)).square().mean()
        assert loss.isfinite()
        loss.backward()
        optimizer.step()
        pruner.step(8)
    counted = sum(int((model[i].parametrizations.weight.original1 == 0).sum()) for i in (0, 2))
    assert pruner.sparsity == 1 - (16 * 6 + 16 - counted) / (16 * 6 + 16)
    assert pruner.finalize().sparsity > 0.8


def test_where_many_rows_starve_the_sparsity_is_still_what_was_asked_for():
    torch.manual_seed(0)
    model = weight_norm(nn.Linear(64, 64))
    pruner = Pruner(model, {"*original1": PruneSpec(schedule=Static(sparsity=0.98))})
    assert pruner.sparsity >= 0.98
    assert float((model.weight == 0).float().mean()) == pytest.approx(pruner.sparsity)
    assert model(torch.randn(2, 64)).isfinite().all()


def test_a_global_budget_empties_no_slice():
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Linear(8, 8)), weight_norm(nn.Linear(8, 8)))
    model[0].parametrizations.weight.original1.data /= 100
    spec = PruneSpec(schedule=Static(sparsity=0.5), allocation=global_ranking)
    with pytest.warns(RuntimeWarning, match="of 0.weight.original1 is pruned, not"):
        Pruner(model, spec)
    assert model(torch.randn(2, 8)).isfinite().all()


def test_whole_rows_cannot_go_and_a_warning_says_so():
    torch.manual_seed(0)
    model = weight_norm(nn.Linear(8, 6))
    spec = PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(granularity=Slices(dims=(0,))))
    with pytest.warns(
        RuntimeWarning, match=r"43.75% of weight.original1 is pruned, not 50.00%: .* remove the norm first"
    ):
        pruner = Pruner(model, spec)
    assert pruner.sparsity == 0.4375  # one weight of each of three rows is kept
    assert model(torch.randn(2, 8)).isfinite().all()


def test_masks_from_outside_that_empty_a_row_are_refused_before_anything_changes():
    model = weight_norm(nn.Linear(8, 6))
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0)))
    keep = torch.ones(6, 8, dtype=torch.bool)
    keep[2] = False
    with pytest.raises(OptionError, match=r"the mask of weight.original1 is illegal: it prunes all of 1 slices"):
        pruner.set_masks({"weight.original1": keep})
    assert pruner.sparsity == 0
    keep[2, 5] = True
    pruner.set_masks({"weight.original1": keep})
    assert model(torch.randn(2, 8)).isfinite().all()
