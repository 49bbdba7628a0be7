"""The law of the end: what a schedule comes to is refused before the first step, or it is reached."""

import pytest
import torch
from torch import nn

from prunecell import Cubic, Gradual, Lowest, NofM, Pruner, PruneSpec, Static, global_ranking
from prunecell.allocation import AtLeast, PerLayer, erk, lamp, uniform
from prunecell.criteria import taylor
from prunecell.errors import OptionError, PlanError
from prunecell.granularity import Blocks, filters
from prunecell.schedules import SCHEDULES, Clock, Exponential, Foreseen, Iterative, Moving, OneCycle


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))


def schedules(s):
    return {
        "Static": Static(sparsity=s),
        "Gradual": Gradual(sparsity=s, start=0.0, gamma=0.2, every_samples=8),
        "Cubic": Cubic(sparsity=s, steps=4, n_updates=4),
        "Exponential": Exponential(sparsity=s, steps=4, n_updates=4),
        "OneCycle": OneCycle(sparsity=s, steps=4, n_updates=4),
        "Iterative": Iterative(sparsity=s, fraction=0.5, steps=1),
        "Moving": Moving(sparsity=s, every=1, steps=4),
    }


FILLERS = {"weights": Lowest(), "filters": Lowest(granularity=filters), "n of m": NofM(n=2, m=4)}
ALLOCATIONS = {
    "uniform": uniform,
    "erk": erk,
    "at least": AtLeast(allocation=uniform, density=0.4),
    "at least of erk": AtLeast(allocation=erk, density=0.2),
    "at least of lamp": AtLeast(allocation=lamp, density=0.2),
    "per layer": PerLayer(sparsities={"0.*": 0.9, "*": 0.0}),
    "lamp": lamp,
    "ranked": global_ranking,
}


def test_all_our_schedules_say_what_they_come_to():
    for name, schedule in schedules(0.7).items():
        assert isinstance(schedule, Foreseen), name
        assert schedule.last == schedule(Clock(samples=10**6, steps=10**6)) == 0.7, name
    assert schedules(0.7).keys() == SCHEDULES.keys()


@pytest.mark.filterwarnings("ignore:all weights of:RuntimeWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("filler", FILLERS)
def test_an_end_is_refused_at_once_or_reached(schedule, allocation, filler):
    problems = []
    for sparsity in (0.3, 0.5, 0.61, 0.97):
        model = network()
        before = [p.clone() for p in model.parameters()]
        plan = PruneSpec(
            schedule=schedules(sparsity)[schedule], filler=FILLERS[filler], allocation=ALLOCATIONS[allocation]
        )
        try:
            pruner = Pruner(model, plan)
        except OptionError as error:
            problems.append(str(error))
            if not all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)):
                pytest.fail("a Pruner that was refused pruned")
            continue
        for _ in range(6):
            pruner.step(8)
        assert pruner.sparsity >= sparsity
    assert all(" at most" in problem for problem in problems)
    assert len(problems) >= (filler == "n of m") + ("at least" in allocation) + (allocation == "per layer")


@pytest.mark.parametrize(
    ("filler", "problem"),
    [
        (Lowest(criterion=taylor, granularity=Blocks(rows=3, columns=4)), "0.weight: blocks of 3 x 4 do not divide"),
        (NofM(n=1, m=5, criterion=taylor), "5 does not divide 16"),
        (NofM(dim=3, criterion=taylor), r"dim=3 is illegal for 0\.weight"),
    ],
)
def test_what_does_not_fit_a_shape_is_told_before_gradients_come(filler, problem):
    with pytest.raises(OptionError, match=f"the end of Cubic.* cannot be reached: .*{problem}"):
        Pruner(network(), PruneSpec(schedule=Cubic(sparsity=0.5, steps=100), filler=filler))


def _by_size_of_values(evidences, sparsity):
    """All from the weights with the smallest mean first, which is far more than n of m can prune of one."""
    left, shares = sparsity * sum(e.weight.numel() for e in evidences), {}
    for e in sorted(evidences, key=lambda e: float(e.weight.abs().mean())):
        shares[e.name] = min(left / e.weight.numel(), 1.0)
        left -= shares[e.name] * e.weight.numel()
    return [shares[e.name] for e in evidences]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "allocation", [lamp, global_ranking, AtLeast(allocation=lamp, density=0.1), _by_size_of_values]
)
@pytest.mark.parametrize("filler", [NofM(n=2, m=4), NofM(n=1, m=4), NofM(n=3, m=4, dim=0)])
def test_what_a_filler_cannot_prune_of_one_weight_goes_from_the_others(filler, allocation, schedule):
    most = (filler.m - filler.n) / filler.m
    for sparsity in (most / 3, most * 0.9, most):
        model = network()
        plan = PruneSpec(schedule=schedules(sparsity)[schedule], filler=filler, allocation=allocation)
        pruner = Pruner(model, plan)
        for _ in range(6):
            pruner.step(8)
            n, pruned = (
                sum(m.numel() for m in pruner.masks.values()),
                sum(int((~m).sum()) for m in pruner.masks.values()),
            )
            wanted = pruner.target_sparsity("0.weight")
            assert wanted <= pruned / n <= wanted + 2 / n  # a share of each weight is rounded up
            for mask in pruner.masks.values():
                along = mask.movedim(filler.dim, -1).reshape(-1, filler.m).sum(1)
                assert int(along.min()) >= filler.n
        assert pruner.sparsity >= sparsity


def test_an_allocation_that_cannot_do_without_values_is_believed():
    def by_deviation(evidences, sparsity):
        del sparsity
        return [min(float(e.weight.std()), 0.5) for e in evidences]

    schedule = Cubic(sparsity=0.5, steps=4)
    assert Pruner(network(), PruneSpec(schedule=schedule, allocation=by_deviation))
    for wrong in (lambda evidences, _: [2.0] * len(evidences), lambda _, __: [0.5]):
        with pytest.raises(OptionError):
            Pruner(network(), PruneSpec(schedule=schedule, allocation=wrong))
    with pytest.raises(PlanError):
        Pruner(network(), PruneSpec(schedule=schedule, allocation=global_ranking, filler=lambda e, _: e.mask))


def test_whoever_was_refused_holds_nothing():
    model = network()
    with pytest.raises(OptionError, match=r"the end of Cubic\(sparsity=0\.6, steps=9\) cannot be reached"):
        Pruner(model, PruneSpec(schedule=Cubic(sparsity=0.6, steps=9), filler=NofM()))
    Pruner(model, PruneSpec(schedule=Cubic(sparsity=0.5, steps=9), filler=NofM()))
