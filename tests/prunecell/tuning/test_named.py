"""The command `prunecell tune`: a model and its data from a Python file."""

import sys
from pathlib import Path

import pytest
import torch

from prunecell import cli
from prunecell.errors import OptionError
from prunecell.tuning.named import of_file

FILE = """
import torch
from beside import N_CLASSES

x = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
batches = [(part, part[:, :N_CLASSES].argmax(1)) for part in x.split(32)]
train, validation = batches[:3], batches[3:]

def model():
    torch.manual_seed(0)
    net = torch.nn.Linear(8, N_CLASSES)
    with torch.no_grad():
        net.weight.copy_(torch.eye(N_CLASSES, 8) + 0.01 * torch.randn(N_CLASSES, 8))
    return net

if __name__ == "__main__":
    raise SystemExit("it ran as a program")
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    Path("beside.py").write_text("N_CLASSES = 4\n")
    Path("mine.py").write_text(FILE)
    yield tmp_path
    sys.modules.pop("beside", None)


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["prunecell", "tune", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_the_command_finds_a_small_file_and_tells_how(workplace, monkeypatch, capsys):
    assert not run(monkeypatch, "mine.py", "--max-drop", 5, "--epochs", 1, "--threads", 1)
    out = capsys.readouterr().out
    assert "OneShot()" in out
    assert "How it was made:" in out
    assert "pc.save(model" in out
    assert (workplace / "runs" / "mine" / "best.pcell").exists()
    assert not run(monkeypatch, "mine.py", "--max-drop", 5, "--epochs", 1, "--threads", 1)  # goes on, and has ended
    assert capsys.readouterr().out.count("runs/mine/best.pcell") == 1


@pytest.mark.usefixtures("workplace")
def test_what_is_wrong_is_one_message(monkeypatch, capsys):
    assert run(monkeypatch, "mine.py", "--epochs", 1) == 1
    assert "give exactly one of max_drop and max_rise, not none" in capsys.readouterr().err.replace("\n", " ")
    assert run(monkeypatch, "absent.py", "--max-drop", 1) == 1
    assert "absent.py: there is no such file or folder" in capsys.readouterr().err


@pytest.mark.usefixtures("workplace")
def test_names_may_be_things_or_functions_without_arguments():
    found = of_file(Path("mine.py"))
    assert list(found) == ["model", "train", "validation"]
    assert isinstance(found["model"], torch.nn.Linear)
    assert len(found["train"]) == 3
    Path("other.py").write_text(
        f"{FILE.partition('if __name__')[0]}\nmodel = model()\ndef loss(a, b): return 1\n"
        "def train(shuffled=False): return batches\n"
    )
    found = of_file(Path("other.py"))
    assert isinstance(found["model"], torch.nn.Linear)
    assert len(found["train"]) == 5
    assert found["loss"](0, 0) == 1
    Path("nothing.py").write_text(f"{FILE}\nvalidation = loss = metric = optimizer = strategies = None\n")
    assert of_file(Path("nothing.py"))["validation"] is None
    assert not {"loss", "metric", "optimizer", "strategies"} & of_file(Path("nothing.py")).keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.py defines no model: it must define model, a torch.nn.Module, and train, a loader$"),
        ("model = 1\ntrian = 2", "mine.py defines no train: .*did you mean 'trian'"),
        ("model = 1\ndef train(model, epochs): ...", "train is <function train.*, which takes model: it must be the"),
    ],
)
def test_a_file_without_what_is_needed_is_refused(tmp_path, text, message, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(OptionError, match=message):
        of_file(tmp_path / "mine.py")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "net.ini").write_text("")
    with pytest.raises(OptionError, match=r"its name must end in \.py"):
        of_file(tmp_path / "net.ini")
