"""The networks of examples/, in the style of N2D2's model zoo: as published, and through the whole life of a model."""

import copy
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

import prunecell as pc
from n2d2 import ini
from n2d2.cells import Conv, Dropout, Fc
from n2d2.experiment.experiment import Experiment, build
from n2d2.filler import FILLERS
from n2d2.solver import build_optimizer
from n2d2.summary import summarize
from prunecell.archive import load, save
from prunecell.graph import chains_of
from prunecell.graph.units import remove_dead_, sort_units_

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLISHED = {  # parameters that exist; multiplications of one stimulus; Conv and Fc cells
    "n2d2/lenet.ini": (60_570 + 6 + 16 + 120 + 84 + 10, 326_520, 5),
    "n2d2/cifar10.ini": (307_946, 38_653_952, 7),
    "n2d2/resnet18.ini": (11_689_512, 1_814_073_344, 21),
    "n2d2/mobilenet_v1.ini": (4_231_976, 568_740_352, 28),
    "n2d2/mobilenet_v2.ini": (3_504_872, 300_774_272, 53),
    "n2d2/vgg16.ini": (138_357_544, 15_470_264_320, 16),
    "n2d2/squeezenet_v1.0.ini": (1_248_424, 832_667_936, 26),
    "n2d2/squeezenet_v1.1.ini": (1_235_496, 352_540_352, 26),
}


def network_of(name: str, *, size: int | None = None) -> Experiment:
    """Build the network of an example; with `size`, for smaller images and with fewer channels, to be fast."""
    text = (EXAMPLES / name).read_text()
    if size is not None:
        text = re.sub(r"^SIZE=22\d$", f"SIZE={size}", text, flags=re.MULTILINE)
        text = re.sub(r"(NB|NbOutputs)=(256|512|1024|4096)$", r"\1=64", text, flags=re.MULTILINE)
    return build(ini.parse(text, file=name, folder=(EXAMPLES / name).parent))


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    """All weights are 1."""
    for kind in FILLERS.values():
        monkeypatch.setattr(kind, "__call__", lambda _, weight: weight.detach().fill_(1))
    for kind in (torch.nn.Linear, torch.nn.modules.conv._ConvNd):
        monkeypatch.setattr(kind, "reset_parameters", lambda _: None)


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_shapes_are_those_that_were_published(name):
    network = network_of(name)
    summary = summarize(network.model, network.provider.shape()[1:])
    n_parameters, n_macs, n_prunable = PUBLISHED[name]
    assert sum(row.parameters for row in summary.rows) == n_parameters
    assert sum(row.macs for row in summary.rows) == n_macs
    assert network.network.n_classes == (1000 if "imagenet" in network.network.document.sections else 10)
    assert len(network.network.quantizers) == n_prunable


