"""What breaks in other pruning libraries and must hold here, on four kinds of network."""

import copy
import itertools
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from prunecell import Gradual, IterNonStruct, Pruner, PruneSpec, Static

STATIC = PruneSpec(schedule=Static(sparsity=0.9))
REVIVING = PruneSpec(filler=IterNonStruct(), schedule=Gradual(sparsity=0.9, start=0.5, gamma=0.1, every_samples=32))


@pytest.fixture(params=[STATIC, REVIVING], ids=["static", "reviving"])
def pruned(task, request):
    """A task, its pruner and its optimizer, in the middle of training."""
    task.dense = copy.deepcopy(task.model.state_dict())
    task.optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.01)
    task.pruner = Pruner(task.model, request.param, optimizer=task.optimizer)
    task.train(task.optimizer, task.pruner)
    return task


def same_outputs(task, other):
    task.model.eval()
    other.eval()
    with torch.no_grad():
        return torch.equal(task.model(task.x), other(task.x))


def test_deepcopy_before_and_after_backward(pruned):
    for _ in range(2):
        other = copy.deepcopy(pruned.model)
        assert same_outputs(pruned, other)
        pruned.model.train()
        pruned.loss().backward()
    pruned.train(torch.optim.SGD(other.parameters(), lr=0.1), model=other, steps=1)
    assert pruned.pruner.sparsity > 0.5


def test_pickle_of_the_model(pruned):
    assert same_outputs(pruned, pickle.loads(pickle.dumps(pruned.model)))  # noqa: S301 - our own bytes


def test_state_dict_keys_order_and_shapes_are_those_of_the_dense_model(pruned):
    state, dense = pruned.model.state_dict(), pruned.dense
    assert [(k, v.shape, v.dtype) for k, v in state.items()] == [(k, v.shape, v.dtype) for k, v in dense.items()]
    fresh = pruned.make()
    fresh.load_state_dict(state)
    assert same_outputs(pruned, fresh)
    pruned.model.load_state_dict(dense)
    pruned.model.train()
    pruned.train(pruned.optimizer, pruned.pruner, steps=1)
    parameters = dict(pruned.model.named_parameters())
    assert all(not parameters[name][~mask].any() for name, mask in pruned.pruner.masks.items())


def test_state_dict_is_readable_without_prunecell(mlp, tmp_path):
    pruner = Pruner(mlp.model, REVIVING)
    torch.save({"model": mlp.model.state_dict(), "pruner": pruner.state_dict()}, tmp_path / "state.pt")
    code = (
        "import sys, torch; sys.modules['prunecell'] = None;"
        "state = torch.load(sys.argv[1], weights_only=True); print(len(state['model']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "state.pt"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(mlp.model.state_dict())


def test_compile_fullgraph(pruned):
    torch._dynamo.config.allow_rnn = True
    torch._dynamo.reset()
    # AOT autograd does not train an LSTM in torch 2.13, pruned or not
    backend = "eager" if pruned.name == "lstm" else "aot_eager"
    compiled = torch.compile(pruned.model, fullgraph=True, backend=backend)
    pruned.model.train()
    pruned.train(pruned.optimizer, pruned.pruner, model=compiled, steps=3)
    parameters = dict(pruned.model.named_parameters())
    assert all(not parameters[name][~mask].any() for name, mask in pruned.pruner.masks.items())
    pruned.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(pruned.x), pruned.model(pruned.x))


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights")  # torch's own, of any LSTM
def test_export(pruned):
    pruned.model.eval()
    program = torch.export.export(pruned.model, (pruned.x,))
    torch.testing.assert_close(program.module()(pruned.x), pruned.model(pruned.x))
    assert {tuple(v.shape) for v in program.state_dict.values()} == {tuple(v.shape) for v in pruned.dense.values()}


