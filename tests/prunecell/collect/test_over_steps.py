"""What adds up over many steps: movement, and the gradients of the last steps."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from prunecell import Cubic, Lowest, NofM, Pruner, PruneSpec, Static
from prunecell.criteria import BlockFisher, grasp, movement, needs, synflow, taylor
from prunecell.described import shown
from prunecell.errors import OptionError, StateError
from prunecell.evidence import Needs


@dataclass(frozen=True, kw_only=True)
class Moving:
    """An update every so many steps."""

    every_steps: int
    moves: ClassVar[bool] = True
    counts_epochs: ClassVar[bool] = False

    def __call__(self, _):
        return 0.5

    def update(self, clock):
        return clock.steps // self.every_steps


@dataclass(frozen=True)
class Last:
    """A criterion that remembers what it finds of the last gradients."""

    n_gradients: int = 3
    needs: ClassVar[Needs] = Needs.GRADIENT_SAMPLES
    seen: ClassVar[list] = []

    def __call__(self, evidence):
        if evidence.name == "0.weight":
            self.seen.append(evidence.gradient_samples.clone())
        return evidence.weight.abs()


def trainer(model, criterion, schedule, **options):
    solver = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return solver, Pruner(
        model, PruneSpec(schedule=schedule, filler=Lowest(criterion=criterion, **options)), optimizer=solver
    )


def test_the_gradients_are_those_of_the_last_steps_whole_where_the_mask_prunes(mlp):
    Last.seen.clear()
    solver, pruner = trainer(mlp.model, Last(), Moving(every_steps=4), revives=True)
    steps = []
    for step in range(1, 13):
        steps.append(torch.autograd.grad(mlp.loss(), mlp.model[0].weight)[0])
        assert (pruner.sparsity > 0) == (step > 3), "the first masks wait for three gradients"
        mlp.train(solver, pruner, steps=1)
    assert len(Last.seen) == 4
    for found, last in zip(Last.seen, (3, 4, 8, 12), strict=True):
        torch.testing.assert_close(found, torch.stack(steps[last - 3 : last]))


def test_they_are_kept_only_where_an_update_is_near(mlp):
    solver, pruner = trainer(mlp.model, Last(), Moving(every_steps=6))
    n_kept = []
    for _ in range(13):
        mlp.train(solver, pruner, steps=1)
        n_kept.append(max(len(w.collector.gradients.samples) for w in pruner._weights.values()))
    assert n_kept == [1, 2, 3, 3, 3, 0, 0, 0, 0, 1, 2, 0, 0]
    pruner.finalize()


@pytest.mark.parametrize("criterion", [movement, BlockFisher(n_gradients=2)], ids=["movement", "block fisher"])
def test_finalize_and_a_schedule_that_never_moves_keep_nothing(mlp, criterion):
    solver, pruner = trainer(mlp.model, criterion, Static(sparsity=0.5))
    mlp.train(solver, pruner, steps=3)
    assert pruner.sparsity == 0.5
    assert not any(
        w.collector.gradients.adding or any(map(torch.is_tensor, w.collector.gradients.sums()))
        for w in pruner._weights.values()
    )
    solver, pruner = trainer(other := mlp.make(), criterion, Moving(every_steps=3))
    mlp.train(solver, pruner, steps=4, model=other)
    held = [w.collector.gradients for w in pruner._weights.values()]
    assert all(g.adding for g in held)
    pruner.finalize()
    mlp.train(solver, steps=1, model=other)
    assert not any(g.adding or g.samples or g.movement is not None or g.total is not None for g in held)


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("criterion", [movement, BlockFisher(n_gradients=2), BlockFisher(n_gradients=5)], ids=shown)
def test_a_resumed_run_ends_with_the_same_bits(mlp, criterion, stop, tmp_path):
    def run(stops):
        task = type(mlp)("mlp")
        solver, pruner = trainer(task.model, criterion, Cubic(sparsity=0.8, steps=8, n_updates=4))
        for steps in stops:
            if steps is None:
                torch.save([x.state_dict() for x in (task.model, solver, pruner)], tmp_path / "state")
                states = torch.load(tmp_path / "state", weights_only=True)
                task = type(mlp)("mlp")
                solver, pruner = trainer(task.model, criterion, Cubic(sparsity=0.8, steps=8, n_updates=4))
                for part, state in zip((task.model, solver, pruner), states, strict=True):
                    part.load_state_dict(state)
            else:
                task.train(solver, pruner, steps=steps)
        return task.model.state_dict(), pruner.sparsity

    (whole, sparsity), (resumed, _) = run([10]), run([stop, None, 10 - stop])
    assert sparsity > 0.79
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(
    "criterion", [movement, BlockFisher(n_gradients=2), taylor], ids=["movement", "block", "taylor"]
)
def test_sums_of_a_state_that_do_not_fit_are_refused(mlp, criterion, wrong_values):
    solver, pruner = trainer(mlp.model, criterion, Moving(every_steps=2))
    mlp.train(solver, pruner, steps=3)
    state = copy.deepcopy(pruner.state_dict())
    legal = {
        "movement": [(32, 12)] * (criterion is movement),
        "gradients": [(2, 32, 12), (1, 32, 12)] * isinstance(criterion, BlockFisher),
    }
    shapes = [torch.zeros(s) for s in ((32, 12), (2, 32, 12), (3, 32, 12), (1, 32, 12), (0, 32, 12), (12, 32))]
    for field in ("movement", "gradients"):
        for value in (*wrong_values, *shapes, *(x.long() for x in shapes)):
            changed = copy.deepcopy(state)
            changed["weights"]["0.weight"][field] = value
            fits = value is None or (
                torch.is_tensor(value) and value.is_floating_point() and tuple(value.shape) in legal[field]
            )
            if fits:
                pruner.load_state_dict(changed)
            else:
                with pytest.raises(StateError, match=field):
                    pruner.load_state_dict(changed)


def test_movement_lets_pruned_weights_come_back_unless_it_is_told_not_to(mlp):
    n_back = {}
    for revives in (None, True, False):
        task = type(mlp)("mlp")
        solver, pruner = trainer(task.model, movement, Cubic(sparsity=0.7, steps=20, n_updates=20), revives=revives)
        before, n_back[revives] = pruner.masks, 0
        for _ in range(20):
            task.train(solver, pruner, steps=1)
            n_back[revives] += sum(int((mask & ~before[name]).sum()) for name, mask in pruner.masks.items())
            before = pruner.masks
        assert pruner.sparsity == pytest.approx(0.7, abs=0.01)
    assert n_back[None] == n_back[True] > 0 == n_back[False]


def test_a_step_that_overflowed_adds_nothing(mlp):
    for criterion in (movement, BlockFisher(n_gradients=2)):
        task = type(mlp)("mlp")
        solver, pruner = trainer(task.model, criterion, Cubic(sparsity=0.5, steps=4, n_updates=4))
        for factor in (float("inf"), float("nan")):
            solver.zero_grad()
            (task.loss() * factor).backward()
            pruner.step(16)
        assert pruner.sparsity == 0
        solver.zero_grad()
        task.train(solver, pruner, steps=4)
        assert pruner.sparsity == 0.5


@pytest.mark.parametrize("criterion", [grasp, synflow], ids=lambda c: c.__name__)
def test_what_no_step_gives_is_asked_for_by_name(mlp, criterion):
    solver, pruner = trainer(mlp.model, criterion, Static(sparsity=0.5))
    with pytest.warns(
        RuntimeWarning, match=r"no \w+ of 0\.weight, 2\.weight came in 10 steps.*: call pruner\.calibrate\("
    ):
        mlp.train(solver, pruner, steps=11)
    assert pruner.sparsity == 0
    pruner.calibrate([(mlp.x, mlp.y)], nn.functional.cross_entropy)
    assert pruner.sparsity == 0.5
    mlp.train(solver, pruner, steps=2)
    assert not mlp.model[0].weight.detach()[~pruner.masks["0.weight"]].any()


def test_how_many_gradients_must_be_said(mlp):
    @needs(Needs.GRADIENT_SAMPLES)
    def unsaid(evidence):
        return evidence.gradient_samples.mean(0)

    said = r"the criterion of '0\.weight' needs GRADIENT_SAMPLES: it must say how many, as n_gradients"
    with pytest.raises(OptionError, match=said):
        trainer(mlp.model, unsaid, Static(sparsity=0.5))


def test_n_of_m_waits_for_as_many_gradients_as_its_criterion(mlp):
    filler = NofM(n=1, m=4, criterion=BlockFisher(n_gradients=3))
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.75), filler=filler))
    for n_steps in range(3):
        assert pruner.sparsity == 0, n_steps
        mlp.loss().backward()
        pruner.step(16)
    assert (pruner.masks["0.weight"].view(-1, 4).sum(1) == 1).all()
