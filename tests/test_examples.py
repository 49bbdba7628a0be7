"""The scripts of examples/ run from top to bottom, on scikit-learn's digits in the form of MNIST's files."""

import argparse
import re
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from prunecell.data import digits

EXAMPLES = Path(__file__).parents[1] / "examples"


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
    """Run a script in an empty folder, and give its names and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, "--data", str(data), *arguments])
        return runpy.run_path(str(EXAMPLES / script), run_name="__main__"), capsys.readouterr().out

    with torch.random.fork_rng():
        yield run


def percents(text):
    return [float(number) for number in re.findall(r"([\d.]+) ?%", text)]


@pytest.mark.parametrize(
    ("arguments", "most_bytes"),
    [
        (("--dense-epochs", "15", "--epochs", "12"), 50_000),
        (("--network", "lenet-5", "--shift", "--dense-epochs", "4", "--epochs", "2"), 200_000),
    ],
    ids=["lenet-300-100", "lenet-5"],
)
def test_deep_compression(run, arguments, most_bytes):
    names, printed = run("deep_compression.py", *arguments, "--lam", "1e-4")
    error, dense_error = percents(re.search(r"^test error .*$", printed, re.MULTILINE)[0])
    assert error <= dense_error + 3 <= 50
    assert names["path"].stat().st_size == names["n_bytes"] <= most_bytes


def test_a_resnet_is_folded_and_made_of_integers(run):
    names, printed = run("resnet_fashion.py", "--depth", "1", "--epochs", "2", "--lam", "1e-5")
    assert names["small"] < names["dense"] / 3
    assert re.search(r"^9 BatchNorms folded$", printed, re.MULTILINE)
    assert percents(printed)[-1] == percents(printed)[-2] <= 60  # the file holds what was trained
    assert all(torch.equal(a, b) for a, b in zip(names["model"].parameters(), names["again"].parameters(), strict=True))


def test_a_lottery_ticket(run):
    names, printed = run("lottery_ticket.py", "--rounds", "2", "--epochs", "6", "--rewind", "10")
    rows = [percents(line) for line in printed.splitlines()[1:]]
    assert [row[0] for row in rows] == pytest.approx([100.0, 66.7, 44.5], abs=0.5)
    assert max(max(row[1:]) for row in rows) <= 20
    assert names["same"].sparsity == pytest.approx(0.555, abs=0.01)


def test_structured_then_sparse(run):
    pytest.importorskip("torch_pruning")
    names, printed = run("structured_then_sparse.py", "--depth", "1", "--epochs", "2")
    sizes = [sum(p.numel() for p in net.parameters()) for net in (names["network"](), names["model"], names["again"])]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2] / 1.01
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["dense", "structured", "then"]
    assert Path("then sparse.pcell").stat().st_size < Path("structured.pcell").stat().st_size


def test_rigl(run):
    _, printed = run("rigl.py", "--epochs", "20", "--sparsity", "0.9")
    rows = [percents(line) for line in printed.splitlines()[1:]]
    assert all(row[0] == pytest.approx(90, abs=0.1) for row in rows)
    assert max(row[-1] for row in rows) <= 30
    moved = [int(re.search(r"% +([\d,]+) ", line)[1].replace(",", "")) for line in printed.splitlines()[1:]]
    assert moved[0] == 0 < min(moved[1:])


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_option_says_what_it_is(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    options = []
    add = argparse.ArgumentParser.add_argument

    def adding(parser, *names, **named):
        options.append((names, named.get("help")))
        return add(parser, *names, **named)

    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", adding)
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert len(options) > 2
    assert not [names for names, told in options if not told]


def test_each_script_is_run_here():
    tests = Path(__file__).read_text()
    scripts = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(scripts) >= 5
    assert not [script for script in scripts if f'"{script}"' not in tests]
