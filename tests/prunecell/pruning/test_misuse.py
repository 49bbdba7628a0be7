"""What users do to a model behind the back of a pruner: it follows, or says so, and spoils nothing."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from prunecell import Cubic, IterNonStruct, Lowest, Pruner, PruneSpec, Static
from prunecell.errors import OptionTypeError, StateError

HALF = PruneSpec(schedule=Static(sparsity=0.5))
REVIVING = PruneSpec(filler=Lowest(revives=True), schedule=Cubic(sparsity=0.9, steps=8))


def second_moments(solver, model):
    return solver.state[model[0].weight]["exp_avg_sq"]


def zeros_hold(model, pruner):
    parameters = dict(model.named_parameters())
    return all(not parameters[name].detach()[~mask].any() for name, mask in pruner.masks.items())


def test_training_after_finalize_finds_the_second_moments_of_dead_weights(mlp):
    solver = torch.optim.Adam(mlp.model.parameters(), lr=0.01)
    pruner = Pruner(mlp.model, HALF, optimizer=solver)
    mlp.train(solver, pruner, steps=3)
    mask = pruner.masks["0.weight"]
    pruner.finalize()
    assert not second_moments(solver, mlp.model)[~mask].any()
    mlp.train(solver, steps=1)
    assert mlp.model[0].weight.detach()[~mask].abs().mean() > 0.005, "they move as far as the learning rate says"


def test_second_moments_of_weights_that_come_back_start_anew(mlp):
    solver = torch.optim.Adam(mlp.model.parameters())

    def other_half(evidence, _):
        return ~evidence.mask.to_bool() if evidence.mask.n_pruned else torch.rand(evidence.weight.shape) < 0.5

    spec = PruneSpec(schedule=lambda clock: 0.5 + clock.steps / 100, filler=other_half)
    pruner = Pruner(mlp.model, spec, optimizer=solver)
    mlp.train(solver, pruner, steps=3)
    assert second_moments(solver, mlp.model)[pruner.masks["0.weight"]].max() < 0.1
    pruner.finalize()
    pruner = Pruner(mlp.model, HALF, optimizer=solver)
    mlp.train(solver, pruner, steps=3)
    nn.init.normal_(mlp.model[0].weight)
    pruner.refill()
    assert second_moments(solver, mlp.model)[pruner.masks["0.weight"]].max() < 0.1


@pytest.mark.parametrize("filler", [Lowest(revives=True), IterNonStruct()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_hidden_values_follow_the_dtype_of_the_model(mlp, dtype, filler):
    pruner = Pruner(mlp.model, PruneSpec(filler=filler, schedule=Cubic(sparsity=0.9, steps=8)))
    mlp.train(torch.optim.SGD(mlp.model.parameters(), lr=0.1), pruner, steps=3)
    before = pruner.state_dict()["weights"]["0.weight"]["hidden"]
    mlp.model.to(dtype)
    pruner._weights["0.weight"].reveal_()
    hidden = mlp.model[0].weight.detach()[~pruner.masks["0.weight"]]
    assert torch.equal(hidden, before.to(dtype))


@pytest.mark.parametrize("replace", ["assign", "tie", "layer"])
def test_parameters_that_are_replaced_are_missed(replace):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    pruner = Pruner(model, HALF)
    if replace == "assign":
        model.load_state_dict(copy.deepcopy(model).state_dict(), assign=True)
    elif replace == "tie":
        model[0].weight = model[1].weight
    else:
        model[0] = nn.Linear(4, 4)
    with pytest.raises(StateError, match=r"parameter '0\.weight' of the Pruner is no longer one of the model's"):
        pruner.step(1)


def test_a_finalized_pruner_is_done(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, HALF, optimizer=solver)
    state = pruner.state_dict()
    first = pruner.finalize()
    mlp.train(solver, steps=1)
    trained = mlp.model[0].weight.clone()
    assert pruner.finalize() == first
    for late in (
        lambda: pruner.step(1),
        pruner.refill,
        lambda: pruner.attach(solver),
        lambda: pruner.load_state_dict(state),
    ):
        with pytest.raises(StateError, match="this Pruner was finalized"):
            late()
    assert torch.equal(mlp.model[0].weight, trained)


def test_gradients_of_weights_that_thaw_are_masked(mlp):
    mlp.model[0].weight.requires_grad_(requires_grad=False)
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, HALF, optimizer=solver)
    mlp.model[0].weight.requires_grad_(requires_grad=True)
    mlp.train(solver, pruner, steps=2)
    assert not mlp.model[0].weight.grad[~pruner.masks["0.weight"]].any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])  # noqa: S301 - our own
@pytest.mark.parametrize("spec", [HALF, REVIVING], ids=repr)
def test_a_pruner_is_copied_with_its_model_and_optimizer(mlp, spec, copied):
    solver = torch.optim.Adam(mlp.model.parameters(), lr=0.01)
    pruner = Pruner(mlp.model, spec, optimizer=solver)
    mlp.train(solver, pruner, steps=3)
    model, other_solver, other = copied((mlp.model, solver, pruner))
    before = mlp.model[0].weight.clone()
    for _ in range(10):
        other_solver.zero_grad()
        model(torch.randn(8, model[0].in_features)).square().mean().backward()
        assert not model[0].weight.grad[~other.masks["0.weight"]].any()
        other_solver.step()
        other.step(8)
        assert zeros_hold(model, other)
    assert other.sparsity >= pruner.sparsity
    assert torch.equal(mlp.model[0].weight, before)
    other.finalize()
    assert not model[0].weight._post_accumulate_grad_hooks
    assert mlp.model[0].weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("spec", [HALF, REVIVING], ids=repr)
@pytest.mark.parametrize("n_skipped", [0, 1])
def test_gradient_scaler(mlp, spec, n_skipped):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.05, momentum=0.9)
    pruner, scaler = Pruner(mlp.model, spec, optimizer=solver), torch.amp.GradScaler("cpu")
    for step in range(10):
        solver.zero_grad()
        with torch.autocast("cpu"):
            loss = mlp.model(torch.randn(8, mlp.model[0].in_features)).float().square().mean()
        scaler.scale(loss * torch.inf if step < n_skipped else loss).backward()
        scaler.unscale_(solver)
        scaler.step(solver)
        scaler.update()
        pruner.step(8)
        assert zeros_hold(mlp.model, pruner)
    assert all(p.isfinite().all() for p in mlp.model.parameters())
    assert pruner.sparsity >= spec.schedule.sparsity - 0.01


def test_weights_in_channels_last(mlp):  # noqa: ARG001 - seeds
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten())
    solver = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = Pruner(model, REVIVING, optimizer=solver)
    model.to(memory_format=torch.channels_last)
    for _ in range(10):
        solver.zero_grad()
        model(torch.randn(2, 4, 6, 6)).square().mean().backward()
        solver.step()
        pruner.step(2)
        assert zeros_hold(model, pruner)
    assert pruner.sparsity >= 0.9


def test_what_is_no_model_optimizer_or_state_is_refused(mlp):
    pruner = Pruner(mlp.model, HALF)
    with pytest.raises(OptionTypeError, match="model is a str: it must be a torch"):
        Pruner("lenet", HALF)
    with pytest.raises(OptionTypeError, match="optimizer is a str: it must be a torch"):
        pruner.attach("sgd")
    with pytest.raises(StateError, match="the pruner's state is a NoneType: it must be a mapping"):
        pruner.load_state_dict(None)
    with pytest.raises(StateError, match="the pruner's state lacks n_samples, samples, specs, steps, weights"):
        pruner.load_state_dict({"version": 3})
    state = pruner.state_dict()
    del state["weights"]["0.weight"]["bits"]
    with pytest.raises(StateError, match=r"0\.weight in the pruner's state lacks bits"):
        pruner.load_state_dict(state)


PROCESSES = """
import os
import sys
import torch
import torch._dynamo  # as optimizers do
from torch import nn
from prunecell import Cubic, Lowest, Pruner, PruneSpec, Random

