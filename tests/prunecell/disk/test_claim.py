"""One run works in a folder at a time."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from prunecell.disk import claim
from prunecell.disk.claim import alone_in
from prunecell.errors import OptionError

HOLD = """
import sys
from pathlib import Path
from prunecell.disk.claim import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_and_a_killed_one_holds_nothing(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(
                OptionError, match=rf"^process {other.pid} on \S+ \(since .*\) works in the folder {tmp_path}"
            ),
            alone_in(tmp_path),
        ):
            pytest.fail("two run in one folder")
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with alone_in(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_the_folder_is_free_again_after_an_error(tmp_path):
    def fail():
        with alone_in(tmp_path):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fail()
    with pytest.raises(FileNotFoundError), alone_in(tmp_path / "none"):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(claim.fcntl, "flock", no_locks)
    told = rf"{tmp_path} cannot be locked \(No locks available\): see to it that no"
    with pytest.warns(UserWarning, match=told), alone_in(tmp_path):
        assert (tmp_path / claim.LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_while_another_begins_leaves_its_name_to_it(tmp_path, monkeypatch):
    """The file was removed between its opening and its locking."""
    lock, left = claim._lock, [True]

    def removed_before(*arguments):
        if left.pop() if left else False:
            (tmp_path / claim.LOCK).unlink()
        lock(*arguments)

    monkeypatch.setattr(claim, "_lock", removed_before)
    with alone_in(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / claim.LOCK).read_text()
        with pytest.raises(OptionError, match=f"process {os.getpid()} on "), alone_in(tmp_path):
            pytest.fail("two run in one folder")


@pytest.mark.parametrize("lost", ["the file", "the folder"])
def test_a_run_that_lost_its_place_leaves_the_lock_of_the_next_one(tmp_path, lost):
    folder = tmp_path / "out"
    folder.mkdir()
    first = alone_in(folder)
    first.__enter__()
    if lost == "the file":
        (folder / claim.LOCK).unlink()
    else:
        folder.rename(tmp_path / "moved")
        folder.mkdir()
    with alone_in(folder):
        first.__exit__(None, None, None)
        with pytest.raises(OptionError, match=f"process {os.getpid()} on "), alone_in(folder):
            pytest.fail("two run in one folder")


def test_a_folder_that_goes_is_named(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()

    def lose():
        with alone_in(folder):
            shutil.rmtree(folder)
            (folder / "a").write_text("lost")

    with pytest.raises(FileNotFoundError, match=f"it is gone while a run works in it: .*'{folder}'"):
        lose()
