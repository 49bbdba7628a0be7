"""Dynamic sparse training: a slow twin, exact counts in training, what grows begins at zero."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from prunecell import Cubic, Gradual, Pruner, PruneSpec, Static
from prunecell.allocation import erk
from prunecell.bits.mask import Mask
from prunecell.errors import OptionError
from prunecell.evidence import Evidence, Needs
from prunecell.fillers import SET, RigL, exact_count
from prunecell.schedules import Moving

FILLERS = [SET(), RigL(), SET(fraction=1), RigL(fraction=0.05), RigL(fraction=0)]
MOVING = PruneSpec(schedule=Moving(sparsity=0.8, steps=12, every=3), filler=RigL(fraction=0.5), allocation=erk)


def evidence(n_pruned, progress=0.0, seed=0, shape=(20, 15)):
    draw = torch.Generator().manual_seed(seed)
    keep = (torch.randperm(math.prod(shape), generator=draw) >= n_pruned).view(shape)
    return Evidence(
        name="w",
        weight=torch.randn(shape, generator=draw) * keep,
        mask=Mask.from_bool(keep),
        generator=torch.Generator().manual_seed(seed),
        collected={Needs.GRADIENT: torch.randn(shape, generator=draw)},
        progress=progress,
    )


def slow_rigl(found, sparsity, fraction):
    """The paper's algorithm over lists; without what was just dropped."""
    weight, gradient = found.weight.abs().flatten().tolist(), found.gradient.abs().flatten().tolist()
    active = [i for i, keep in enumerate(found.mask.to_bool().flatten().tolist()) if keep]
    inactive = [i for i in range(len(weight)) if i not in active]
    n_kept = len(weight) - exact_count(sparsity, len(weight))
    k = min(int(fraction / 2 * (1 + math.cos(math.pi * found.progress)) * n_kept), len(inactive))
    stay = sorted(active, key=lambda i: (weight[i], i))[::-1][: n_kept - k]
    grow = sorted(inactive, key=lambda i: (gradient[i], i))[::-1][: n_kept - len(stay)]
    return sorted(stay + grow)


@pytest.mark.parametrize("n_pruned", [30, 150, 240, 299, 300])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_rigl_keeps_what_its_slow_twin_keeps(n_pruned, sparsity, progress):
    found = evidence(n_pruned, progress)
    for fraction in (0, 0.3, 1):
        keep = RigL(fraction=fraction)(found, sparsity).to_bool()
        assert keep.flatten().nonzero().flatten().tolist() == slow_rigl(found, sparsity, fraction)


@pytest.mark.parametrize("filler", FILLERS, ids=repr)
@pytest.mark.parametrize("n_pruned", [150, 240])
def test_counts_are_exact_and_what_is_dropped_does_not_grow(filler, n_pruned):
    for progress in (0.0, 0.5, 1.0):
        found = evidence(n_pruned, progress)
        before, sparsity = found.mask.to_bool(), n_pruned / 300
        after = filler(found, sparsity).to_bool()
        k = min(int(filler.fraction / 2 * (1 + math.cos(math.pi * progress)) * (300 - n_pruned)), n_pruned)
        dropped, grown = before & ~after, after & ~before
        assert int((~after).sum()) == n_pruned
        assert int(dropped.sum()) == int(grown.sum()) == k
        if k < 300 - n_pruned and k:
            assert found.weight[dropped].abs().max() <= found.weight[before & after].abs().min()


def test_set_grows_uniformly_and_the_same_for_the_same_seed():
    hits = torch.zeros(20, 15)
    for seed in range(100):
        found = replace(evidence(240), generator=torch.Generator().manual_seed(seed))
        again = replace(evidence(240), generator=torch.Generator().manual_seed(seed))
        after = SET(fraction=0.5)(found, 0.8)
        assert after.equals(SET(fraction=0.5)(again, 0.8))
        hits += after.to_bool() & ~found.mask.to_bool()
    grown = hits[~found.mask.to_bool()]
    assert grown.mean() == 100 * 30 / 240
    assert 1 < grown.min() < grown.max() < 28  # 12.5 expected, standard deviation 3.3


@pytest.mark.parametrize("filler", [SET(), RigL()], ids=repr)
def test_the_first_mask_is_drawn_at_once(mlp, filler):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.75), filler=filler, seed=1))
    assert pruner.sparsity == 0.75
    kept = mlp.model[0].weight[pruner.masks["0.weight"]].abs().mean()
    assert kept < 1.2 * mlp.make()[0].weight.abs().mean(), "at random, not the largest"