folder, other = sys.argv[1], os.fork()  # importing takes longer than training
rank = int(other == 0)
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
solver = torch.optim.AdamW(model.parameters(), lr=0.01)
fillers = {"0.weight": Random(), "2.weight": Lowest(revives=True)}
plan = {name: PruneSpec(filler=filler, schedule=Cubic(sparsity=0.75, steps=6)) for name, filler in fillers.items()}
pruner = Pruner(model, plan, optimizer=solver)
parallel = nn.parallel.DistributedDataParallel(model)
torch.manual_seed(rank)
for _ in range(8):
    solver.zero_grad()
    parallel(torch.randn(4, 8)).square().mean().backward()
    solver.step()
    pruner.step(8)
from torch.distributed.optim import ZeroRedundancyOptimizer
from prunecell import Quantizer, RateSpec
torch.manual_seed(0)
rounded = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
parallel = nn.parallel.DistributedDataParallel(rounded)
quantizer = Quantizer(parallel, RateSpec(lam=1e-3, steps=12))
solver = ZeroRedundancyOptimizer(quantizer.param_groups(lr=0.01), optimizer_class=torch.optim.Adam)
quantizer.attach(solver)
torch.manual_seed(rank)
for _ in range(12):
    solver.zero_grad()
    parallel(torch.randn(4, 8)).square().mean().backward()
    solver.step()
    quantizer.step(8)
