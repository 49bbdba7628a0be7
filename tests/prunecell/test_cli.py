"""The command `prunecell`: what it writes, how it stops and goes on, and what it refuses."""

import errno
import inspect
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
from safetensors.torch import save_file

import prunecell
from n2d2.experiment.experiment import Experiment
from prunecell import cli
from prunecell.files.formats import WRITERS

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

FULL = "No space left on device: make room on the disk, or use another folder"


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
    assert re.search(
        r"epoch 4 of 4  loss \d\.\d+  validation accuracy \d+\.\d\d%  sparsity 60\.\d+%  target 60\.00%", out
    )
    assert "not pruned (a bias)" in out
    assert "whole model: " in out
    result = json.loads(Path("runs/net/report.json").read_text())
    assert len(result["epochs"]) == len(result["epochs_dense"]) == 4
    assert result["accuracy"] > 0.5
    assert 0 < result["report"]["model_sparsity"] < result["report"]["sparsity"]
    assert result["sizes"]["stored"] == Path("runs/net/net.pcell").stat().st_size
    weight = prunecell.load("runs/net/net.pcell")["fc1.layer.weight"]
    assert (weight == 0).double().mean() >= 0.6


@pytest.mark.usefixtures("workplace")
def test_a_run_cannot_be_resumed_while_it_lives(refusal):
    script = """
import sys
from prunecell import cli
from n2d2.experiment import fitting
fit = fitting.fit
def waiting(task, epochs, *, checkpoint, watch):
    print("it learns", file=sys.stderr, flush=True)
    sys.stdin.read()
    return fit(task, epochs, checkpoint=checkpoint, watch=watch)
fitting.fit = waiting
cli.main()
"""
    words = ["run", "net.ini", "--epochs", "1", "--out", "out", "--no-reference"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as live:
        assert live.stderr.readline() == b"it learns\n"
        before = tree("out")
        for more in (["--resume"], ["--force"], []):
            assert f"process {live.pid} on " in refusal(*words, *more)
        assert tree("out") == before
        live.kill()


DENSE = INI.partition("QWeight=")[0]
RATE = "[prunecell.Rate]\nLambda=1e-4\nEpochs=3\n"
STAGES = {
    "pruned": (INI, ["dense", "pruned"]),
    "pruned, then integers": (INI + RATE, ["dense", "pruned", "integers"]),
    "integers": (DENSE + RATE, ["dense", "integers"]),
}
"""What a file asks for -> the file, and the stages of a run."""
EPOCHS = {"dense": "epochs_dense", "pruned": "epochs", "integers": "epochs_integers"}
"""Stage -> where its epochs are among the numbers."""

every_file = pytest.mark.parametrize(("ini", "stages"), STAGES.values(), ids=STAGES)


@pytest.mark.usefixtures("workplace")
@every_file
def test_a_run_has_the_stages_that_its_file_asks_for_and_tells_of_no_others(command, monkeypatch, ini, stages):
    Path("net.ini").write_text(ini)
    drawn = {}
    monkeypatch.setattr("n2d2.experiment.run.draw_run", lambda _, **what: drawn.update(what))
    out = command("run", "net.ini", "--epochs", "3", "--out", "out")
    assert re.findall(r" net: (\w+)", out) == stages
    assert {path.stem for path in Path("out").glob("*.checkpoint")} == set(stages)
    assert set(re.findall(r"test accuracy, (dense|pruned|integers)", out)) == set(stages)
    assert re.findall(r"bytes, gzip of the (integers|pruned one|dense one)", out)[-1].startswith(stages[-1])
    result = json.loads(Path("out/report.json").read_text())
    assert {stage: len(result[key]) for stage, key in EPOCHS.items()} == {
        stage: 3 if stage in stages else 0 for stage in EPOCHS
    }
    assert (result["pruned"] is not None) == (len(stages) == 3)
    assert min(result["accuracy"], result["accuracy_dense"]) > 0.5
    assert Path("out/net.pcell").stat().st_size == result["sizes"]["stored"]
    if "integers" in stages:
        before = result["pruned"]["stored"] if result["pruned"] else result["sizes"]["dense"]
        assert 0 < result["sizes"]["stored"] * 4 < before
    n_epochs = 3 * len([stage for stage in stages if stage != "dense" or "pruned" not in stages])
    assert drawn["n_epochs"] == n_epochs
    ends = {label.removeprefix("validation, "): points[-1][0] for label, points in drawn["accuracies"].items()}
    assert ends == {stage: n_epochs if stage == "integers" else 3 for stage in stages}
    times = [time for time, _ in drawn["sparsity"]]
    assert times == sorted(times)
    assert (times[0] == 0) == ("pruned" in stages)
    assert drawn["sparsity"][-1][1] == pytest.approx(result["report"]["sparsity"])


@pytest.mark.usefixtures("workplace")
@every_file
def test_a_run_that_goes_on_ends_as_one_that_begins_anew(command, ini, stages):
    Path("net.ini").write_text(ini)
    words = ["run", "net.ini", "--out", "out", *(["--no-reference"] if "pruned" in stages else [])]
    command(*words, "--epochs", "3")
    command(*words, "--epochs", "4", "--resume")
    went_on = Path("out/net.pcell").read_bytes()
    command(*words, "--epochs", "4", "--force")
    assert Path("out/net.pcell").read_bytes() == went_on


@pytest.mark.usefixtures("workplace")
def test_a_run_of_which_nothing_would_become_small_is_refused(refusal):
    Path("net.ini").write_text(DENSE)
    told = refusal("run", "net.ini")
    assert "error: net.ini: nothing is pruned: no section has QWeight=Prune" in told
    assert "nothing becomes integers: there is no section [prunecell.Rate]" in told
    assert not Path("runs").exists()


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
def test_a_dense_network_that_becomes_integers_cannot_be_left_out(capsys, monkeypatch):
    Path("net.ini").write_text(DENSE + RATE)
    out, err = call(capsys, monkeypatch, "run", "net.ini", "--epochs", "1", "--no-reference")
    assert "warning: the dense network is trained all the same, because integers are made of it" in err
    assert "test accuracy, dense network" in out


@pytest.mark.usefixtures("workplace")
def test_a_run_by_force_leaves_no_state_of_a_stage_that_its_file_no_longer_asks_for(command):
    Path("net.ini").write_text(INI + RATE)
    command("run", "net.ini", "--epochs", "1", "--out", "out")
    Path("net.ini").write_text(INI)
    command("run", "net.ini", "--epochs", "1", "--out", "out", "--no-reference", "--force")
    assert [path.stem for path in Path("out").glob("*.checkpoint")] == ["pruned"]


@pytest.mark.usefixtures("workplace", "ctrl_c")
@pytest.mark.parametrize(
    ("ini", "n_th"),
    [(ini, n_th) for ini, stages in STAGES.values() for n_th in range(1, len(stages) + 1)],
    ids=[f"{asked}: in {stage}" for asked, (_, stages) in STAGES.items() for stage in stages],
)
def test_after_ctrl_c_it_says_how_to_go_on_to_the_same_end(command, capsys, monkeypatch, ini, n_th):
    Path("net.ini").write_text(ini)
    command("run", "net.ini", "--epochs", "3", "--out", "whole")
    words = ["run", "net.ini", "--epochs", "3", "--out", "a folder"]
    stimuli, seen = Experiment.stimuli, 0

    def interrupting(experiment, partition):
        nonlocal seen
        seen += partition == "Validation"
        if seen == 3 * n_th - 1 and partition == "Validation":  # in the second epoch of the stage
            os.kill(os.getpid(), signal.SIGINT)
        return stimuli(experiment, partition)

    with monkeypatch.context() as context:
        context.setattr(Experiment, "stimuli", interrupting)
        out, err = call(capsys, context, *words, status=130)
    assert err == "interrupted; to go on: prunecell run net.ini --epochs 3 --out 'a folder' --resume\n"
    assert "Traceback" not in out
    command(*words, "--resume")
    assert Path("a folder/net.pcell").read_bytes() == Path("whole/net.pcell").read_bytes()


@pytest.mark.usefixtures("workplace")
def test_a_run_goes_on_under_the_same_setting_only(command, refusal):
    def again(*words):
        return refusal("run", "net.ini", "--out", "out", "--resume", *words)

    command("run", "net.ini", "--epochs", "2", "--out", "out")
    assert "--epochs 1 is illegal: out/dense.checkpoint has 2 already: give --epochs 2 or more" in again(
        "--epochs", "1"
    )
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
    assert "gzip of the dense one" not in out
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
    assert refusal("run", "net.ini", "--epochs", "1") == f"error: runs/net/dense.checkpoint: {FULL}\n"
    assert not list(Path("runs/net").iterdir())


@pytest.mark.usefixtures("workplace")
def test_a_run_without_room_on_the_disk_is_told_and_a_stopped_one_how_to_go_on(command, refusal, monkeypatch):
    command("run", "net.ini", "--epochs", "1", "--no-reference")
    before = tree("runs")
    monkeypatch.setattr(sys, "argv", ["prunecell", "run", "net.ini", "--epochs", "2", "--resume"])
    with monkeypatch.context() as context:
        context.setattr("n2d2.experiment.run.checkpoint_bytes", lambda _: 10**18)
        told = refusal("run", "net.ini", "--epochs", "2", "--resume")
    assert f"error: {Path('runs/net').resolve()}: No space left on device: about 2000000.0 TB will be" in told
    assert told.endswith("; to go on: prunecell run net.ini --epochs 2 --resume\n")
    assert tree("runs") == before


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.ini"], "missing.ini: there is no such file"),
        (["data"], "data: it is no regular file"),
        (["broken.ini"], "broken.ini:1: '[conv1' is no header"),
        (["net.ini", "--data", "nowhere"], "MNIST is not in nowhere"),
        (["net.ini", "--out", "net.ini"], "--out 'net.ini' is illegal: net.ini is there already, and no folder"),
        (["net.ini", "--resume", "--force"], "--resume and --force are illegal together"),
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
    assert re.match(r"eye\.pt: 4\d,\d{3} bytes -> eye\.pcell: \d{2} bytes", command("pack", "eye.pt", "eye.pcell"))
    assert re.search(r"weight +float32 +100x100 .* 100 +40,000", command("inspect", "eye.pcell"))
    command("unpack", "eye.pcell", "again.pt")
    assert torch.equal(torch.load("again.pt")["weight"], torch.eye(100))
    words = ["pack", "eye.pcell", "eye.pcell", "--force"]
    assert re.match(r"eye\.pcell: \d{2} bytes -> eye\.pcell: \d{2} bytes", command(*words))


@pytest.mark.usefixtures("checkpoint")
def test_a_checkpoint_is_never_overwritten_by_an_archive(refusal):
    before = Path("eye.pt").read_bytes()
    assert "eye.pt: the archive's name must end in .pcell" in refusal("pack", "eye.pt", "eye.pt")
    assert Path("eye.pt").read_bytes() == before


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pack", "missing.pt", "a.pcell"], "missing.pt: there is no such file or folder"),
        (
            ["pack", "empty.pt", "a.pcell"],
            "empty.pt: it is an empty file, not a torch checkpoint: copy or save it again",
        ),
        (["pack", "data", "a.pcell"], "data: a folder without a file of tensors"),
        (
            ["pack", "eye", "a.pcell"],
            "eye: its name has no ending: it must be one of those read: .bin, .bin.index.json, .ckpt,",
        ),
        (["pack", "eye.pt", "a.pcell", "--values", "int9"], "--values 'int9' is illegal; did you mean 'int8'?"),
        (
            ["unpack", "empty.pcell", "a.pt"],
            "empty.pcell: it is an empty file, not a .pcell file: copy or save it again",
        ),
        (
            ["unpack", "eye.pt", "a.pt"],
            "eye.pt: it is a torch checkpoint, not a .pcell file: pack it first: prunecell pack eye.pt eye.pcell",
        ),
        (
            ["unpack", "empty.pcell", "aback"],
            "aback: its name has no ending: it must be one of those written: .bin, .ckpt,",
        ),
        (["inspect", "missing.pcell"], "missing.pcell: there is no such file or folder"),
        (["inspect", "data"], "data: it is a folder, not a .pcell file, and holds no file of tensors"),
        (
            ["inspect", "."],
            ".: it is a folder, not a .pcell file: give a file in it, such as empty.pcell",
        ),
        (["pack", "eye.pt", "nowhere/a.pcell"], "nowhere/a.pcell: there is no folder nowhere"),
        (["pack", "eye.pt", "eye.pt/a.pcell"], "eye.pt/a.pcell: eye.pt is no folder"),
        (["pack", "eye.pt", "a.pcell", "--key", "model"], "eye.pt: --key 'model' is illegal: no state_dict is there"),
        (["pack", "empty.pcell", "a.pcell", "--key", "x"], "--key 'x' is illegal: only a torch checkpoint has entries"),
        (["export", "eye.pt", "a.onnx"], "a.onnx: such a file holds a program, which needs the model"),
    ],
)
def test_files_that_are_none_are_named(refusal, words, message):
    Path("empty.pt").touch()
    Path("empty.pcell").touch()
    Path("eye").write_bytes(Path("eye.pt").read_bytes())
    assert f"error: {message}" in refusal(*words)
    assert not list(Path().glob("a.*"))


