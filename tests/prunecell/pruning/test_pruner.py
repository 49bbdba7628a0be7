import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prunecell import Cubic, Gradual, IterNonStruct, Lowest, Pruner, PruneSpec, Random, Static, global_ranking, uniform
from prunecell.errors import OptionError, OptionTypeError, StateError
from prunecell.fillers import Traits, keep_all
from prunecell.granularity import channels

DATA = Path(__file__).parents[2] / "data"
REVIVING = PruneSpec(filler=IterNonStruct(), schedule=Gradual(sparsity=0.9, start=0.3, gamma=0.1, every_samples=32))
CUBIC = PruneSpec(schedule=Cubic(sparsity=0.9, steps=8))
SPECS = [
    PruneSpec(schedule=Static(sparsity=0.9)),
    PruneSpec(schedule=Static(sparsity=0.9), filler=Random(), seed=3),
    PruneSpec(schedule=Gradual(sparsity=0.9, gamma=0.2, every_samples=16), filler=Random()),
    CUBIC,
    REVIVING,
    PruneSpec(schedule=Cubic(sparsity=0.9, steps=8), filler=Lowest(revives=True)),
]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adam, fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def holder(values):
    """A module whose `weight` has these values."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.tensor(values))
    return model


def n_zeros(model, pruner):
    parameters = dict(model.named_parameters())
    return {name: int((parameters[name] == 0).sum()) for name in pruner.masks}


@pytest.mark.parametrize("spec", SPECS, ids=repr)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_survive_training_and_are_positive(task, spec, optimizer):
    solver = OPTIMIZERS[optimizer](task.model.parameters())
    pruner = Pruner(task.model, spec, optimizer=solver)
    task.train(solver, pruner, steps=12)
    parameters = dict(task.model.named_parameters())
    for name, mask in pruner.masks.items():
        pruned = parameters[name].detach()[~mask]
        assert not pruned.view(torch.int32).any(), "only +0.0"
        assert (parameters[name].detach()[mask] != 0).any()
        assert len(pruned) / mask.numel() >= 0.9 - 1e-6
    assert pruner.sparsity >= 0.9 - 1e-6


@pytest.mark.filterwarnings("ignore:all weights of")
def test_gradual_is_n2d2_run_by_run():
    with np.load(DATA / "gradual.npz") as golden:
        for run in golden["names"]:
            threshold, start, gamma, delta = map(float, golden[f"{run}__params"])
            stepsize, batch = map(int, golden[f"{run}__stepsize_batch"])
            filler = IterNonStruct(delta=delta) if str(golden[f"{run}__filler"]) == "IterNonStruct" else Random()
            schedule = Gradual(sparsity=threshold, start=start, gamma=gamma, every_samples=stepsize, float32=True)
            hidden, expected = golden[f"{run}__w"], golden[f"{run}__mask"]
            model = holder(hidden[0])
            pruner = Pruner(model, PruneSpec(filler=filler, schedule=schedule))
            for call in range(len(hidden)):
                current = pruner.target_sparsity("weight")
                assert np.float32(current) == golden[f"{run}__current_threshold"][call], (run, call)
                keep = pruner.masks["weight"]
                if isinstance(filler, Random):
                    assert int(keep.sum()) == int(expected[call].sum()), (run, call)
                else:
                    assert torch.equal(keep, torch.tensor(expected[call]).bool()), (run, call)
                if call + 1 < len(hidden):
                    solver_moves(pruner, model, torch.tensor(hidden[call + 1]))
                    pruner.step(batch)


def solver_moves(pruner, model, hidden):
    """What N2D2's solver did to all weights, the hidden ones too, arrives through the optimizer's hooks."""

    class Jump(torch.optim.Optimizer):
        def step(self):
            with torch.no_grad():
                model.weight.copy_(hidden)

    solver = Jump(model.parameters(), {})
    pruner._enforcement.end()
    pruner.attach(solver)
    solver.step()


def test_masked_sgd_is_n2d2s():
    schedules = {
        "plain": Static(sparsity=0.5),
        "momentum": Static(sparsity=0.5),
        "gradual_mom_decay": Gradual(sparsity=0.8, start=0.2, gamma=0.2, every_samples=2, float32=True),
    }
    with np.load(DATA / "sgd_steps.npz") as golden:
        for run in map(str, golden["names"]):
            rate, momentum, decay, batch = map(float, golden[f"{run}__lr_mom_decay_batch"])
            model = holder(golden[f"{run}__w"][0])
            solver = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
            spec = PruneSpec(filler=IterNonStruct(), schedule=schedules[run])
            pruner = Pruner(model, {"weight": spec}, optimizer=solver)
            for step, gradient in enumerate(golden[f"{run}__dw"]):
                assert torch.equal(pruner.masks["weight"], torch.tensor(golden[f"{run}__mask"][step]).bool()), (
                    run,
                    step,
                )
                expected = golden[f"{run}__pruned_w"][step]
                np.testing.assert_allclose(model.weight.detach().numpy(), expected, rtol=2e-5, atol=2e-6)
                solver.zero_grad()
                (model.weight * torch.tensor(-gradient / batch)).sum().backward()  # N2D2 adds its gradient
                solver.step()
                pruner.step(1)


def test_weights_come_back_only_where_the_filler_revives_them():
    def returned(filler):
        torch.manual_seed(0)
        model = nn.Linear(30, 30)
        solver = torch.optim.SGD(model.parameters(), lr=0.01)
        spec = PruneSpec(filler=filler, schedule=Gradual(sparsity=0.6, start=0.3, gamma=0.1, every_samples=40))
        pruner = Pruner(model, spec, optimizer=solver)
        count = 0
        for _ in range(20):
            old = pruner.masks["weight"]
            solver.zero_grad()
            (model(torch.randn(8, 30)) * torch.randn(8, 30)).sum().backward()
            solver.step()
            pruner.step(8)
            count += int((pruner.masks["weight"] & ~old).sum())
        return count

    assert returned(IterNonStruct()) > 0
    assert returned(Lowest(revives=True)) > 0
    assert returned(Lowest()) == returned(Random()) == 0


def test_the_solver_moves_hidden_values_as_if_they_were_there():
    model = holder([[1.0, -0.1, 0.2, 2.0]])
    solver = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    spec = PruneSpec(filler=Lowest(revives=True), schedule=Gradual(sparsity=0.5, start=0.5, every_samples=10**6))
    pruner = Pruner(model, {"weight": spec}, optimizer=solver)
    for _ in range(3):
        solver.zero_grad()
        model.weight.sum().mul(0).backward()
        solver.step()
        pruner.step(1)
    assert model.weight[0].tolist() == pytest.approx([0.95**3, 0, 0, 2 * 0.95**3])
    assert pruner.state_dict()["weights"]["weight"]["hidden"].tolist() == pytest.approx([-0.1 * 0.95**3, 0.2 * 0.95**3])


@pytest.mark.parametrize("spec", [CUBIC, REVIVING], ids=["dying", "reviving"])
def test_a_closure_sees_the_pruned_model(mlp, spec):
    solver = torch.optim.LBFGS(mlp.model.parameters(), lr=0.1, max_iter=4)
    pruner = Pruner(mlp.model, spec, optimizer=solver)
    seen = []

    def closure():
        solver.zero_grad()
        seen.append(int((mlp.model[0].weight == 0).sum()))
        loss = mlp.loss()
        loss.backward()
        return loss

    pruned = int((~pruner.masks["0.weight"]).sum())
    solver.step(closure)
    if spec is REVIVING:
        assert set(seen) == {pruned}
        solver.step(closure=closure)
        assert set(seen) == {pruned}
    assert int((mlp.model[0].weight == 0).sum()) == pruned


def test_gradients_are_masked_as_they_accumulate(mlp):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.9)))
    for _ in range(3):
        mlp.loss().backward()
        grad = mlp.model[0].weight.grad
        assert not grad[~pruner.masks["0.weight"]].any()
        assert grad[pruner.masks["0.weight"]].any()


def test_moments_are_cleared_where_nothing_comes_back(mlp):
    solver = OPTIMIZERS["adamw"](mlp.model.parameters())
    mlp.train(solver, steps=3)
    assert solver.state[mlp.model[0].weight]["exp_avg"].all()
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.9)), optimizer=solver)
    state, mask = solver.state[mlp.model[0].weight], pruner.masks["0.weight"]
    assert not state["exp_avg"][~mask].any()
    assert state["exp_avg"][mask].all()


@pytest.mark.parametrize("optimizer", ["adamw", "adam, fused", "rmsprop"])
def test_second_moments_of_the_pruned_never_reach_zero(mlp, optimizer, monkeypatch):
    monkeypatch.setattr("prunecell.pruning.pruner.REST_EVERY", 5)
    solver = OPTIMIZERS[optimizer](mlp.model.parameters())
    pruner = Pruner(mlp.model, CUBIC, optimizer=solver)
    for _ in range(14):
        mlp.train(solver, pruner, steps=1)
        for index, mask in ((0, pruner.masks["0.weight"]), (2, pruner.masks["2.weight"])):
            state = solver.state[mlp.model[index].weight]
            second = state["square_avg" if optimizer == "rmsprop" else "exp_avg_sq"]
            assert (second[~mask] > 0.9 if optimizer == "rmsprop" else second[~mask] > 0.99).all()
            assert (second[mask] < 0.9).all()


def test_without_an_optimizer_each_step_zeroes(mlp):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.9)))
    with torch.no_grad():
        mlp.model[0].weight.add_(1)
    pruner.step(1)
    assert torch.equal(mlp.model[0].weight != 0, pruner.masks["0.weight"])


def test_several_optimizers_each_guard_their_own_weights(mlp):
    first = torch.optim.SGD(mlp.model[0].parameters(), lr=0.1)
    second = torch.optim.Adam(mlp.model[2].parameters(), lr=0.1)
    pruner = Pruner(mlp.model, REVIVING, optimizer=first)
    pruner.attach(second)
    for _ in range(10):
        mlp.loss().backward()
        first.step()
        second.step()
        pruner.step(16)
    assert n_zeros(mlp.model, pruner) == {name: int((~mask).sum()) for name, mask in pruner.masks.items()}


def test_a_refill_looks_at_the_weights_of_now(mlp):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5)))
    other = mlp.make().state_dict()
    mlp.model.load_state_dict(other)
    pruner.refill()
    expected = Pruner(copy := mlp.make(), PruneSpec(schedule=Static(sparsity=0.5)))
    del expected
    copy.load_state_dict(other)
    again = Pruner(copy, PruneSpec(schedule=Static(sparsity=0.5)))
    assert all(torch.equal(mask, again.masks[name]) for name, mask in pruner.masks.items())


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_resuming_in_new_objects_ends_with_the_same_bits(task, spec):
    def run(stop):
        fresh = type(task)(task.name)
        solver = OPTIMIZERS["sgd"](fresh.model.parameters())
        pruner = Pruner(fresh.model, spec, optimizer=solver)
        fresh.train(solver, pruner, steps=stop)
        if stop < 12:
            file = io.BytesIO()
            torch.save([x.state_dict() for x in (fresh.model, solver, pruner)], file)
            file.seek(0)
            fresh = type(task)(task.name)
            solver = OPTIMIZERS["sgd"](fresh.model.parameters())
            pruner = Pruner(fresh.model, spec, optimizer=solver)
            for thing, state in zip((fresh.model, solver, pruner), torch.load(file, weights_only=True), strict=True):
                thing.load_state_dict(state)
            fresh.train(solver, pruner, steps=12 - stop)
        return fresh.model.state_dict(), pruner.masks

    (whole, masks), (resumed, masks_resumed) = run(12), run(5)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert all(torch.equal(masks[key], masks_resumed[key]) for key in masks)


def test_a_state_that_does_not_fit_changes_nothing(mlp):
    pruner = Pruner(mlp.model, CUBIC)
    mlp.train(torch.optim.SGD(mlp.model.parameters(), lr=0.1), pruner, steps=4)
    state = pruner.state_dict()
    before = {name: mask.clone() for name, mask in pruner.masks.items()}
    other = Pruner(mlp.make(), REVIVING).state_dict()
    with pytest.raises(
        StateError,
        match=r"the state was made under another spec: schedule was Gradual\(.*\), now Cubic\(.*; filler was",
    ):
        pruner.load_state_dict(other)
    with pytest.raises(StateError, match="version=None"):
        pruner.load_state_dict({})
    with pytest.raises(
        StateError, match=r"of other parameters: it lacks 'weight', and it has '0\.weight', '2\.weight', which are not"
    ):
        Pruner(nn.Linear(3, 3), CUBIC).load_state_dict(state)
    state["weights"]["0.weight"]["bits"] = state["weights"]["0.weight"]["bits"][:-1]
    with pytest.raises(StateError, match=r"0\.weight: the saved mask does not fit"):
        pruner.load_state_dict(state)
    assert all(torch.equal(mask, before[name]) for name, mask in pruner.masks.items())


def test_finalize_lets_go_of_everything(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, REVIVING, optimizer=solver)
    mlp.train(solver, pruner, steps=4)
    sparsity = pruner.sparsity
    assert pruner.finalize(early=True).sparsity == sparsity
    assert not solver._optimizer_step_pre_hooks
    assert not solver._optimizer_step_post_hooks
    assert not mlp.model[0].weight._post_accumulate_grad_hooks
    assert pruner.state_dict()["weights"]["0.weight"]["hidden"] is None
    mlp.train(solver, steps=1)
    assert int((mlp.model[0].weight != 0).sum()) > 1.5 * (1 - sparsity) * 384


@pytest.mark.parametrize("filler", [Lowest(), Random(), IterNonStruct()], ids=repr)
def test_fifty_then_ninety_is_ninety(task, filler):
    for sparsity in (0.5, 0.9):
        pruner = Pruner(task.model, PruneSpec(filler=filler, schedule=Static(sparsity=sparsity)))
        assert pruner.sparsity == pytest.approx(sparsity, abs=0.02)
        pruner.finalize()


def test_the_draw_depends_on_seed_and_name_only(mlp):
    def masks(seed):
        return Pruner(mlp.make(), PruneSpec(schedule=Static(sparsity=0.5), filler=Random(), seed=seed)).masks

    torch.manual_seed(5)
    first = masks(1)
    torch.manual_seed(6)
    assert all(torch.equal(mask, masks(1)[name]) for name, mask in first.items())
    assert not all(torch.equal(mask, masks(2)[name]) for name, mask in first.items())


def test_frozen_weights_are_pruned_too(mlp):
    mlp.model.requires_grad_(requires_grad=False)
    assert Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.75))).sparsity == 0.75


def test_a_custom_filler_may_return_a_bool_tensor(mlp):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=lambda e, _: e.weight > 0))
    assert (mlp.model[0].weight >= 0).all()
    assert pruner.report().weights[0].filler == "<lambda>"


@pytest.mark.parametrize("filled", [None, torch.ones(3, dtype=torch.bool), torch.ones(32, 12)])
def test_a_filler_that_returns_nonsense_is_named(mlp, filled):
    before = mlp.model[0].weight.clone()
    with pytest.raises(
        OptionTypeError, match=r"the filler returned \w+ for 0\.weight: it must be a Mask or a bool tensor"
    ):
        Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=lambda *_: filled))
    assert torch.equal(mlp.model[0].weight, before)


def test_a_schedule_that_returns_nonsense_is_named(mlp):
    with pytest.raises(OptionError, match=r"returned the sparsity nan"):
        Pruner(mlp.model, PruneSpec(schedule=lambda _: math.nan))


def test_an_epoch_size_is_asked_for_where_it_is_needed(mlp):
    epochs = PruneSpec(schedule=Cubic(sparsity=0.9, epochs=3))
    with pytest.raises(OptionError, match=r"epoch_size=None is illegal: Cubic\(.*\) of 0\.weight counts epochs"):
        Pruner(mlp.model, epochs)
    with pytest.raises(OptionError, match="epoch_size=0 is illegal"):
        Pruner(mlp.model, epochs, epoch_size=0)
    pruner = Pruner(mlp.model, epochs, epoch_size=10**9)
    pruner.epoch_size = 10
    for _ in range(3):
        pruner.step(10)
    assert pruner.sparsity >= 0.9
    with pytest.raises(OptionError, match="epoch_size=None is illegal"):
        pruner.epoch_size = None


def test_illegal_calls_are_refused_by_name(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, CUBIC, optimizer=solver)
    with pytest.raises(OptionError, match="n_samples=0 is illegal"):
        pruner.step(0)
    with pytest.raises(OptionError, match="is attached already"):
        pruner.attach(solver)
    with pytest.raises(OptionError, match="holds none of the pruned weights"):
        pruner.attach(torch.optim.SGD(mlp.make().parameters(), lr=0.1))
    with pytest.raises(
        OptionError,
        match=r"name='weight' is illegal: no pruned weight has it; did you mean .2\.weight",
    ):
        pruner.target_sparsity("weight")


def test_the_report_says_what_was_pruned_and_what_was_not(task):
    pruner = Pruner(
        task.model, {"head*": PruneSpec(schedule=Static(sparsity=0.5)), "*": CUBIC} if task.name != "mlp" else CUBIC
    )
    report = pruner.report()
    names = {w.name for w in report.weights} | {name for name, _ in report.skipped}
    assert names == {name for name, _ in task.model.named_parameters()}
    text = str(report)
    assert all(weight.name in text for weight in report.weights)
    assert f"{report.sparsity:.2%}" in text
    assert f"whole model: {report.model_sparsity:.2%} sparse" in text
    assert "not pruned (a bias)" in text


def test_the_filler_none_runs_the_clock_only(mlp):
    spec = PruneSpec(filler=keep_all, schedule=Gradual(sparsity=0.5, start=0.1, gamma=0.2, every_samples=16))
    pruner = Pruner(mlp.model, spec)
    pruner.step(16)
    assert pruner.sparsity == 0
    assert pruner.target_sparsity("0.weight") == 0.3


def test_absent_weights_do_not_count(mlp):
    class UpperHalf:
        traits = Traits(n_absent={"0.weight": 16 * 12})

        def __call__(self, evidence, sparsity):
            keep = torch.zeros(32, 12, dtype=torch.bool)
            keep[:16] = torch.rand(16, 12, generator=evidence.generator) >= sparsity
            return keep

    pruner = Pruner(mlp.model, {"0.weight": PruneSpec(schedule=Static(sparsity=0.25), filler=UpperHalf())})
    (facts,) = pruner.report().weights
    assert facts.n_weights == 16 * 12
    assert facts.sparsity == pruner.sparsity == (16 * 12 - facts.n_kept) / (16 * 12)


def test_gradual_prunes_the_decimals_that_were_written():
    model = nn.Linear(10, 10)
    schedule = Gradual(sparsity=0.9, start=0.3, gamma=0.1, every_samples=10)
    pruner = Pruner(model, PruneSpec(schedule=schedule))
    passed = [(pruner.sparsity, pruner.report().sparsity, pruner.report().weights[0].sparsity)]
    for _ in range(7):
        pruner.step(10)
        passed.append((pruner.sparsity, pruner.report().sparsity, pruner.report().weights[0].sparsity))
    assert passed == [(s, s, s) for s in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9)]


EMPTIES = {  # target -> the network is sparse, and one layer has nothing left
    "groups as large as the layer": PruneSpec(
        schedule=Static(sparsity=0.5), filler=Lowest(granularity=channels), allocation=uniform
    ),
    "one ranking": PruneSpec(schedule=Static(sparsity=0.5), allocation=global_ranking),
}


@pytest.mark.parametrize("spec", EMPTIES.values(), ids=EMPTIES)
def test_a_layer_that_is_emptied_is_named(spec):
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3))
    model[0].weight.data.mul_(1e-9)
    with pytest.warns(RuntimeWarning, match=r"all weights of 0\.weight are pruned, so nothing goes through"):
        Pruner(model, spec)


def test_a_layer_too_small_for_its_sparsity_is_emptied_as_was_asked(recwarn):
    pruner = Pruner(nn.Linear(4, 1), PruneSpec(schedule=Static(sparsity=0.9)))
    assert pruner.sparsity == 1
    assert not recwarn.list
