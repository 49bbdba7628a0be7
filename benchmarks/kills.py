"""Kills runs of `prunecell run` and `n2d2 -learn-epoch` at random moments, resumes them, and compares what they wrote.

Usage: python benchmarks/kills.py [KILLS] [SEED]

Each command learns a tiny network once without being disturbed. Then it is started again in a folder of its own, killed
by SIGKILL at a random moment of its training, resumed, killed again, and so on; a run that ends is followed by another
one in a fresh folder. Every run that ended must have written the same bytes as the first. Checkpoints are written every
few steps here, so that kills in the middle of an epoch and in the middle of a checkpoint are frequent.
"""

import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # as optimizers do, and the command imports the next: no child shall have to do it

import n2d2.experiment.run
import n2d2.target
import prunecell.report.picture
from n2d2.cli import main as main_of_n2d2
from prunecell.cli import app
from prunecell.training.checkpoint import Checkpoint

INI = """\
[database]
Type=MNIST_IDX_Database
DataPath=data
Validation=0.2
[sp]
SizeX=8
SizeY=8
BatchSize=16
[conv1]
Input=sp
Type=Conv
KernelDims=3 3
NbOutputs=4
ActivationFunction=Rectifier
ConfigSection=config
[bn1]
Input=conv1
Type=BatchNorm
NbOutputs=4
ConfigSection=config
[drop1]
Input=bn1
Type=Dropout
Dropout=0.1
NbOutputs=4
[fc1]
Input=drop1
Type=Fc
NbOutputs=10
ConfigSection=config
[softmax]
Input=fc1
Type=Softmax
NbOutputs=10
WithLoss=1
[softmax.Target]
[config]
Solvers.LearningRate=0.05
Solvers.Momentum=0.9
QWeight=Prune
QWeight.PruningMode=Gradual
QWeight.PruningFiller=IterNonStruct
QWeight.StartThreshold=0.3
QWeight.GammaThreshold=0.1
QWeight.Threshold=0.6
QWeight.StepSizeThreshold=96
"""
EPOCHS = "2"


def write_data(folder: Path) -> None:
    """IDX files like MNIST's, 8 x 8: bright squares, whose place is the label, in noise."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for start, n in (("train", 240), ("t10k", 60)):
        labels = np.arange(n, dtype=np.uint8) % 10
        pixels = drawn.integers(0, 100, (n, 8, 8), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            y, x = divmod(int(label), 4)
            image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] += 150
        header = struct.pack(">4B3I", 0, 0, 8, 3, n, 8, 8)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes())


def run_prunecell(resume: list[str]) -> None:
    app(["run", "net.ini", "--out", "out", "--epochs", EPOCHS, *[f"-{word}" for word in resume]])


def run_n2d2(resume: list[str]) -> None:
    main_of_n2d2(["net.ini", "-learn-epoch", EPOCHS, "-log", "96", "-test", *resume])


COMMANDS: dict[str, Callable[[list[str]], None]] = {"prunecell run": run_prunecell, "n2d2 -learn-epoch": run_n2d2}


def start(command: str, folder: Path, *, resume: bool) -> int:
    """Start a command in a process of its own, forked, because importing torch takes longer than the learning."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        COMMANDS[command](["-resume"] if resume else [])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def written(folder: Path) -> dict[str, bytes]:
    """What a run is for; the checkpoints and report.json hold seconds too."""
    left_out = {".checkpoint", ".json", ".txt", ".ini"}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "data" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix not in left_out}


def prepare(folder: Path) -> Path:
    folder.mkdir()
    write_data(folder / "data")
    (folder / "net.ini").write_text(INI)
    return folder


def wait_for(child: int, folder: Path, pattern: str) -> bool:
    """Wait until a file is there, or the process has ended; whether the file is."""
    while (
        not (found := any(folder.rglob(pattern)))
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.002)
    return found


def undisturbed(command: str, folder: Path) -> tuple[float, dict[str, bytes]]:
    """Run a command to its end: the seconds of its training, and what it wrote."""
    child = start(command, folder, resume=False)
    wait_for(child, folder, "*.checkpoint")
    began = time.perf_counter()
    wait_for(child, folder, "*.pcell")
    seconds = time.perf_counter() - began
    if status := end_of(child):
        sys.exit(f"{command} failed with {status}: {(folder / 'log.txt').read_text()[-2000:]}")
    return seconds, written(folder)


def kill(command: str, kills: int, drawn: random.Random) -> None:
    """Kill a command so many times inside its training; fail where a run that ended has written other bytes."""
    with tempfile.TemporaryDirectory() as place:
        seconds, expected = undisturbed(command, prepare(Path(place, "whole")))
        n_killed = n_ended = 0
        while n_killed < kills or not n_ended:
            folder = prepare(Path(place, f"run{n_ended}"))
            status, resume, n_here = -signal.SIGKILL, False, 0
            while status == -signal.SIGKILL:
                child = start(command, folder, resume=resume)
                wait_for(child, folder, "*.checkpoint")
                if n_killed < kills and not any(folder.rglob("*.pcell")):
                    time.sleep(drawn.uniform(0, seconds))
                    os.kill(child, signal.SIGKILL)
                status, resume = end_of(child), True
                n_killed += (was_killed := status == -signal.SIGKILL)
                if was_killed and not any(folder.rglob("*.checkpoint")):
                    sys.exit(f"{command} left no checkpoint when it was killed: {sorted(folder.rglob('*'))}")
                n_here += was_killed
            check(command, folder, status, expected, n_here)
            n_ended += 1
            shutil.rmtree(folder)
        print(f"{command}: {n_killed} kills, {n_ended} runs that ended, each with the same {len(expected)} files")


def check(command: str, folder: Path, status: int, expected: dict[str, bytes], n_killed: int) -> None:
    log, found = (folder / "log.txt").read_text(), written(folder)
    said, log = "going on after" in log, log[-2000:]
    if command.startswith("n2d2") and said != (n_killed > 0):
        sys.exit(f"{command} must say that it goes on where it does, and only there: {log}")
    if status:
        sys.exit(f"{command}, resumed after {n_killed} kills, failed with {status}: {log}")
    if different := {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}:
        sys.exit(f"{command}: other bytes after {n_killed} kills: {sorted(different)}\n{log}")


def main() -> None:
    """Kill each command."""
    words = [int(word) for word in sys.argv[1:3]]
    kills, seed = [*words, *(10, 0)[len(words) :]]
    torch.set_num_threads(1)
    for drawing in (n2d2.target, prunecell.report.picture):
        vars(drawing)["can_draw"] = lambda: False  # pictures take longer than all the learning
    init: Any = Checkpoint.__init__
    init.__wrapped__.__kwdefaults__["every_seconds"] = 0.02
    for command in COMMANDS:
        kill(command, kills, random.Random(seed))  # noqa: S311 - the same every time


if __name__ == "__main__":
    main()
