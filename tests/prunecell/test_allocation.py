import pytest
import torch
from torch import nn

from prunecell import Pruner, PruneSpec, Random, Static, global_ranking
from prunecell.errors import PlanError


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20), nn.Linear(20, 7))


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