from prunecell import Lowest, Static
from prunecell.criteria import taylor
try:
    Pruner(nn.Linear(4, 4), PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    refused = ""
except ValueError as error:
    refused = str(error)
made = {"model": model.state_dict(), "masks": pruner.masks}
made |= {"rounded": rounded.state_dict(), "integers": quantizer.integers}
torch.save({**made, "refused": refused}, f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def test_processes_that_train_together_agree(tmp_path):
    subprocess.run([sys.executable, "-c", PROCESSES, str(tmp_path)], check=True, timeout=120)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert "which every process has of its own samples only" in one["refused"]
    for kind in ("model", "masks", "rounded", "integers"):
        assert all(torch.equal(value, two[kind][name]) for name, value in one[kind].items())
    for name, integers in one["integers"].items():
        assert torch.equal(integers, integers.round())
        assert torch.equal(integers == 0, one["rounded"][name] == 0)
    for name, mask in one["masks"].items():
        assert int(mask.sum()) == mask.numel() // 4
        assert not one["model"][name][~mask].any()
        assert one["model"][name][mask].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(samples="x"), "samples='x' of the pruner's state is illegal"),
        (lambda s: s.update(steps=-1), "steps=-1 of the pruner's state is illegal"),
        (lambda s: s.update(n_samples=1.5), r"n_samples=1\.5 of the pruner's state is illegal"),
        (lambda s: s.update(weights=3), "weights=3 of the pruner's state is illegal: it must be a mapping"),
        (
            lambda s: s["weights"]["0.weight"].update(target_sparsity="x"),
            r"target_sparsity='x' of 0\.weight in the pruner's state is illegal",
        ),
        (lambda s: s["weights"]["0.weight"].update(update=float("nan")), r"update=nan of 0\.weight"),
        (
            lambda s: s["weights"]["0.weight"].update(hidden=[]),
            r"hidden=\[\] of 0\.weight in .* must be a dense tensor",
        ),
        (lambda s: s["weights"]["0.weight"].update(bits=None), r"bits=None of 0\.weight .* must be a dense tensor"),
        (lambda s: s["weights"]["0.weight"].update(spec=7), r"0\.weight: the state has no spec number 7"),
        (lambda s: s["weights"]["0.weight"].update(spec=True), r"spec=True of 0\.weight"),
        (lambda s: s.update(version=2.0), r"version=2\.0 of the pruner's state is unknown"),
        (lambda s: s.update(samples=float("nan")), "samples=nan of the pruner's state is illegal"),
        (lambda s: s.update(samples=1 << 63, steps=1), r"must be a whole number in \[0, 2\^53\)"),
        (lambda s: s.update(samples=1), "steps=3 of the pruner's state is illegal: only 1 samples"),
        (lambda s: s.update(n_samples=0), r"n_samples=0 of the pruner's state is illegal"),
        (lambda s: s.update(specs="text"), "specs='text' of the pruner's state is illegal: it must be a list"),
        (lambda s: s.update(specs=[None]), "another spec: it is a NoneType in place of a description"),
        (lambda s: s["specs"][0].update(seed=torch.ones(2)), "another spec: seed was <Tensor of shape"),
        (
            lambda s: s["weights"].update({"0.weight": 3}),
            r"0\.weight in the pruner's state is an int: it must be a mapping",
        ),
        (lambda s: s["weights"]["0.weight"].update(target_sparsity=1.5), r"it must be a number in \[0, 1\]"),
        (lambda s: s["weights"]["0.weight"].update(hidden=torch.ones(3)), "the wrong number of hidden values"),
        (
            lambda s: s["weights"]["0.weight"].update(hidden=s["weights"]["0.weight"]["hidden"].to_sparse()),
            "it must be a dense tensor with values, or None",
        ),
        (
            lambda s: s["weights"]["0.weight"].update(bits=s["weights"]["0.weight"]["bits"].to("meta")),
            "it must be a dense tensor with values",
        ),
    ],
)
def test_a_state_with_one_wrong_value_is_refused_and_nothing_is_changed(mlp, change, message):
    pruner = Pruner(mlp.model, REVIVING)
    mlp.train(torch.optim.SGD(mlp.model.parameters(), lr=0.1), pruner, steps=3)
    before, state = copy.deepcopy((pruner.state_dict(), mlp.model.state_dict())), pruner.state_dict()
    change(state)
    with pytest.raises(StateError, match=message):
        pruner.load_state_dict(state)
    after = (pruner.state_dict(), mlp.model.state_dict())
    torch.testing.assert_close(after[0]["weights"], before[0]["weights"])
    torch.testing.assert_close(dict(after[1]), dict(before[1]))
    assert after[0]["samples"] == before[0]["samples"]
