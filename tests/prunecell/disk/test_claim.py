"""One run works in a folder at a time."""

import os
import signal
import subprocess
import sys

import pytest

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