def test_the_package_is_the_command_too():
    shown = subprocess.run([sys.executable, "-m", "prunecell", "--help"], capture_output=True, text=True, check=True)
    assert "Pruning that really makes a PyTorch model smaller" in shown.stdout


# ---- nothing is written over unasked


def tree(folder="."):
    """Every file and its bytes, and where links lead."""
    return {
        str(path): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["pack", "eye.pt", "there.pcell"], "there.pcell: it is there already"),
        (["pack", "there.pcell", "there.pcell"], "there.pcell: it is the source itself"),
        (["pack", "there.pcell", "./there.pcell"], "there.pcell: it is the source itself"),
        (["pack", "there.pcell", "link.pcell"], "link.pcell: it is the source itself"),
        (["pack", "link.pcell", "there.pcell"], "there.pcell: it is the source itself"),
        (["pack", "there.pcell", "hard.pcell"], "hard.pcell: it is the source itself"),
        (["pack", "there.pcell", "there.pcell", "--values", "codebook4"], "there.pcell: it is the source itself"),
        (["unpack", "there.pcell", "eye.pt"], "eye.pt: it is there already"),
        (["unpack", "there.pcell", "there.pcell"], "there.pcell: it is the source itself"),
        (["export", "eye.pt", "eye.pt"], "eye.pt: it is the source itself"),
        (["export", "there.pcell", "eye.npz"], "eye.npz: it is there already"),
    ],
)
def test_an_existing_file_is_replaced_only_by_force(command, refusal, words, fact):
    command("pack", "eye.pt", "there.pcell")
    Path("eye.npz").write_text("mine")
    Path("link.pcell").symlink_to("there.pcell")
    Path("hard.pcell").hardlink_to("there.pcell")
    before = tree()
    assert f"error: {fact}; nothing was done: give another name, or --force to replace it\n" == refusal(*words)
    assert tree() == before
    command(*words, "--force")
    target = Path(words[2])
    name = target.resolve() if target.suffix == ".pcell" else target
    assert name.stat().st_size > 20
    if target.suffix != ".npz":
        assert prunecell.files.read(target)["weight"].shape == (100, 100)


