"""The compiled kernels, built with AddressSanitizer and UndefinedBehaviorSanitizer, under their own tests."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(
    not shutil.which("c++") or platform.system() != "Linux", reason="builds kernels with sanitizers that Linux preloads"
)
def test_the_kernels_read_and_write_nothing_that_is_not_theirs():
    """At the level that this CPU runs best: wide vectors are where reading outside happens."""
    command = [sys.executable, ROOT / "tools" / "sanitize.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
