"""Targets: those of other subjects are left out, several cells learn together."""

import re
import warnings

import pytest
import torch

from n2d2 import ini
from n2d2.cells import DeepNetCell
from n2d2.experiment.experiment import build
from n2d2.ini import IniWarning
from n2d2.network.network import read_network
from n2d2.network.refused import REFUSED_CELLS, REFUSED_TARGET_KEYS, REFUSED_TARGETS
from prunecell.training.accuracy import evaluate

HEAD = """
[database]
Type=MNIST_IDX_Database
DataPath=data
[sp]
SizeX=8
SizeY=8
BatchSize=4
[conv]
Input=sp
Type=Conv
KernelDims=8 8
NbOutputs=6
[fc]
Input=conv
Type=Fc
NbOutputs=10
[softmax]
Input=fc
Type=Softmax
NbOutputs=10
WithLoss=1
"""
OTHER = [f"Type={kind}" for kind in REFUSED_TARGETS] + [f"{key}=1" for key in REFUSED_TARGET_KEYS]


def network_of(*lines):
    return read_network(ini.parse("\n".join([HEAD, *lines]), file="net.ini"))


@pytest.mark.parametrize("line", OTHER)
def test_an_extra_target_of_another_subject_is_left_out_with_a_warning(line):
    with pytest.warns(
        IniWarning, match=rf"^net.ini:\d+: \[conv.Target\] {line.removesuffix('=1')} is refused: .*; it is"
    ) as told:
        network = network_of("[conv.Target]", line, "NbAnchors=3", "[softmax.Target]")
    assert "[softmax.Target] is learned" in str(told[0].message)
    assert network.outputs == ["softmax"]
    with pytest.raises(ini.IniError, match=rf"\[conv.Target\] {line.removesuffix('=1')} is refused"):
        network_of("[conv.Target]", line)


def test_an_extra_target_on_maps_is_left_out_with_a_warning():
    maps = "[maps]\nInput=sp\nType=Conv\nKernelDims=1 1\nNbOutputs=10\n[maps.Target]"
    with pytest.warns(IniWarning, match=r"\[maps\] gives 10 x 8 x 8 values"):
        assert network_of(maps, "[softmax.Target]").outputs == ["softmax"]
    with pytest.raises(ini.IniError, match=r"\[maps\] gives 10 x 8 x 8 values"):
        network_of(maps)


@pytest.mark.parametrize("kind", REFUSED_CELLS)
def test_cells_of_other_subjects_that_only_feed_such_targets_are_left_out(kind):
    lines = [f"[post]\nInput=conv\nType={kind}\nWhatever=3", "[after]\nInput=post\nType=Fc\nNbOutputs=2"]
    with pytest.warns(IniWarning) as told:
        network = network_of(*lines, "[after.Target]\nType=TargetROIs\nMinOverlap=0.3", "[softmax.Target]")
    told = [str(one.message) for one in told]
    assert re.search(rf"^net.ini:\d+: \[post\] is left out: Type={kind} is refused", told[0])
    assert re.search(r"^net.ini:\d+: \[after\] is left out: \[post\] is left out", told[1])
    assert [*network.graph.cells] == ["conv", "fc", "softmax"]
    with pytest.raises(ini.IniError, match=f"Type={kind} is refused"):
        network_of(*lines, "[after.Target]", "[softmax.Target]")


def test_a_target_of_a_cell_that_is_not_there_is_refused():
    with pytest.raises(ini.IniError, match=r"\[softmx.Target\] is illegal: there is no cell \[softmx\]; did you mean"):
        network_of("[softmax.Target]", "[softmx.Target]")
    with pytest.raises(
        ini.IniError,
        match=r"\[softmax.Target-Top5\] Type='TargetScor' is illegal; did you mean 'TargetScore'\? Legal: TargetScore$",
    ):
        network_of("[softmax.Target]", "[softmax.Target-Top5]\nType=TargetScor")


def test_a_network_with_a_decoder_learns_its_classes():
    decoder = "[decoder]\nInput=conv\nType=Deconv\nKernelDims=8 8\nNbOutputs=1\n[decoder.Target]\nDataAsTarget=1"
    with pytest.warns(IniWarning, match="DataAsTarget is refused"):
        experiment = build(ini.parse(f"{HEAD}\n{decoder}\n[softmax.Target]"))
    made = experiment.model(torch.rand(4, 1, 8, 8))
    experiment.network.loss(made, torch.arange(4)).backward()
    gradients = {name: parameter.grad is not None for name, parameter in experiment.model.named_parameters()}
    assert gradients["conv.layer.weight"]
    assert not gradients["decoder.layer.weight"]


AUX = "[aux]\nInput=conv\nType=Fc\nNbOutputs=10\n[aux.Target]\n[aux.Target-Top3]\nTopN=3"


@pytest.mark.usefixtures("workplace")
def test_several_cells_learn_together():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        experiment = build(ini.parse(f"{HEAD}\n[softmax.Target]\n{AUX}"))
    network, model = experiment.network, experiment.model
    assert network.outputs == ["softmax", "aux"]
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    made = model(images)
    loss = network.loss(made, labels)
    loss.backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    wanted = torch.nn.functional.cross_entropy(made[0], labels)
    wanted += ((made[1] - torch.eye(10)[:4]) ** 2).sum() / 8
    torch.testing.assert_close(loss, wanted)
    names = [(target.name, scores is made[0]) for target, scores in network.answers(made)]
    assert names == [("softmax.Target", True), ("aux.Target", False), ("aux.Target-Top3", False)]
    first = model(images)[0].argmax(1)
    assert evaluate(model, [(images, first)]) == 1
    network.check_labels()


ONE = "[one]\nInput=conv\nType=Fc\nNbOutputs=1\n[one.Target]\nBinaryThreshold=0.1"


@pytest.mark.parametrize(
    ("targets", "n_classes"), [("[softmax.Target]", 10), (f"[softmax.Target]\n{AUX}", 10), (ONE, 2)]
)
@pytest.mark.usefixtures("workplace")
def test_accuracy_is_what_the_first_target_counts(targets, n_classes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = build(ini.parse(f"{HEAD}\n{targets}"))
    network, model = experiment.network, experiment.model
    labels = torch.arange(40) % (n_classes + 1) - 1  # some have none
    batches = [(torch.rand(20, 1, 8, 8), part) for part in labels.split(20)]
    found = network.accuracy(model, batches)
    for images, part in batches:
        target, scores = network.answers(model(images))[0]
        target.count(scores, part)
    assert found == target.get_average_success()
    assert 0 < found < 1


@pytest.mark.usefixtures("workplace")
def test_a_script_learns_all_targets(tmp_path):
    (tmp_path / "two.ini").write_text(f"{HEAD}\n[softmax.Target]\n{AUX}")
    net = DeepNetCell.load_from_INI(tmp_path / "two.ini")
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    net.fit(1)
    assert all(not torch.equal(before[name], parameter) for name, parameter in net.named_parameters())
    assert net.run_test() == net.target.get_average_success()
