"""The command `prunecell tune`: a model and its data from a Python file."""

import re
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
    assert "give exactly one of --max-drop and --max-rise, not none" in capsys.readouterr().err.replace("\n", " ")
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


BROKEN = {
    "as it is read": ("net = torch.nn.Linear(3, 'x')", ["<module>"], "TypeError: empty()"),
    "in a function that makes it": (
        "def model():\n    return build()\ndef build():\n    1 / 0",
        ["model", "build"],
        "ZeroD",
    ),
    "while it is measured": (
        "def loss(x, y):\n    return wrong(x)\ndef wrong(x):\n    x[9, 9, 9]",
        ["loss", "wrong"],
        "Ind",
    ),
    "beside it": ("import broken", ["<module>", "<module>"], "RuntimeError: it is broken"),
    "of ours": ("import prunecell as pc\npc.Static(sparsity=2)", ["<module>"], "OptionError: sparsity=2 is illegal"),
    "of the system": ("open('absent.txt')", ["<module>"], "FileNotFoundError: [Errno 2] No such file"),
    "out of another": (
        "try:\n    1 / 0\nexcept Exception as e:\n    raise KeyError(7) from e",
        ["<module>"] * 2,
        "KeyError: 7",
    ),
}
"""Where a user's file fails -> its last lines, the frames that are told, the beginning of the message."""


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.usefixtures("workplace")
def test_an_error_in_the_users_file_is_told_by_its_own_frames(name, monkeypatch, capsys):
    text, frames, message = BROKEN[name]
    Path("broken.py").write_text("raise RuntimeError('it is broken')\n")
    Path("mine.py").write_text(f"{FILE}\n{text}\n")
    assert run(monkeypatch, "mine.py", "--max-rise" if name == "while it is measured" else "--max-drop", 1) == 1
    err = capsys.readouterr().err
    told = re.findall(r'^  File "(.*)", line \d+, in (\S+)$', err, re.MULTILINE)
    assert [name for _, name in told] == frames
    assert {Path(path).name for path, _ in told} <= {"mine.py", "broken.py"}
    assert err.splitlines()[-1].startswith(message) or f"errors.{message}" in err.splitlines()[-1]
    sys.modules.pop("broken", None)


@pytest.mark.usefixtures("workplace")
def test_a_file_that_is_no_python_is_told_where(monkeypatch, capsys):
    Path("mine.py").write_text("def model(:\n")
    assert run(monkeypatch, "mine.py", "--max-drop", 1) == 1
    assert re.fullmatch(
        r'  File "mine\.py", line 1\n    def model\(:\n +\^\nSyntaxError: .*\n', capsys.readouterr().err
    )


@pytest.mark.usefixtures("workplace")
def test_an_error_of_ours_alone_keeps_all_its_frames(monkeypatch):
    monkeypatch.setattr("prunecell.tuning.named.of_file", lambda _: 1 / 0)
    monkeypatch.setattr("sys.argv", ["prunecell", "tune", "mine.py", "--max-drop", "1"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