@pytest.mark.parametrize("solver", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD])
def test_training_keeps_the_sparsity_and_grown_weights_begin_at_zero_with_their_moments(mlp, solver):
    options = {"momentum": 0.9} if solver is torch.optim.SGD else {}
    solver = solver(mlp.model.parameters(), lr=0.01, **options)
    pruner = Pruner(mlp.model, MOVING, optimizer=solver)
    counts, before, n_moves = [int(mask.sum()) for mask in pruner.masks.values()], pruner.masks, 0
    for step in range(1, 16):
        mlp.train(solver, pruner, steps=1)
        assert [int(mask.sum()) for mask in pruner.masks.values()] == counts
        for name, mask in pruner.masks.items():
            parameter, grown = mlp.model.get_parameter(name), mask & ~before[name]
            assert bool(grown.any()) == (step in {3, 6, 9})
            n_moves += int(grown.sum())
            assert not parameter[grown].any()
            assert not parameter[~mask].any()
            moments = [m for m in solver.state[parameter].values() if isinstance(m, torch.Tensor) and m.ndim == 2]
            assert moments
            assert not any(moment[grown].any() for moment in moments)
        before = pruner.masks
    assert n_moves > 20


@pytest.mark.parametrize("filler", [SET(), RigL()], ids=repr)
def test_what_was_dense_until_now_is_pruned_by_magnitude(filler):
    found = replace(evidence(0, progress=0.1), collected={})
    keep = filler(found, 0.7).to_bool()
    assert found.weight[~keep].abs().max() <= found.weight[keep].abs().min()


def test_a_schedule_that_rises_prunes_and_grows(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    schedule = Cubic(sparsity=0.9, start=0.5, steps=8, n_updates=8)
    pruner = Pruner(mlp.model, PruneSpec(schedule=schedule, filler=RigL()), optimizer=solver)
    before, n_grown = pruner.masks, 0
    for _ in range(9):
        mlp.train(solver, pruner, steps=1)
        n_grown += sum(int((mask & ~before[name]).sum()) for name, mask in pruner.masks.items())
        for name, mask in pruner.masks.items():
            assert int((~mask).sum()) == exact_count(pruner.target_sparsity(name), mask.numel())
        before = pruner.masks
    assert n_grown > 10
    assert 0.9 <= pruner.sparsity < 0.9 + 2 / 512


@pytest.mark.parametrize("stop", [2, 3, 5, 9])
@pytest.mark.parametrize("filler", [SET(), RigL()], ids=repr)
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(mlp, filler, stop):
    spec = replace(MOVING, filler=filler)

    def begun():
        task = type(mlp)("mlp")
        solver = torch.optim.Adam(task.model.parameters(), lr=0.01)
        return task, solver, Pruner(task.model, spec, optimizer=solver)

    task, solver, pruner = begun()
    task.train(solver, pruner, steps=stop)
    states = copy.deepcopy([part.state_dict() for part in (task.model, solver, pruner)])
    task.train(solver, pruner, steps=14 - stop)
    other, solver, pruner = begun()
    for part, state in zip((other.model, solver, pruner), states, strict=True):
        part.load_state_dict(state)
    other.train(solver, pruner, steps=14 - stop)
    whole, resumed = task.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_masks_from_outside_move_on_from_there(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, {"0.weight": MOVING}, optimizer=solver)
    given = torch.zeros(32, 12, dtype=torch.bool)
    given[:8, :9] = True
    pruner.set_masks({"0.weight": given})
    mlp.train(solver, pruner, steps=3)
    after = pruner.masks["0.weight"]
    assert int(after.sum()) == 384 - exact_count(0.8, 384)
    assert 0 < int((after & given).sum()) < 72


def test_nothing_pruned_and_all_pruned_are_legal():
    model = nn.Linear(4, 4)
    for sparsity in (0.0, 1.0):
        spec = PruneSpec(schedule=Moving(sparsity=sparsity, steps=4, every=1), filler=RigL())
        pruner = Pruner(model, spec)
        for _ in range(4):
            model(torch.ones(2, 4)).sum().backward()
            pruner.step(2)
            assert pruner.sparsity == sparsity
        pruner.finalize()


def test_a_dense_network_is_pruned_by_magnitude_under_every_schedule_that_rises():
    for schedule in (Cubic(sparsity=0.5, steps=4, n_updates=2), Gradual(sparsity=0.5, start=0, every_samples=8)):
        model = nn.Linear(10, 10)
        before = model.weight.detach().clone()
        pruner = Pruner(model, PruneSpec(schedule=schedule, filler=RigL()))
        while not pruner.sparsity:
            model(torch.ones(4, 10)).sum().backward()
            pruner.step(4)
        keep = pruner.masks["weight"]
        assert before[~keep].abs().max() < before[keep].abs().min()
        pruner.finalize(early=True)


@pytest.mark.parametrize("kind", [SET, RigL])
def test_an_illegal_fraction_is_refused_by_name(kind):
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(OptionError, match=rf"fraction={value} is illegal: it must be a number in \[0, 1\]"):
            kind(fraction=value)
