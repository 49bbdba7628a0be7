"""The command `prunecell`: what it writes, how it stops and goes on, and what it refuses."""

import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import prunecell
from prunecell import cli, training

INI = """
[database]
Type=MNIST_IDX_Database
DataPath=data
Validation=0.2
[sp]
SizeX=8
SizeY=8
BatchSize=32
[fc1]
Input=sp
Type=Fc
NbOutputs=16
ActivationFunction=Rectifier
ConfigSection=config
[fc2]
Input=fc1
Type=Fc
NbOutputs=10
ConfigSection=config
[softmax]
Input=fc2
Type=Softmax
NbOutputs=10
WithLoss=1
[softmax.Target]
[config]
Solvers.LearningRate=0.1
Solvers.Momentum=0.9
QWeight=Prune
QWeight.PruningMode=Gradual
QWeight.PruningFiller=IterNonStruct
QWeight.StartThreshold=0.3
QWeight.GammaThreshold=0.1
QWeight.Threshold=0.6
QWeight.StepSizeThreshold=320
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder with data/, 8 x 8 pictures, and net.ini; no figures are drawn, which is slow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (10, 8, 8))
    Path("data").mkdir()
    for start, n in (("train", 400), ("t10k", 100)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        pixels = (pictures[labels] * 0.8 + random.integers(0, 50, (n, 8, 8))).astype(np.uint8)
        pictures_file, labels_file = Path(f"data/{start}-images-idx3-ubyte"), Path(f"data/{start}-labels-idx1-ubyte")
        pictures_file.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, n, 8, 8) + pixels.tobytes())
        labels_file.write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes())
    Path("net.ini").write_text(INI)
    return tmp_path


def call(capsys, monkeypatch, *words, status=0):
    """Run the command in this process; return what it printed and what it complained of."""
    monkeypatch.setattr(sys, "argv", ["prunecell", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    assert (exit_.value.code or 0) == status, err
    return out, err


@pytest.fixture
def command(capsys, monkeypatch):
    return lambda *words: call(capsys, monkeypatch, *words)[0]


@pytest.fixture
def refusal(capsys, monkeypatch):
    return lambda *words: call(capsys, monkeypatch, *words, status=1)[1]


@pytest.mark.usefixtures("workplace")
def test_a_run_reports_and_leaves_its_files(command):
    out = command("run", "net.ini", "--epochs", "4")
    assert "net: dense" in out
    assert re.search(r"epoch   4  loss \d\.\d+  accuracy \d+\.\d\d%  sparsity 60\.\d+%  target 60\.00%", out)
    assert "not pruned (a bias)" in out
    result = json.loads(Path("runs/net/report.json").read_text())
    assert len(result["epochs"]) == len(result["epochs_dense"]) == 4
    assert result["accuracy"] > 0.5
    assert result["sizes"]["stored"] == Path("runs/net/net.pcell").stat().st_size
    weight = prunecell.load("runs/net/net.pcell")["fc1.layer.weight"]
    assert (weight == 0).double().mean() >= 0.6


@pytest.mark.usefixtures("workplace")
def test_a_killed_run_goes_on_to_the_same_bytes(command):
    command("run", "net.ini", "--epochs", "3", "--out", "whole")
    script = """
import os, signal, sys
from prunecell import cli
from n2d2.experiment import fitting
from prunecell.checkpoint import Checkpoint
Checkpoint.due = property(lambda self: True)
fit = fitting.fit
def dying(task, epochs, *, checkpoint, watch):
    def fatal(progress):
        watch(progress)
        if task.pruner is not None and progress.total_samples == 32 * 17:
            os.kill(os.getpid(), signal.SIGKILL)
    return fit(task, epochs, checkpoint=checkpoint, watch=fatal)
