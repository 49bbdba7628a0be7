import pytest
import torch
from torch import nn

from prunecell import Lowest, Pruner, PruneSpec, Random, Static, global_ranking, uniform
from prunecell.allocation import ALLOCATIONS, AtLeast, PerLayer, erk, lamp
from prunecell.criteria import random
from prunecell.described import shown
from prunecell.errors import OptionError, PlanError
from prunecell.fillers import SET, exact_count
from prunecell.granularity import Slices


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20), nn.Linear(20, 7))


NEEDED = {
    "PerLayer": {"sparsities": {"0.*": 0.95, "1.weight": 0.5, "*": 0.2}},
    "AtLeast": {"allocation": global_ranking, "density": 0.04},
}
VALUES = [
    *(made(**NEEDED[name]) if isinstance(made, type) else made for name, made in ALLOCATIONS.items()),
    *(AtLeast(allocation=inner, density=0.05) for inner in (uniform, lamp, erk)),
    AtLeast(allocation=PerLayer(sparsities={"0.*": 0.95, "*": 0.2}), density=0.05),
]
EXACT = [value for value in VALUES if getattr(value, "allocation", value) is not uniform]


def most(allocation):
    """The largest sparsity that it allows."""
    return 1 - allocation.density if isinstance(allocation, AtLeast) else 1


@pytest.mark.parametrize("allocation", VALUES, ids=shown)
@pytest.mark.parametrize("filler", [Lowest(), Random(), Lowest(granularity=Slices(dims=(0,)))], ids=repr)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.filterwarnings("ignore:all weights of")
def test_laws_that_hold_for_every_allocation(allocation, filler, sparsity):
    if sparsity > most(allocation):
        with pytest.raises(OptionError, match=r"sparsity=1 is illegal: AtLeast\(.*\) can prune 0\.9\d* at most"):
            Pruner(net(), PruneSpec(schedule=Static(sparsity=sparsity), allocation=allocation, filler=filler))
        return
    spec = PruneSpec(schedule=Static(sparsity=sparsity), allocation=allocation, filler=filler)
    first, second = (Pruner(net(), spec) for _ in range(2))
    assert sparsity <= first.sparsity < sparsity + 0.1
    assert all(torch.equal(mask, second.masks[name]) for name, mask in first.masks.items())


@pytest.mark.parametrize("filler", [Lowest(), Lowest(criterion=random), SET()], ids=repr)
@pytest.mark.parametrize("allocation", EXACT, ids=shown)
@pytest.mark.parametrize("sparsity", [0.0, 0.0001, 0.5, 0.71, 0.949])
@pytest.mark.filterwarnings("ignore:all weights of")
def test_a_budget_is_met_to_the_weight(filler, allocation, sparsity):
    spec = PruneSpec(schedule=Static(sparsity=sparsity), allocation=allocation, filler=filler)
    if isinstance(filler, SET) and global_ranking in {allocation, getattr(allocation, "allocation", None)}:
        with pytest.raises(PlanError, match=r"global_ranking needs a filler that ranks the weights of 0\.weight"):
            Pruner(net(), spec)
    else:
        weights = Pruner(net(), spec).report().weights
        assert sum(w.n_weights - w.n_kept for w in weights) == exact_count(sparsity, 1940)


@pytest.mark.filterwarnings("ignore:all weights of")
def test_a_global_budget_of_groups_of_unequal_size_is_counted_in_weights():
    model = nn.Sequential(nn.Linear(10, 4), nn.Linear(4, 10))
    for i, module in enumerate(model):
        nn.init.constant_(module.weight, 2.0 - i)
    spec = PruneSpec(
        schedule=Static(sparsity=0.6), allocation=global_ranking, filler=Lowest(granularity=Slices(dims=(0,)))
    )
    assert [w.n_kept for w in Pruner(model, spec).report().weights] == [30, 0]


@pytest.mark.parametrize("sparsity", [0.0, 0.123, 0.5, 0.9, 1.0])
def test_a_global_budget_is_one_threshold_over_all_weights(sparsity):
    model = net()
    before = torch.cat([m.weight.detach().view(-1).clone() for m in model])
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=sparsity), allocation=global_ranking))
    keep = torch.cat([mask.view(-1) for mask in pruner.masks.values()])
    m = -int(-sparsity * len(before) // 1)
    assert int((~keep).sum()) == m
    expected = torch.ones(len(before), dtype=torch.bool)
    expected[before.abs().sort(stable=True).indices[:m]] = False
    assert torch.equal(keep, expected)


@pytest.mark.filterwarnings("ignore:all weights of")
def test_ties_over_several_tensors_are_still_exact():
    model = net()
    for module in model:
        nn.init.ones_(module.weight)
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.7), allocation=global_ranking))
    kept = [w.n_kept for w in pruner.report().weights]
    assert kept == [0, 1940 * 3 // 10 - 140, 140]


def test_a_global_budget_serves_other_fillers_too():
    pruner = Pruner(net(), PruneSpec(schedule=Static(sparsity=0.7), allocation=global_ranking, filler=Random()))
    assert pruner.sparsity == pytest.approx(0.7, abs=0.002)


def test_weights_that_cannot_be_compared_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, dtype=torch.float64))
    with pytest.raises(PlanError, match=r"torch.float32 on cpu \(0.weight\), torch.float64 on cpu \(1.weight\)"):
        Pruner(model, PruneSpec(schedule=Static(sparsity=0.7), allocation=global_ranking))


def test_a_filler_that_does_not_rank_is_refused():
    spec = PruneSpec(schedule=Static(sparsity=0.7), allocation=global_ranking, filler=lambda e, _: e.weight > 0)
    with pytest.raises(PlanError, match=r"global_ranking needs a filler that ranks the weights of 0\.weight"):
        Pruner(net(), spec)