@pytest.mark.usefixtures("checkpoint")
def test_a_target_is_looked_at_before_any_work(refusal, monkeypatch):
    monkeypatch.setattr(prunecell.files.formats, "opened", lambda *_, **__: pytest.fail("it was opened"))
    Path("there.pcell").touch()
    refusal("pack", "eye.pt", "there.pcell")
    assert "nowhere/a.pcell: there is no folder nowhere" in refusal("pack", "eye.pt", "nowhere/a.pcell")
    Path("folder.pcell").mkdir()
    assert "folder.pcell: it is a folder: give the name of a file in it" in refusal("pack", "eye.pt", "folder.pcell")


@pytest.mark.usefixtures("checkpoint")
def test_a_folder_that_cannot_be_written_is_named(refusal, monkeypatch):
    Path("locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "locked")  # root may write everywhere
    fact = "locked/a.pcell: Permission denied: no file can be made in the folder locked: get the right"
    assert refusal("pack", "eye.pt", "locked/a.pcell") == f"error: {fact} to it, or use another folder\n"


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("target", ["full.pt", "full.safetensors", "full.npz", "full.pcell"])
def test_a_full_disk_is_told_by_the_systems_words(command, refusal, monkeypatch, target):
    from prunecell.disk import atomic  # noqa: PLC0415 - only this test breaks it

    command("pack", "eye.pt", "eye.pcell")
    fsync = os.fsync

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(atomic.os, "fsync", full)
        words = ["pack", "eye.pt"] if target.endswith(".pcell") else ["unpack", "eye.pcell"]
        assert refusal(*words, target) == f"error: {target}: {FULL}\n"
    assert os.fsync is fsync
    assert not [path for path in Path().iterdir() if "full" in path.name]


@pytest.mark.usefixtures("checkpoint")
def test_a_disk_that_gets_full_while_torch_writes_is_told_too(command, refusal, monkeypatch):
    command("pack", "eye.pt", "eye.pcell")
    save = torch.save

    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", lambda state, _: save(state, Full()))
    assert refusal("unpack", "eye.pcell", "full.pt") == f"error: full.pt: {FULL}\n"
    assert not [path for path in Path().iterdir() if "full" in path.name]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_begun_anew_only_by_force(command, refusal, finished):
    words = ["run", "net.ini", "--epochs", "1", "--out", "out", "--no-reference"]
    command(*words)
    if not finished:
        for name in ("report.json", "net.pcell"):
            Path("out", name).unlink()
    before = tree("out")
    message = refusal(*words)
    assert message.startswith(
        f"error: out: {'a finished' if finished else 'an unfinished'} run is in it (pruned.checkpoint"
    )
    resume = f"--resume {'with more --epochs ' * finished}goes on with it"
    assert f"{resume}, --out FOLDER begins elsewhere, --force begins anew over it" in message
    assert tree("out") == before
    assert "MNIST is not in nowhere" in refusal(*words, "--force", "--data", "nowhere")
    assert tree("out") == before
    command(*words, "--force", "--seed", "3")
    assert tree("out").keys() == {
        f"out/{name}" for name in ("net.pcell", "pruned.checkpoint", "report.json", "run.png")
    }
    assert tree("out")["out/pruned.checkpoint"] != before["out/pruned.checkpoint"]
    command(*words[:-1], "--resume", "--seed", "3", "--no-reference")


@pytest.mark.usefixtures("workplace")
def test_a_resumed_run_prints_the_epochs_that_it_learns(command):
    words = ["run", "net.ini", "--out", "out", "--no-reference"]
    command(*words, "--epochs", "2")
    words.append("--resume")
    learned = "all 2 epochs were learned before; more --epochs go on\n"
    out = command(*words, "--epochs", "2")
    assert learned in out
    assert not re.findall("^epoch ", out, re.MULTILINE)
    out = command(*words, "--epochs", "4")
    assert learned not in out
    assert "going on after epoch 2\nepoch 3 of 4  " in out
    assert re.findall(r"^epoch +(\d)", out, re.MULTILINE) == ["3", "4"]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("there", [[], ["out"], ["out/notes.txt"], ["out/net.pcell"]], ids=str)
def test_where_there_is_nothing_to_resume_nothing_is_begun(command, refusal, there):
    words = ["run", "net.ini", "--epochs", "1", "--no-reference"]
    command(*words, "--out", "mine")
    for path in map(Path, there):
        path.mkdir() if not path.suffix else path.parent.mkdir()
        path.suffix and path.write_text("1")
    before = [*Path().rglob("*")]
    told = refusal(*words, "--out", "out", "--resume")
    assert "error: out: there is no checkpoint in it to go on from; there is one in mine; nothing was done" in told
    assert sorted(Path().rglob("*")) == sorted(before)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("words", "problem"), [(["--data", "nowhere"], "MNIST is not in nowhere"), ([], "No space left on device")]
)
def test_what_is_missing_is_told_before_a_folder_is_made(refusal, monkeypatch, words, problem):
    if not words:
        monkeypatch.setattr("n2d2.experiment.run.checkpoint_bytes", lambda _: 10**18)
    before = [*Path().rglob("*")]
    assert problem in refusal("run", "net.ini", "--out", "deep/out", "--epochs", "1", *words)
    assert sorted(Path().rglob("*")) == sorted(before)