def test_an_optimizer_made_before_pruning_still_trains_the_weights(task):
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
    task.train(optimizer, steps=2)
    before = dict(task.model.named_parameters())
    pruner = Pruner(task.model, STATIC, optimizer=optimizer)
    after = dict(task.model.named_parameters())
    assert all(before[name] is after[name] for name in before)
    values = {name: after[name].detach().clone() for name in pruner.masks}
    task.train(optimizer, pruner, steps=3)
    assert all((after[name] != values[name])[mask].any() for name, mask in pruner.masks.items())


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own, when oneDNN is switched
def test_zeros_survive_amp_accumulation_clipping_and_a_scheduler(pruned):
    rates = torch.optim.lr_scheduler.StepLR(pruned.optimizer, 1)
    for _ in range(3):
        pruned.optimizer.zero_grad()
        for _ in range(2):
            # oneDNN has no LSTM in bfloat16 for CPUs without such instructions; torch's own kernels have
            with torch.autocast("cpu", torch.bfloat16), torch.backends.mkldnn.flags(enabled=False):
                loss = pruned.loss()
            loss.backward()
        nn.utils.clip_grad_norm_(pruned.model.parameters(), 0.1)
        pruned.optimizer.step()
        rates.step()
        pruned.pruner.step(32)
        parameters = dict(pruned.model.named_parameters())
        assert all(not parameters[name][~mask].any() for name, mask in pruned.pruner.masks.items())


def test_zeros_are_positive_so_gzip_is_not_cheated(pruned):
    for name, parameter in pruned.model.named_parameters():
        if name in pruned.pruner.masks:
            assert not torch.signbit(parameter[parameter == 0]).any()


def test_tied_weights_are_pruned_once_and_stay_tied():
    torch.manual_seed(0)
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    model = nn.Sequential(first, nn.ReLU(), second)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = Pruner(model, STATIC, optimizer=optimizer)
    assert list(pruner.masks) == ["0.weight"]
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()
        pruner.step(4)
    assert model[0].weight is model[2].weight
    assert int((model[2].weight != 0).sum()) == 6


def test_a_killed_process_resumes_with_the_same_bits(tmp_path, monkeypatch):
    """kill -9 at a moment nobody chose: the state on disk is that of some whole step, and the end is the same.

    This process, which learns all of it once and then goes on where the killed one stopped, shares nothing with it.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setattr(sys, "argv", ["", str(whole)])
    exec(_TRAINING, {})  # noqa: S102 - our own words
    process = subprocess.Popen([sys.executable, "-c", _TRAINING, killed], stdout=subprocess.PIPE, text=True)
    for line in itertools.islice(process.stdout, 7):
        assert line.startswith("step")
    process.kill()
    process.communicate()
    assert not (killed / "done.pt").exists()
    monkeypatch.setattr(sys, "argv", ["", str(killed)])
    exec(_TRAINING, {})  # noqa: S102 - our own words
    ends = [torch.load(folder / "done.pt", weights_only=True) for folder in (whole, killed)]
    assert torch.equal(ends[0]["weight"], ends[1]["weight"])
    assert int((ends[0]["weight"] == 0).sum()) >= 360


_TRAINING = """
import os, sys, time, pathlib, torch
from prunecell import Gradual, IterNonStruct, PruneSpec, Pruner
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[-1]); folder.mkdir(exist_ok=True)
torch.manual_seed(0)
model = torch.nn.Linear(20, 20)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
spec = PruneSpec(filler=IterNonStruct(), schedule=Gradual(sparsity=0.9, start=0.1, gamma=0.05, every_samples=10))
pruner = Pruner(model, spec, optimizer=optimizer)
parts, first = (model, optimizer, pruner), 0
if (folder / "state.pt").exists():
    first, states = torch.load(folder / "state.pt", weights_only=True)
    for part, state in zip(parts, states): part.load_state_dict(state)
for step in range(first, 40):
    x = torch.randn(8, 20, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad(); model(x).square().mean().backward(); optimizer.step(); pruner.step(8)
    torch.save((step + 1, [part.state_dict() for part in parts]), folder / "new.pt")
    os.replace(folder / "new.pt", folder / "state.pt")
    print("step", step, flush=True)
    time.sleep(0.01 if "killed" in str(folder) else 0)
torch.save(model.state_dict(), folder / "done.pt")
"""
