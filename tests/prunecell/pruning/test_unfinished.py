"""A Pruner that lets go says what was not reached, once, and nothing where nothing was missed."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn

from prunecell import Cubic, Lowest, Pruner, PruneSpec, Static
from prunecell.criteria import CRITERIA, magnitude, movement, synflow, taylor
from prunecell.errors import OptionError, UnfinishedWarning
from prunecell.fillers import RigL
from prunecell.granularity import filters
from prunecell.schedules import SCHEDULES, Exponential, Gradual, Iterative, Moving, OneCycle

ENDING = {  # each over after 20 steps of 4 samples
    "Gradual": Gradual(sparsity=0.8, start=0.2, gamma=0.3, every_samples=40),
    "Cubic": Cubic(sparsity=0.8, steps=20),
    "Exponential": Exponential(sparsity=0.8, samples=80),
    "OneCycle": OneCycle(sparsity=0.8, epochs=2),
    "Iterative": Iterative(sparsity=0.75, fraction=0.5, steps=10),
    "Moving": Moving(sparsity=0.8, every=5, steps=20),
}


class Run:
    """A model that is pruned in 2 epochs of 10 steps of 4 samples."""

    def __init__(self, spec, *, attached=True):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.pruner = Pruner(self.model, spec, optimizer=self.optimizer if attached else None, epoch_size=40)

    def train(self, n_steps, told=lambda _: True):
        for step in range(n_steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(4, 8)).square().mean().backward()
            self.optimizer.step()
            if told(step):
                self.pruner.step(4)


def warned(pruner):
    """What one warning says at the end; a second call says nothing."""
    with pytest.warns(UnfinishedWarning) as caught:
        report = pruner.finalize()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert pruner.finalize() == report
    return str(caught[0].message)


def test_every_schedule_is_here():
    assert ENDING.keys() == SCHEDULES.keys() - {"Static"}


@pytest.mark.parametrize("criterion", [None, taylor, movement], ids=lambda c: getattr(c, "__name__", "values"))
@pytest.mark.parametrize("schedule", [*ENDING.values(), Static(sparsity=0.8)], ids=lambda s: type(s).__name__)
def test_a_schedule_that_came_to_its_end_is_not_told(schedule, criterion):
    run = Run(PruneSpec(schedule=schedule, filler=Lowest() if criterion is None else Lowest(criterion=criterion)))
    run.train(24)
    run.pruner.finalize()


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("schedule", ENDING.values(), ids=ENDING)
def test_one_that_did_not_is_told_with_where_it_stands(schedule, attached):
    run = Run(PruneSpec(schedule=schedule), attached=attached)
    run.train(7)
    told = warned(run.pruner)
    standing = {"Gradual": "0 of 2 updates", "Exponential": "28 of 80 samples", "OneCycle": "0.7 of 2 epochs"}
    assert f"{type(schedule).__name__}(" in told
    assert f"stands at {standing.get(type(schedule).__name__, '7 of 20 steps')}, " in told
    assert f"{run.pruner.sparsity:.2%} pruned where {schedule.last:.2%} was asked for" in told
    assert told.endswith(": train on, or let the schedule end earlier")


@pytest.mark.parametrize("schedule", ENDING.values(), ids=ENDING)
def test_it_may_be_meant(schedule):
    run = Run(PruneSpec(schedule=schedule))
    run.train(7)
    run.pruner.finalize(early=True)


@pytest.mark.parametrize("schedule", ENDING.values(), ids=ENDING)
@pytest.mark.parametrize(
    ("n_steps", "told", "message"),
    [
        (0, lambda _: True, r"pruner\.step\(n_samples\) was never called: call it after each"),
        (1, lambda _: False, r"pruner\.step\(n_samples\) was never called in 1 step of the optimizer: call it"),
        (30, lambda _: False, r"pruner\.step\(n_samples\) was never called in 30 steps of the optimizer: call it"),
        (30, lambda n: n == 9, r"pruner\.step\(n_samples\) was called once in 30 steps of the optimizer: call it"),
        (30, lambda n: not n % 10, r"pruner\.step\(n_samples\) was called 3 times in 30 steps of the optimizer"),
    ],
    ids=["untrained", "one", "never", "once", "seldom"],
)
def test_steps_that_the_pruner_was_not_told_of_are_counted(schedule, n_steps, told, message):
    run = Run(PruneSpec(schedule=schedule))
    run.train(n_steps, told)
    assert re.search(message, warned(run.pruner))


def _loaded(run):
    fresh = Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=20)))
    fresh.pruner.load_state_dict(run.pruner.state_dict())
    return fresh


WAYS_ON = {"a state": _loaded, "a copy": copy.deepcopy, "a pickle": lambda run: pickle.loads(pickle.dumps(run))}  # noqa: S301
"""In which another process, or another object, goes on."""


@pytest.mark.parametrize("way", WAYS_ON)
@pytest.mark.parametrize(
    ("n_steps", "message"),
    [
        (0, r"stands at 7 of 20 steps, .*: train on, or let the schedule end earlier$"),
        (3, r"stands at 7 of 20 steps, .*: pruner\.step\(n_samples\) was never called in 3 steps of the optimizer"),
    ],
)
def test_what_was_told_before_a_run_went_on_is_known(way, n_steps, message):
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=20)))
    run.train(7)
    run = WAYS_ON[way](run)
    run.train(n_steps, lambda _: False)
    assert re.search(message, warned(run.pruner))


def test_a_clock_that_was_told_of_all_samples_in_few_calls_missed_nothing():
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, epochs=2)))
    run.train(20, lambda _: False)
    run.pruner.step(40)
    run.pruner.step(40)
    run.pruner.finalize()


def test_each_of_several_optimizers_steps_by_itself():
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=20)))
    other = torch.optim.SGD(run.model.parameters(), lr=0.01)
    run.pruner.attach(other)
    for _ in range(10):
        run.train(1)
        other.step()
    assert warned(run.pruner).endswith("train on, or let the schedule end earlier")


@pytest.mark.parametrize(("n_updates", "is_told"), [(100, False), (1, True)])
def test_a_last_batch_that_is_left_out_counts_where_it_changes_something(n_updates, is_told):
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, samples=1000, n_updates=n_updates)))
    for _ in range(199):
        run.pruner.step(5)
    if is_told:
        assert "995 of 1,000 samples, 0.00% pruned where 80.00% was asked for" in warned(run.pruner)
    else:
        run.pruner.finalize()


ALL_GONE = {  # no more weights are to go, though the schedule goes on
    "rounded up": (PruneSpec(schedule=Cubic(sparsity=0.8, epochs=2)), 75),
    "whole filters": (PruneSpec(schedule=Cubic(sparsity=0.7, epochs=2), filler=Lowest(granularity=filters)), 72),
    "none is asked for": (PruneSpec(schedule=Cubic(sparsity=0.0, epochs=2)), 8),
    "none moves": (PruneSpec(schedule=Moving(sparsity=0.0, every=5, steps=20)), 8),
}


@pytest.mark.parametrize("case", ALL_GONE)
def test_where_no_more_weights_are_to_go_nothing_is_told(case):
    spec, n_samples = ALL_GONE[case]
    run = Run(spec)
    run.pruner.step(n_samples // 2)
    run.pruner.step(n_samples - n_samples // 2)
    before = run.pruner.sparsity
    copied = copy.deepcopy(run)
    copied.pruner.step(40)
    copied.pruner.step(40)
    assert copied.pruner.sparsity == before
    run.pruner.finalize()


@pytest.mark.parametrize("how", ["state", "deepcopy"])
@pytest.mark.parametrize("n_more", [3, 10])
def test_a_run_that_goes_on_is_judged_by_its_clock(how, n_more):
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=20)))
    run.train(10)
    if how == "state":
        first, run = run, Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=20)))
        run.pruner.load_state_dict(first.pruner.state_dict())
    else:
        run = copy.deepcopy(run)
    run.train(n_more)
    if n_more == 10:
        run.pruner.finalize()
    else:
        assert "stands at 13 of 20 steps" in warned(run.pruner)


@pytest.mark.parametrize("schedule", [lambda clock: min(0.5, clock.steps / 10), Static(sparsity=0)], ids=["plain", "0"])
def test_where_no_end_is_known_and_where_nothing_is_asked_for_nothing_is_told(schedule):
    for criterion in (taylor, magnitude):
        run = Run(PruneSpec(schedule=schedule, filler=Lowest(criterion=criterion)))
        run.train(2, lambda _: criterion is magnitude)  # noqa: B023 - called in this round
        run.pruner.finalize()


# ---- what is waited for

WAITS = {
    "magnitude": "",
    "random": "",
    "fpgm": "",
    "wanda": "inputs in training",
    "ria": "inputs in training",
    "grasp": "calibrate(batches, loss)",
    "synflow": "calibrate(batches, loss)",
    "BlockFisher": "gradients of more steps",
    "norm_scale": "a forward pass in training",
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_report_says_what_each_weight_waits_for(name):
    criterion = CRITERIA[name]
    criterion = criterion() if isinstance(criterion, type) else criterion
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16))
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=criterion)))
    waits = WAITS.get(name, "gradients")
    report = pruner.report()
    assert [weight.waits_for for weight in report.weights] == [waits]
    assert (f"waits for {waits}: 0.weight" in str(report).splitlines()) == bool(waits)
    assert pruner.sparsity == (0 if waits else 0.5)
    if waits:
        told = warned(pruner)
        assert f"0.weight waits for {waits}, 0.00% pruned where 50.00% was asked for" in told
        assert told.endswith("call pruner.calibrate(batches, loss)" if "calibrate" in waits else "call it after each")


def test_what_came_is_not_waited_for():
    run = Run(PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    run.train(1, lambda _: False)
    assert {weight.waits_for for weight in run.pruner.report().weights} == {"step(n_samples)"}
    run.pruner.step(4)
    assert {weight.waits_for for weight in run.pruner.report().weights} == {""}
    run.pruner.finalize()


def test_what_a_filler_needs_later_only_is_not_waited_for_at_first():
    pruner = Run(PruneSpec(schedule=ENDING["Moving"], filler=RigL())).pruner
    assert {weight.waits_for for weight in pruner.report().weights} == {""}


def test_calibration_ends_the_waiting():
    spec = PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=synflow))
    run = Run(spec)
    run.pruner.calibrate([(torch.randn(2, 8), torch.tensor([0, 1]))], nn.functional.cross_entropy)
    assert {weight.waits_for for weight in run.pruner.report().weights} == {""}
    run.pruner.finalize()


@pytest.mark.parametrize("schedule", [Cubic(sparsity=0.8, epochs=2), OneCycle(sparsity=0.8, epochs=2)], ids=repr)
def test_an_epoch_size_in_batches_and_samples_that_are_steps_are_seen(schedule):
    run = Run(PruneSpec(schedule=schedule))
    sparsity, state = run.pruner.sparsity, run.pruner.state_dict()
    with pytest.raises(OptionError, match=r"a step of 100 samples is more than epoch_size=40: epoch_size counts"):
        run.pruner.step(100)
    assert run.pruner.sparsity == sparsity
    assert {**run.pruner.state_dict(), "weights": ()} == {**state, "weights": ()}
    for _ in range(20):
        run.pruner.step(1)
    assert warned(run.pruner).endswith("20 samples in 20 steps: give the samples of the batch, len(x)")


def test_steps_of_one_sample_are_right_where_steps_are_counted():
    run = Run(PruneSpec(schedule=Cubic(sparsity=0.8, steps=50)))
    for _ in range(20):
        run.pruner.step(1)
    assert warned(run.pruner).endswith("train on, or let the schedule end earlier")
