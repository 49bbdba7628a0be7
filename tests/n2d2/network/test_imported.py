"""Type=ONNX: the cells of a file among those of the sections."""

import runpy
import shutil
from pathlib import Path

import pytest
import torch

from n2d2 import ini
from n2d2.cells import Conv, Fc
from n2d2.experiment.experiment import build

EXAMPLES = Path(__file__).parents[3] / "examples" / "n2d2"


@pytest.fixture
def folder(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    network = runpy.run_path(str(EXAMPLES / "make_onnx.py"))["network"]
    onnx.save(network(), tmp_path / "digits.onnx")
    shutil.copy(EXAMPLES / "onnx.ini", tmp_path)
    return tmp_path


def test_cells_of_the_file_are_cells_of_the_network(folder):
    network = build(ini.read(folder / "onnx.ini"))
    assert isinstance(network.model["conv1"], Conv)
    assert isinstance(network.model["fc2"], Fc)
    assert network.model.inputs["softmax"] == ["fc2"]
    assert network.model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_sections_say_how_they_learn_and_are_pruned(folder):
    network = build(ini.read(folder / "onnx.ini"))
    thresholds = {name: quantizer.threshold for name, quantizer in network.network.quantizers.items()}
    assert thresholds == {"conv1": 0.6, "conv2": 0.6, "fc1": 0.9, "fc2": 0.9}
    assert network.model["fc1"].weights_solver.momentum == 0.9
    network.model["fc1"].quantizer = network.network.quantizers["fc1"]
    assert (network.model["fc1"].weight == 0).float().mean() >= 0.9


def test_a_section_of_one_cell_goes_before_that_of_its_type(folder):
    text = (
        folder / "onnx.ini"
    ).read_text() + "\n[fc2]\nQWeight=Prune\nQWeight.Threshold=0.2\nBiasSolver.Momentum=0.1\n"
    network = build(ini.parse(text, file=str(folder / "net.ini")))
    assert (network.network.quantizers["fc2"].threshold, network.network.quantizers["fc1"].threshold) == (0.2, 0.9)
    assert network.model["fc2"].bias_solver.momentum == 0.1


def test_the_section_itself_stands_for_the_outputs_of_the_file(folder):
    text = (folder / "onnx.ini").read_text().replace("Input=fc2", "Input=onnx")
    assert build(ini.parse(text, file=str(folder / "net.ini"))).model.inputs["softmax"] == ["fc2"]


def test_operators_at_the_end_can_be_left_out_and_others_put_there(folder):
    text = (folder / "onnx.ini").read_text()
    text = text.replace("File=", "Ignore=fc2\nFile=").replace("[softmax]\nInput=fc2", "[softmax]\nInput=head")
    head = "\n[head]\nInput=onnx,relu3\nType=Fc\nNbOutputs=10\n"
    network = build(ini.parse(text + head, file=str(folder / "net.ini")))
    assert network.model.inputs["head"] == ["relu3"]
    assert "fc2" not in network.model.inputs
    assert network.model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_cells_of_the_file_can_keep_their_statistics_and_send_no_gradient_back(folder):
    text = (folder / "onnx.ini").read_text().replace("[onnx:Conv_def]", "[onnx:Conv_def]\nBackPropagate=0\nNoBias=0")
    assert build(ini.parse(text, file=str(folder / "net.ini"))).model["conv1"].back_propagate is False


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "digits.onnx",
            "nothing.onnx",
            r"\[onnx\] File='nothing.onnx' is illegal: there is no file .*; none is fetched",
        ),
        ("File=digits.onnx", "", r"\[onnx\] File is missing"),
        ("File=", "Ignore=fc3\nFile=", r"\[onnx\] ignore='fc3' is illegal; did you mean 'fc"),
        ("File=", "ONNX_init=0\nFile=", r"\[onnx\] ONNX_init is refused: the weights are"),
        ("[onnx:Fc_def]", "[onnx:Fc_def]\nNoBias=1", r"NoBias is refused: 'fc1' has biases in the file"),
        ("File=", "Transpose=1\nFile=", r"\[onnx\] Transpose is refused"),
        ("Input=fc2", "Input=fc9", r"there is no section \[fc9\]"),
        ("[softmax", "[fc2", r"\[fc2\] there are two cells of the name 'fc2'"),
        (
            "SizeX=28",
            "SizeX=27",
            r"\[onnx\] an input of 192 does not fit 'fc1': ",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder, old, new, message):
    text = (folder / "onnx.ini").read_text().replace(old, new)
    with pytest.raises(ini.IniError, match=message):
        build(ini.parse(text, file=str(folder / "net.ini")))


def test_without_a_target_a_softmax_at_the_end_of_the_file_has_one(folder):
    onnx = pytest.importorskip("onnx")
    text = (folder / "onnx.ini").read_text()
    text = text[: text.index("[softmax]")] + text[text.index("[solver.config]") :]
    with pytest.raises(ini.IniError, match=r"section \[fc2.Target\] is missing"):
        build(ini.parse(text, file=str(folder / "net.ini")))
    model = onnx.load(folder / "digits.onnx")
    model.graph.node.append(onnx.helper.make_node("Softmax", ["fc2"], ["scores"]))
    model.graph.output[0].name = "scores"
    onnx.save(model, folder / "digits.onnx")
    network = build(ini.parse(text, file=str(folder / "net.ini"))).network
    assert [(target.name, network.outputs) for target in network.targets] == [("scores.Target", ["scores"])]