def lived(network: Experiment, folder: Path) -> None:
    """Two steps of learning under the masks; pruned, saved, loaded, and into a network that was just made."""
    model = network.model
    assert [*network.network.quantizers] == [cell.name for cell in model if isinstance(cell, Conv | Fc)]
    optimizer = build_optimizer(model, batch_size=2)
    pruner = pc.Pruner(model, network.plan, optimizer=optimizer, epoch_size=2)
    x, labels = torch.rand(2, *network.provider.shape()[1:]), torch.tensor([0, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        optimizer.zero_grad()
        network.network.loss(model(x), labels).backward()
        optimizer.step()
        pruner.step(2)
    for name, mask in pruner.masks.items():
        weight = model.get_parameter(name)
        assert not weight[~mask].any()
        assert mask.float().mean() <= 1 - pruner.target_sparsity(name) + 1e-6
        assert not torch.equal(weight[mask], before[name][mask])
    pruner.finalize(early=True)
    save(model, folder / "net.pcell")
    state = load(folder / "net.pcell")
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    wanted = model.eval()(x)
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    model.load_state_dict(state)
    assert torch.equal(model(x), wanted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_learns_is_pruned_saved_and_loaded(name, tmp_path):
    torch.manual_seed(0)
    lived(network_of(name, size=64 if "squeezenet" in name else 32), tmp_path)


def test_so_does_a_network_that_comes_from_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    onnx.save(runpy.run_path(str(EXAMPLES / "n2d2" / "make_onnx.py"))["network"](), tmp_path / "digits.onnx")
    shutil.copy(EXAMPLES / "n2d2" / "onnx.ini", tmp_path)
    lived(build(ini.read(tmp_path / "onnx.ini")), tmp_path)


# ---- hidden units ----

HIDDEN = {
    "n2d2/lenet.ini": 2,  # conv1 and conv2 are connected by a table, which would not move along
    "n2d2/cifar10.ini": 6,
    "n2d2/resnet18.ini": 8,  # within its blocks
    "n2d2/mobilenet_v1.ini": 1,  # all others are read by groups
    "n2d2/mobilenet_v2.ini": 3,
    "n2d2/vgg16.ini": 15,
    "n2d2/squeezenet_v1.0.ini": 9,
    "n2d2/squeezenet_v1.1.ini": 9,
}
"""Network -> how many of its layers have units that are known to go alone."""


@torch.no_grad()
def outputs(model, x, *, training):
    """Of a copy without dropout."""
    model = copy.deepcopy(model).train(training)
    for cell in model:
        if isinstance(cell, Dropout):
            cell.dropout = 0.0
    return model(x)


def tidied(network: Experiment, n_hidden: int) -> None:
    """Units that are dead go and others change places: no output changes. To look for them changes nothing."""
    torch.manual_seed(0)
    model = network.model.double()  # in deep networks the statistics of a small batch make much of float32's rounding
    x = torch.rand(4, *network.provider.shape()[1:], dtype=torch.double)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data[torch.rand(len(parameter)) < 0.3] = 0.0
            parameter.data *= torch.rand(parameter.shape) < 0.7
        else:
            parameter.data.uniform_(-1, 1)
    before = copy.deepcopy(model.state_dict())
    chains = chains_of(model, x)
    assert len(chains.layers) == n_hidden
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    wanted = [outputs(model, x, training=training) for training in (False, True)]
    assert remove_dead_(model, example=x)
    assert torch.equal(outputs(model, x, training=False), wanted[0])
    assert sort_units_(model, example=x)
    for training in (False, True):
        torch.testing.assert_close(outputs(model, x, training=training), wanted[training])
    connected = [cell for cell in model if getattr(cell, "connections", None) is not None]
    assert not any(cell.weight[~cell.connections].any() for cell in connected)


@pytest.mark.parametrize("name", PUBLISHED)
def test_hidden_units_are_found_and_may_change_places(name):
    tidied(network_of(name, size=64 if "squeezenet" in name else 32), HIDDEN[name])


def test_so_they_are_in_a_network_that_comes_from_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    onnx.save(runpy.run_path(str(EXAMPLES / "n2d2" / "make_onnx.py"))["network"](), tmp_path / "digits.onnx")
    shutil.copy(EXAMPLES / "n2d2" / "onnx.ini", tmp_path)
    tidied(build(ini.read(tmp_path / "onnx.ini")), 3)


def test_thresholds_of_single_cells_hold():
    """A configuration section overrides the cell: what cells have of their own must not stand in one."""
    assert network_of("n2d2/cifar10.ini").network.quantizers["conv1.1"].threshold == 0.5
    assert network_of("n2d2/mobilenet_v1.ini", size=32).network.quantizers["conv2_3_dw"].threshold == 0.3


def test_lenet_ends_at_more_than_nine_tenths():
    network = network_of("n2d2/lenet.ini")
    sizes = {row.layer.split()[0]: row.kept for row in summarize(network.model).rows}
    kept = {name: sizes[name] * (1 - quantizer.threshold) for name, quantizer in network.network.quantizers.items()}
    assert 1 - sum(kept.values()) / sum(sizes[name] for name in kept) > 0.9


def test_the_default_plan_takes_as_much_of_the_same_lenet():
    by_plan, by_hand = (network_of(name) for name in ("lenet.ini", "n2d2/lenet.ini"))
    assert summarize(by_plan.model).rows == summarize(by_hand.model).rows
    pruner = pc.Pruner(by_plan.model, by_plan.plan, epoch_size=1)
    for _ in range(by_plan.network.default_plan.epochs):
        pruner.step(1)
    n_pruned = sum(weight.n_weights - weight.n_kept for weight in pruner.report().weights)
    assert n_pruned / 60_570 > 0.911
