"""`[prunecell.Plan]`: read, checked, and what the network comes to under it, in both commands."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import prunecell as pc
from n2d2 import ini
from n2d2.cells import DeepNetCell
from n2d2.cli import main
from n2d2.experiment.experiment import build, read
from n2d2.experiment.planning import planned as plan
from n2d2.experiment.run import run
from n2d2.files import read_masks
from n2d2.network.network import read_network

NET = """
[database]
Type=MNIST_IDX_Database
[sp]
SizeX=8
SizeY=8
[conv1]
Input=sp
Type=Conv
KernelDims=3 3
NbOutputs=4
[conv2]
Input=conv1
Type=Conv
KernelDims=3 3
NbOutputs=16
Mapping(conv1)=1 1 0 0 1 1 0 0 1 1 0 0 1 1 0 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 \\
1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1
[fc1]
Input=conv2
Type=Fc
NbOutputs=10
[fc1.Target]
"""
PLAN = "[prunecell.Plan]\nSparsity=0.75\nEpochs=5\n"


def text_of(plan=PLAN):
    return NET + plan


def learned(n_epochs, plan=PLAN):
    """A Pruner of the network after so many epochs of one step."""
    experiment = build(ini.parse(text_of(plan)))
    pruner = pc.Pruner(experiment.model, experiment.plan, epoch_size=100)
    for _ in range(n_epochs):
        pruner.step(100)
    return experiment, pruner


def test_all_weights_are_pruned_together_and_small_ones_not_at_all():
    experiment, pruner = learned(3)
    plan = experiment.plan
    assert plan["conv1.layer.weight"] is None  # it has 36 of 3,172 weights
    assert plan["conv2.layer.weight"] is plan["fc1.layer.weight"]
    assert plan["fc1.layer.weight"].schedule == pc.Cubic(sparsity=0.75, epochs=3.0)
    assert pruner.sparsity == pytest.approx(0.75, abs=1e-3)
    sparsities = {facts.name: facts.sparsity for facts in pruner.report().weights}
    assert sparsities["conv2.layer.weight"] < 0.75 < sparsities["fc1.layer.weight"]


def test_connections_that_are_missing_are_zero_and_count_for_nothing():
    experiment, pruner = learned(3)
    there = experiment.model["conv2"].connections
    facts = {facts.name: facts for facts in pruner.report().weights}["conv2.layer.weight"]
    assert facts.n_weights == int(there.sum()) < there.numel()
    mask = pruner.masks["conv2.layer.weight"]
    assert not mask[~there].any()
    assert int(mask.sum()) == facts.n_kept
    n_weights = facts.n_weights + experiment.model["fc1"].weight.numel()
    kept = facts.n_kept + int(pruner.masks["fc1.layer.weight"].sum())
    assert kept == n_weights - -(-n_weights * 3 // 4)


def test_without_values_it_is_the_default_plan_of_the_library():
    experiment, _ = learned(0, "[prunecell.Plan]\n")
    assert experiment.network.default_plan.sparsity == 0.95
    assert experiment.network.default_plan.epochs == 10
    wanted = pc.default_plan(torch.nn.Sequential(torch.nn.Linear(99, 99)))["*"]
    assert experiment.plan["fc1.layer.weight"].schedule == wanted.schedule


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            NET + "[prunecell.Plan]\nSparsity=91\n",
            r"Sparsity=91.0 is illegal: it must be a number in \(0, 1\]; 91 % is 0.91",
        ),
        (NET + "[prunecell.Plan]\nSparsity=0\n", r"Sparsity='?0.*must be a number in \(0, 1\]"),
        (NET + "[prunecell.Plan]\nEpochs=0\n", r"Epochs='?0.*must be a whole number >= 1"),
        (NET + "[prunecell.Plan]\nEpochs=many\n", r"Epochs='many' is illegal"),
        (NET + "[prunecell.Plan]\nSparsty=0.9\n", r"Sparsty: nothing reads this key; did you mean 'Sparsity'"),
        (NET + "[prunecell.Pln]\nSparsity=0.9\n", r"nothing uses \[prunecell.Pln\]; did you mean \[prunecell.Plan\]"),
        (
            NET.replace("NbOutputs=10", "NbOutputs=10\nQWeight=Prune") + PLAN,
            r"\[prunecell.Plan\] prunes the whole network, and \[fc1\] by QWeight=Prune too: leave out one of the two",
        ),
        (
            "[database]\nType=MNIST_IDX_Database\n[sp]\nSizeX=1\nSizeY=1\n[s]\nInput=sp\nType=Softmax\nNbOutputs=1\n"
            "[s.Target]\n" + PLAN,
            r"\[prunecell.Plan\] there is nothing to prune: no cell is a ",
        ),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_line(text, problem):
    with pytest.raises(ini.IniError, match=rf"^net.ini:\d+: .*{problem}"):
        read_network(ini.parse(text, file="net.ini"))


# ---- the commands


def planned(sparsity=0.7, epochs=4, name="plan.ini"):
    text = Path("dense.ini").read_text() + f"[prunecell.Plan]\nSparsity={sparsity}\nEpochs={epochs}\n"
    Path(name).write_text(text)


def n2d2(capsys, *words):
    capsys.readouterr()
    main([*words])
    return capsys.readouterr().out


def masks():
    shapes = {"conv1": (4, 1, 3, 3), "fc1": (10, 144)}
    return {
        cell: read_masks(path, shape)
        for cell, shape in shapes.items()
        if (path := Path(f"weights/{cell}_masks.syntxt")).exists()
    }


@pytest.mark.usefixtures("workplace")
def test_the_command_n2d2_shows_it_and_prunes_by_it(capsys):
    planned()
    out = n2d2(capsys, "plan.ini", "-learn-epoch", "4", "-test")
    assert "Pruning: 0.7 of all weights by [prunecell.Plan], within 4 epochs\n" in out
    found = masks()
    assert float((~found["fc1"]).float().mean()) == pytest.approx(0.7, abs=0.02)
    assert np.loadtxt("softmax.Target/Success_validation.dat")[-1, -1] == 0.7
    assert not re.search("not at ", out)


@pytest.mark.usefixtures("workplace")
def test_it_is_made_once_however_many_cells_there_are(capsys, monkeypatch):
    planned()
    made = []
    monkeypatch.setattr("n2d2.experiment.experiment.planned", lambda *of, **how: made.append(of) or plan(*of, **how))
    assert "Pruning: 0.7 of all weights" in n2d2(capsys, "plan.ini")
    assert len(made) == 1


@pytest.mark.usefixtures("workplace")
def test_a_learning_that_is_too_short_for_it_says_so(capsys):
    planned()
    out = n2d2(capsys, "plan.ini", "-learn-epoch", "1")
    assert re.search(r"not at the Sparsity of \[prunecell.Plan\] yet: 0\.\d+ of 0.7; a higher -learn-epoch", out)


@pytest.mark.parametrize(("epochs", "is_told"), [(1, True), (4, False)])
@pytest.mark.usefixtures("workplace")
def test_so_does_prunecell_run(capsys, epochs, is_told):
    planned()
    run(read(Path("plan.ini")), Path("out"), epochs=epochs, reference=False)
    told = re.search(r"not at the Sparsity of \[prunecell.Plan\] yet: 0\.\d+ of 0.7; a higher", capsys.readouterr().out)
    assert bool(told) == is_told


@pytest.mark.usefixtures("workplace")
def test_pruning_afterwards_is_refused_beside_it(capsys):
    planned()
    with pytest.raises(SystemExit):
        main(["plan.ini", "-learn-epoch", "1", "-pruning", "Random", "-pruning-threshold", "0.5"])
    assert "-pruning Random is illegal here: plan.ini has [prunecell.Plan]; prune by" in capsys.readouterr().err


@pytest.mark.usefixtures("workplace")
def test_it_goes_on_from_masks_that_are_read_and_can_be_resumed(capsys):
    planned()
    n2d2(capsys, "plan.ini", "-learn-epoch", "3")
    first = masks()
    planned(sparsity=0.9, name="more.ini")
    words = ["more.ini", "-w", "weights", "-learn-epoch"]
    n2d2(capsys, *words, "2")
    for cell, mask in masks().items():
        assert not (mask & ~first[cell]).any()
    n2d2(capsys, "more.ini", "-learn-epoch", "4", "-resume")
    went_on = Path("more.pcell").read_bytes()
    assert float((~masks()["fc1"]).float().mean()) > 0.85
    planned()
    n2d2(capsys, "plan.ini", "-learn-epoch", "3")
    n2d2(capsys, *words, "4")
    assert Path("more.pcell").read_bytes() == went_on


@pytest.mark.usefixtures("workplace")
def test_a_network_that_is_sparser_already_stays_so(capsys):
    planned(sparsity=0.9)
    n2d2(capsys, "plan.ini", "-learn-epoch", "3")
    first = masks()
    planned(sparsity=0.8, name="less.ini")
    out = n2d2(capsys, "less.ini", "-w", "weights", "-learn-epoch", "3")
    sparsity = float(re.search(r"Pruning: (0\.\d+) of all weights by", out)[1])
    assert sparsity == pytest.approx(0.9, abs=0.001)
    n_kept = [sum(int(mask.sum()) for mask in found.values()) for found in (first, masks())]
    assert n_kept[1] == pytest.approx(n_kept[0], abs=1)


@pytest.mark.usefixtures("workplace")
def test_scripts_are_told_that_it_is_for_the_commands():
    planned()
    with pytest.warns(ini.IniWarning, match=r"\[prunecell.Plan\] is for the commands"):
        model = DeepNetCell.load_from_INI("plan.ini")
    assert not model["fc1"].has_quantizer()
    assert any(read("plan.ini").plan.values())
