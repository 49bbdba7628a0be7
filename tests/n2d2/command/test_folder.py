"""The working folder of the command: what is wrong with it is told, by name, before anything in it is changed."""

import os
import re
import resource
import shutil
from pathlib import Path

import pytest

from n2d2.cli import main
from n2d2.command import room
from n2d2.provider import DataProvider
from prunecell.disk.claim import LOCK, alone_in

pytestmark = pytest.mark.usefixtures("workplace")

LEARN = ["net.ini", "-learn-epoch", "2", "-log", "160"]


def fail(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([*words])
    assert exit_.value.code == 1
    return capsys.readouterr().err


def names():
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.parametrize(
    "words",
    [LEARN, [*LEARN, "-resume"], ["net.ini", "-test"], ["dense.ini", "-w", "/dev/null", "-export", "ONNX"]],
    ids=" ".join,
)
def test_a_second_run_is_refused_and_changes_nothing(capsys, words):
    Path("net.checkpoint").write_bytes(b"of the first run")
    with alone_in(Path()):
        before = names()
        who = (
            rf"^error: process {os.getpid()} on \S+ \(since 20.*\) works in the folder {Path.cwd()}, .* another folder$"
        )
        assert re.search(who, fail(capsys, *words))
        assert names() == before
        assert Path("net.checkpoint").read_bytes() == b"of the first run"
        main(["net.ini"])  # only shows the network


def test_the_file_that_a_killed_run_left_locks_nothing():
    Path(LOCK).write_text("process 1 on another machine (since yesterday)" * 9)
    main([*LEARN])
    assert not Path(LOCK).exists()


@pytest.mark.parametrize("limit", [0, 40, 400, 2_500, 6_000, 20_000])
def test_a_file_that_may_not_grow_is_named_with_what_to_do(capsys, limit):
    main(["net.ini"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        told = fail(capsys, *LEARN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    named, _, advice = told.partition(": File too large: a limit (ulimit -f)")
    assert advice
    assert Path(named.removeprefix("error: ")).absolute().is_relative_to(Path.cwd())
    assert not [name for name in names() if name.endswith((".tmp", LOCK))]
    assert ("to go on: n2d2 net.ini -learn-epoch 2 -log 160 -resume" in told) == Path("net.checkpoint").exists()


@pytest.mark.parametrize("words", [LEARN, [*LEARN, "-resume"]], ids=" ".join)
def test_a_disk_without_room_is_told_before_anything_is_moved(capsys, monkeypatch, words):
    main([*LEARN])
    before = names()
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(room, "_size", lambda _: 0)
    told = fail(capsys, *words)
    fact = r"No space left on device: about \d\d\.\d kB will be written, and 1\.0 kB are free: make room on the disk"
    assert re.search(rf"^error: {Path.cwd()}: {fact}", told)
    assert names() == before


def test_the_estimate_is_low_but_not_by_much(monkeypatch):
    found = []
    monkeypatch.setattr("n2d2.command.run.check_room", lambda _, n_bytes: found.append(n_bytes))
    main([*LEARN])
    written = [path for folder in ("weights", "weights_validation") for path in Path(folder).iterdir()]
    n_bytes = sum(path.stat().st_size for path in (*written, Path("net.checkpoint")))
    assert n_bytes / 3 < found[0] < n_bytes
    main([*LEARN, "-resume"])
    assert found[1] <= 0


def test_a_folder_in_which_nothing_can_be_written(capsys, monkeypatch):
    ini = Path("net.ini").absolute()
    monkeypatch.chdir("/proc")  # where root may not write either
    assert re.match(
        r"error: /proc: (Permission denied|No such file or directory)", fail(capsys, str(ini), "-learn", "9")
    )


def test_a_folder_that_is_gone_is_named(capsys, monkeypatch, tmp_path):
    true_epoch = DataProvider.epoch

    def epoch(self, *arguments):
        shutil.rmtree(tmp_path)
        return true_epoch(self, *arguments)

    monkeypatch.setattr(DataProvider, "epoch", epoch)
    told = fail(capsys, *LEARN)
    assert told == f"error: {tmp_path}: it is gone while a run works in it: begin anew in another\n"
    assert "the working folder is gone; begin anew in another one" in fail(capsys, *LEARN)
