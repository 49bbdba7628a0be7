"""The scripts of examples/n2d2 run from top to bottom, on scikit-learn's digits in the form of MNIST's files."""

import re
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import n2d2
import prunecell as pc
from prunecell.data import digits

EXAMPLES = Path(__file__).parents[2] / "examples" / "n2d2"
MNIST = ("--data_path", "data")
TRAINING = {  # script -> arguments, the least success on Test in percent, files that it writes
    "mnist_minimal.py": ((*MNIST, "--epochs", "4"), 60, ()),
    "load_numpy_data.py": (("--epochs", "6"), 60, ("digits.pcell",)),
    "performance_analysis.py": (
        (*MNIST, "--batch_size", "8"),
        60,
        ("performance/stats.log", "performance/confusion.dat", "performance/loss.dat"),
    ),
    "torch_example.py": ((*MNIST, "--epochs", "2", "--batch_size", "8"), 60, ()),
    "lenet.py": (  # LeNet's fillers are small: it needs more data before it learns
        (*MNIST, "--epochs", "1"),
        5,
        ("lenet.pcell", "Score_*/ConfusionMatrix_lenet.dat", "Score_*/Success_lenet.dat"),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files like MNIST's, of 28 x 28 pixels."""
    folder, small = tmp_path_factory.mktemp("examples"), digits()
    for start, images, labels in (
        ("train", small.train_images[:800], small.train_labels[:800]),
        ("t10k", small.test_images[:200], small.test_labels[:200]),
    ):
        pixels = np.pad(images.numpy().repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
        shape = struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(shape + pixels.tobytes())
        length = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(length + labels.numpy().astype(np.uint8).tobytes())
    return folder


@pytest.fixture
def run(data, tmp_path, monkeypatch, capsys):
    """Run a script in an empty folder with data/, and give its names and what it printed."""
    (tmp_path / "data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    for name in ("seed", "verbosity"):
        monkeypatch.setattr(n2d2.global_variables, name, getattr(n2d2.global_variables, name))

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        return runpy.run_path(str(EXAMPLES / script), run_name="__main__"), capsys.readouterr().out

    return run


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)  # they take longer than the learning


def success(printed):
    return float(re.findall(r"^[Tt]est: (?:success )?([\d.]+) ?%", printed.replace("\r", "\n"), re.MULTILINE)[-1])


@pytest.mark.parametrize("script", TRAINING)
@pytest.mark.usefixtures("no_pictures")
def test_a_script_learns_and_prunes(run, script):
    arguments, least, files = TRAINING[script]
    names, printed = run(script, *arguments)
    assert success(printed) >= least
    assert not [file for file in files if not list(Path().glob(file))]
    for cell in cells_of(names):
        mask = cell.quantizer.get_pruned_masks().to_numpy()
        assert 1 - mask.mean() >= cell.quantizer.get_current_threshold() - 1e-6 >= 0.29
        assert not cell.weight.detach().numpy()[mask == 0].any()


def cells_of(names):
    """The cells that a script prunes."""
    cells = names.get("model") or [value for value in names.values() if isinstance(value, n2d2.cells.Cell)]
    cells = names["net"].get_block() if "net" in names else cells
    pruned = [cell for cell in cells if isinstance(cell, n2d2.cells.Conv | n2d2.cells.Fc)]
    assert len(pruned) > 1
    return pruned


@pytest.mark.usefixtures("no_pictures")
def test_a_network_goes_from_one_onnx_file_to_another_and_learns_other_digits(run):
    onnx.save(runpy.run_path(str(EXAMPLES / "make_onnx.py"))["network"](), "digits.onnx")
    names, printed = run("load_onnx.py", *MNIST, "--epochs", "3", "--batch_size", "8")
    assert success(printed) >= 60
    kept = {name: quantizer.get_pruned_masks().mean() for name, quantizer in names["model"].quantizers().items()}
    assert max(kept.values()) <= 0.1
    trained = n2d2.cells.DeepNetCell.load_from_ONNX(None, "digits_trained.onnx")
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(trained.test()(x), names["model"].test()(x))
    names, printed = run("transfer_learning.py", "--epochs", "15")
    assert success(printed) >= 60
    assert 1 - names["head"].quantizer.get_pruned_masks().mean() >= 0.5
    assert [cell.get_name() for cell in names["extractor"]] == [cell.get_name() for cell in trained][:-1]


def gray(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_each_transformation_has_a_picture_of_its_own(run):
    names, printed = run("data_augmentation.py", *MNIST)
    pictures = {name: gray(f"{name}.png") for name in ["original", *names["AUGMENTATIONS"]]}
    assert {picture.shape for picture in pictures.values()} == {(28, 28)}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)
    assert np.array_equal(pictures["flipped"], pictures["original"][::-1])
    assert len(set(re.findall(r"label (\d)", printed))) == 1


def test_graphs_are_drawn(run):
    names, printed = run("graph_example.py")
    for picture in ("two_cells.png", "lenet.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 100
    assert "last_fully keeps 50% of its weights" in printed
    assert (Path("extractor_parameters") / f"{names['extractor'][0].get_name()}_weights.syntxt").exists()


def test_what_is_saved_is_small_and_the_same(run):
    names, _ = run("load_numpy_data.py", "--epochs", "1")
    state, loaded = names["model"].state_dict(), pc.load("digits.pcell")
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert Path("digits.pcell").stat().st_size < 4 * sum(value.numel() for value in state.values())


def test_each_script_is_run_here_and_told_of_in_the_guide():
    tests, guide = Path(__file__).read_text(), (EXAMPLES.parents[1] / "docs" / "n2d2.md").read_text()
    scripts = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(scripts) > 5
    assert not [script for script in scripts if f'"{script}"' not in tests or f"`{script}`" not in guide]