fitting.fit = dying
cli.main()
"""
    words = ["run", "net.ini", "--epochs", "3", "--out", "killed"]
    killed = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not Path("killed/net.pcell").exists()
    assert Path("killed/pruned.checkpoint").exists()
    command(*words, "--resume")
    assert Path("killed/net.pcell").read_bytes() == Path("whole/net.pcell").read_bytes()


@pytest.mark.usefixtures("workplace", "ctrl_c")
def test_after_ctrl_c_it_says_how_to_go_on(command, capsys, monkeypatch):
    command("run", "net.ini", "--epochs", "2", "--out", "whole")
    with monkeypatch.context() as context:
        context.setattr(training, "evaluate", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        words = ["run", "net.ini", "--epochs", "2", "--out", "a folder"]
        out, err = call(capsys, context, *words, status=130)
    assert err == "interrupted; to go on: prunecell run net.ini --epochs 2 --out 'a folder' --resume\n"
    assert "Traceback" not in out
    command(*words, "--resume")
    assert Path("a folder/net.pcell").read_bytes() == Path("whole/net.pcell").read_bytes()


@pytest.mark.usefixtures("workplace")
def test_a_run_goes_on_under_the_same_setting_only(command, refusal):
    def again(*words):
        return refusal("run", "net.ini", "--out", "out", "--resume", *words)

    command("run", "net.ini", "--epochs", "2", "--out", "out")
    assert "epochs=1 is illegal: out/dense.checkpoint has 2 already" in again("--epochs", "1")
    problem = "out/dense.checkpoint is of another run: setting does not fit: "
    assert problem + "it was made with seed 0, not 7" in again("--epochs", "2", "--seed", "7")
    Path("net.ini").write_text(INI.replace("LearningRate=0.1", "LearningRate=0.2"))
    change = "then [[config]Solvers.LearningRate=0.1], now [[config]Solvers.LearningRate=0.2]"
    assert problem + change in again("--epochs", "2")
    Path("net.ini").write_text("; other words only\n" + INI)
    assert "was read back bit for bit" in command("run", "net.ini", "--out", "out", "--resume", "--epochs", "3")


@pytest.mark.usefixtures("workplace")
def test_without_a_dense_network_nothing_is_compared_with_it(command):
    out = command("run", "net.ini", "--epochs", "1", "--no-reference")
    assert "gzip of dense" not in out
    assert "bytes, gzip of it" not in out
    assert json.loads(Path("runs/net/report.json").read_text())["sizes"]["dense_gzip"] is None


@pytest.mark.usefixtures("workplace")
def test_a_loss_that_is_no_number_ends_the_run(refusal):
    Path("net.ini").write_text(INI.replace("LearningRate=0.1", "LearningRate=1e38"))
    assert "error: the loss is nan in epoch 1: try a smaller learning rate" in refusal("run", "net.ini")


@pytest.mark.usefixtures("workplace")
def test_a_full_disk_is_named_and_leaves_no_halves(refusal, monkeypatch):
    save = torch.save

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", lambda states, file: save(states, Full(file)))
    assert (
        refusal("run", "net.ini", "--epochs", "1") == f"error: runs/net/dense.checkpoint: {os.strerror(errno.ENOSPC)}\n"
    )
    assert not list(Path("runs/net").iterdir())


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.ini"], "missing.ini: there is no such file"),
        (["data"], "data: it is no regular file"),
        (["broken.ini"], "broken.ini:1: '[conv1' is no header"),
        (["net.ini", "--data", "nowhere"], "MNIST is not in nowhere"),
        (["net.ini", "--out", "net.ini"], "net.ini: File exists"),
    ],
)
def test_what_cannot_be_run_is_named(refusal, words, message):
    Path("broken.ini").write_text("[conv1\n")
    assert f"error: {message}" in refusal("run", *words, "--epochs", "1")


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
def test_warnings_are_told_without_source_code(capsys, monkeypatch):
    Path("net.ini").write_text(INI.replace("[config]", "[config]\nQWeight.Typo=1"))
    _, err = call(capsys, monkeypatch, "run", "net.ini", "--epochs", "1", "--lenient")
    assert re.match(r"warning: net\.ini:\d+: .*Typo", err)
    assert ".py" not in err


@pytest.fixture
def checkpoint(workplace):
    torch.save({"weight": torch.eye(100)}, "eye.pt")
    return workplace


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_is_packed_shown_and_unpacked(command):
    assert re.match(r"eye\.pt: 4\d,\d{3} bytes -> eye\.pcell: \d{3} bytes", command("pack", "eye.pt", "eye.pcell"))
    assert re.search(r"weight +float32 +100x100 .* 100 +40,000", command("inspect", "eye.pcell"))
    command("unpack", "eye.pcell", "again.pt")
    assert torch.equal(torch.load("again.pt")["weight"], torch.eye(100))
    assert re.match(r"eye\.pcell: \d{3} bytes -> eye\.pcell: \d{3} bytes", command("pack", "eye.pcell", "eye.pcell"))


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_is_never_overwritten_by_an_archive(refusal):
    before = Path("eye.pt").read_bytes()
    assert "eye.pt: the archive's name must end in .pcell" in refusal("pack", "eye.pt", "eye.pt")
    assert Path("eye.pt").read_bytes() == before


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pack", "missing.pt", "a.pcell"], "missing.pt: No such file or directory"),
        (["pack", "empty.pt", "a.pcell"], "empty.pt: torch reads no plain weights from it (EOFError)"),
        (
            ["pack", "data", "a.pcell"],
            "data: its ending is none that can be read; Legal: .bin, .ckpt, .pcell, .pt, .pth, .safetensors",
        ),
        (["pack", "eye.pt", "a.pcell", "--values", "int9"], "values='int9' is illegal; did you mean 'int8'?"),
        (["unpack", "empty.pcell", "a.pt"], "empty.pcell: a file of 0 bytes"),
        (["unpack", "eye.pt", "a.pt"], "eye.pt: "),
        (["inspect", "missing.pcell"], "missing.pcell: No such file or directory"),
        (["inspect", "data"], "data: Is a directory"),
    ],
)
def test_files_that_are_none_are_named(refusal, words, message):
    Path("empty.pt").touch()
    Path("empty.pcell").touch()
    assert f"error: {message}" in refusal(*words)
    assert not list(Path().glob("a.*"))


def test_the_package_is_the_command_too():
    shown = subprocess.run([sys.executable, "-m", "prunecell", "--help"], capture_output=True, text=True, check=True)
    assert "Pruning that really makes a PyTorch model smaller" in shown.stdout