@pytest.mark.usefixtures("workplace")
def test_an_interruption_before_the_first_checkpoint_tells_no_way_to_go_on(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "optimizer", interrupted)
    assert call(capsys, monkeypatch, "run", "net.ini", status=130)[1] == "interrupted\n"


@pytest.mark.usefixtures("workplace")
def test_what_a_schedule_asked_for_is_told_where_there_is_one(command):
    Path("net.ini").write_text(INI + RATE)
    out = command("run", "net.ini", "--epochs", "2")
    told = re.findall(r"^epoch \d of (\d)  .*?(  sparsity \S+)?(  target \S+)?  \S+ s$", out, re.MULTILINE)
    assert [(n, bool(sparsity), bool(target)) for n, sparsity, target in told] == [
        *[("2", False, False)] * 2,
        *[("2", True, True)] * 2,
        *[("3", True, False)] * 3,
    ]


@pytest.mark.usefixtures("workplace")
def test_other_files_in_the_folder_are_left_alone(command):
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    command("run", "net.ini", "--epochs", "1", "--out", "out", "--no-reference")
    assert Path("out/notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("workplace")
def test_an_epoch_is_compared_with_what_its_weights_were_asked_for(command):
    """Sections that are pruned differently: the line gives the mean, which the network can reach."""
    other = INI.partition("[config]")[2].replace("Threshold=0.6", "Threshold=0.3")
    fc2 = "[fc2]\nInput=fc1\nType=Fc\nNbOutputs=10\nConfigSection="
    assert fc2 in INI
    Path("net.ini").write_text(f"{INI.replace(fc2, f'{fc2}other_')}\n[other_config]\n{other}")
    out = command("run", "net.ini", "--epochs", "4", "--no-reference")
    sparsity, target = map(float, re.search(r"epoch 4 of 4 .*sparsity (\d+\.\d+)%  target (\d+\.\d+)%", out).groups())
    assert 30 < target < 60
    assert sparsity == pytest.approx(target, abs=0.5)


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
def test_without_matplotlib_a_run_draws_no_picture_and_says_so(capsys, monkeypatch):
    monkeypatch.setattr("prunecell.report.picture.find_spec", lambda _: None)
    words = ["run", "net.ini", "--epochs", "1", "--no-reference"]
    out, err = call(capsys, monkeypatch, *words)
    assert "no picture is drawn, because matplotlib is not installed: pip install matplotlib" in err
    assert "picture:" not in out
    assert not Path("runs/net/run.png").exists()


# ---- what is printed


def test_the_version_is_told(command):
    assert re.fullmatch(r"prunecell \d+\.\d+\.\d+, torch \S+\n", command("--version"))


@pytest.mark.usefixtures("checkpoint")
def test_the_size_of_a_checkpoint_in_shards_is_that_of_its_shards(command):
    for n in (1, 2):
        save_file({f"w{n}": torch.eye(100)}, f"{n}.safetensors")
    index = {"weight_map": {"w1": "1.safetensors", "w2": "2.safetensors"}}
    Path("model.safetensors.index.json").write_text(json.dumps(index))
    out = command("pack", "model.safetensors.index.json", "a.pcell")
    n_bytes = int(re.match(r"model\.safetensors\.index\.json: ([\d,]+) bytes", out)[1].replace(",", ""))
    assert n_bytes > 80_000
    Path("eye.pt").unlink()
    Path("a.pcell").unlink()
    assert command("pack", ".", "b.pcell").replace("b.pcell", "a.pcell") == out


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.filterwarnings("default")
def test_a_key_chooses_and_what_is_left_out_is_told(capsys, monkeypatch):
    torch.save({"g": {"w": torch.eye(9)}, "d": {"v": torch.eye(9)}, "epoch": 3}, "gan.pt")
    _, err = call(capsys, monkeypatch, "pack", "gan.pt", "gan.pcell", "--key", "d")
    assert (
        "warning: gan.pt: left out, because only tensors are kept, and numbers and text beside them: g (a dict" in err
    )
    assert list(prunecell.load("gan.pcell")) == ["v"]
    _, err = call(capsys, monkeypatch, "export", "gan.pt", "gan.safetensors", "--key", "g")
    assert list(prunecell.files.read("gan.safetensors")) == ["w"]


def test_help_promises_bit_for_bit_only_for_exact(command):
    words = " ".join(command("unpack", "--help").split())
    assert words.count("bit for bit") == words.count("bit for bit, if it was packed with --values exact") == 1


@pytest.mark.usefixtures("checkpoint")
def test_an_archive_is_shown_with_whole_figures_and_no_blank_cell(command, capsys, monkeypatch):
    names = [f"model.decoder.layers.{n}.mlp.up_projection.weight" for n in range(3)]
    shared = torch.eye(300)
    prunecell.save({**{n: torch.eye(300) for n in names}, "n": torch.tensor(3), "a": shared, "b": shared}, "a.pcell")
    assert "beside the tensors" not in command("inspect", "a.pcell")
    prunecell.pack("a.pcell", "a.pcell", metadata={"epoch": 3, "\x1b[2J": "x"})
    out = command("inspect", "a.pcell")
    assert "beside the tensors: epoch, \\x1b[2J\n" in out
    assert all(f"{name}  float32  300x300  gaps8 codebook" in out for name in names)
    assert "b is the alias of a: tied, and stored once" in out
    size = Path("a.pcell").stat().st_size
    assert f"the file: {size:,} bytes, " in out
    monkeypatch.setattr("prunecell.report.table.terminal_width", lambda: 80)
    narrow, _ = call(capsys, monkeypatch, "inspect", "a.pcell")
    assert narrow.count("300x300") == 5
    assert narrow.count("360,000") == 5
    assert max(map(len, narrow.split("\n"))) <= 80 or "\n  " in narrow


PACK_EACH = """
import sys
from prunecell import cli
for number, file in enumerate(sys.argv[1:]):
    sys.argv = ["prunecell", "pack", file, f"{number}.pcell"]
    try:
        cli.main()
    except SystemExit as exit_:
        print("ended with", exit_.code or 0, file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_hostile_names_go_through_a_pipe_and_a_terminal(tmp_path, encoding):
    """The names of tensors, of files and of folders; one process for all, because importing torch takes seconds."""
    names, files = ["[/bold]\x1b[2J", "ü\udc80", "[/bold]ü"], []
    for number, name in enumerate(names):
        file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/%d\xff\x1b[31m[/x].pt" % number))
        file.parent.mkdir()  # the closing tag has a slash
        with file.open("wb") as stream:
            torch.save({"w": torch.eye(3), name: torch.eye(3)}, stream)
        files.append(os.fsencode(file))
    shown = subprocess.run(
        [sys.executable, "-c", PACK_EACH, *files], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    text = shown.stdout.decode(encoding)
    assert all(c.isprintable() or c == "\n" for c in text)
    *told, rest = re.split(r"ended with (\d)\n", text)
    assert not rest
    assert told[1::2] == ["0" if name.isprintable() else "1" for name in names]
    assert ["is illegal: it holds" in text for text in told[::2]] == [not name.isprintable() for name in names]


@pytest.mark.parametrize("name", ["unpack", "export"])
def test_help_lists_every_ending_that_is_written(command, name):
    shown = " ".join(command(name, "--help").replace("\u2502", " ").split())
    assert all(f" {ending}" in shown for ending in WRITERS)


@pytest.mark.parametrize("words", [("pack", "", "x.pcell"), ("unpack", "x.pcell", ""), ("run", "net.ini", "--data=")])
def test_an_empty_argument_is_not_the_current_folder(tmp_path, monkeypatch, refusal, words):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.eye(3)}, "in.pt")
    assert "is illegal: no argument may be empty; the current folder is '.'" in refusal(*words)
    assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]


def test_an_interrupted_tuning_says_that_nothing_was_kept(capsys, monkeypatch):
    def stopped(*, watch):
        watch("1 of 26: linear")
        raise KeyboardInterrupt

    monkeypatch.setattr(prunecell, "tune_runtime", stopped)
    assert call(capsys, monkeypatch, "tune-runtime", status=130) == (
        "1 of 26: linear\n",
        "interrupted; nothing was kept\n",
    )


# ---- the words of the options ----------------------------------------------------------------------------------------

WRONG_SEEDS = ["--seed -1", "--seed 4294967296", "--seed 18446744073709551616"]
WRONG_THREADS = ["--threads 0", "--threads 1025", "--threads 99999999999"]
WRONG_OPTIONS = {
    ("pack", "values"): ["--values bogus"],
    ("pack", "backend"): ["--backend bogus"],
    ("pack", "key"): ["--key absent"],
    ("export", "key"): ["--key absent"],
    ("tune", "max_drop"): ["--max-drop inf", "--max-drop -1"],
    ("tune", "max_rise"): ["--max-drop 1 --max-rise 1"],
    ("tune", "minutes"): ["--max-drop 1 --minutes 0", "--max-drop 1 --minutes inf"],
    ("tune", "epochs"): ["--max-drop 1 --epochs 0"],
    ("tune", "out"): ["--max-drop 1 --out net.ini/there"],
    ("tune", "seed"): [f"--max-drop 1 {words}" for words in WRONG_SEEDS],
    ("tune", "threads"): [f"--max-drop 1 {words}" for words in WRONG_THREADS],
    ("run", "out"): ["--out net.ini/there"],
    ("run", "epochs"): ["--epochs 0"],
    ("run", "seed"): WRONG_SEEDS,
    ("run", "data"): ["--data absent"],
    ("run", "threads"): WRONG_THREADS,
}
"""(command, argument) -> words that are wrong for it, beyond each end of what is legal."""
SOURCES = {"pack": "two.pth new.pcell", "export": "two.pth new.safetensors", "tune": "mine.py", "run": "net.ini"}


def options():
    """(command, argument) of every option that takes a value."""
    for one in cli.app.registered_commands:
        for parameter in inspect.signature(one.callback).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation.__origin__ is not bool:
                yield one.name or one.callback.__name__, parameter.name


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("name", "argument", "words"), [(*one, words) for one in options() for words in WRONG_OPTIONS[one]]
)
def test_what_is_wrong_with_an_option_is_told_in_its_words(capsys, monkeypatch, name, argument, words):
    torch.save({part: {"w": torch.ones(2)} for part in "ab"}, "two.pth")
    Path("mine.py").write_text(
        "import torch\nmodel = torch.nn.Linear(4, 4)\ntrain = [(torch.eye(4), torch.arange(4))] * 20\n"
        "with torch.no_grad():\n    model.weight.copy_(torch.eye(4))\n"
    )
    monkeypatch.setattr(sys, "argv", ["prunecell", name, *SOURCES[name].split(), *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (1, 2)
    err = capsys.readouterr().err
    assert f"--{argument.replace('_', '-')}" in err or (argument in ("out", "data") and words.split()[-1] in err)
    assert not re.findall(rf"\b(?:folder|{'|'.join(argument for _, argument in options())})=|max_(?:drop|rise)", err)
