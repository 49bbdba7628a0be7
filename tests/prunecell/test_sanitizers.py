"""The compiled kernels, built with AddressSanitizer and UndefinedBehaviorSanitizer, under their own tests."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "prunecell" / "_kernels.cpp"
TESTS = ["test_masks.py", "test_keys.py", "test_select.py", "sparse/test_linear_op.py", "sparse/test_convolution_op.py"]
FLAGS = ["-std=c++17", "-O1", "-fno-exceptions", "-fno-rtti", "-Wno-psabi", "-DSOURCE_CHECKSUM=0u", "-fPIC"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-shared"]
PLUGIN = """
import ctypes, os
from prunecell import kernels
sanitized = kernels._declare(ctypes.CDLL(os.environ["SANITIZED_KERNELS"]))
kernels.load = lambda level: sanitized
"""


@pytest.mark.skipif(not shutil.which("g++") or platform.system() != "Linux", reason="wants g++ and its sanitizers")
def test_the_kernels_read_and_write_nothing_that_is_not_theirs(tmp_path):
    """At the level that this CPU runs best: wide vectors are where reading outside happens."""
    library = tmp_path / "kernels.so"
    march = ["-march=native"] if platform.machine() == "x86_64" else []
    subprocess.run(["g++", *FLAGS, *SANITIZERS, *march, SOURCE, "-o", library], check=True)
    (tmp_path / "sanitized.py").write_text(PLUGIN)
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "LD_PRELOAD": ":".join(runtimes),
        "PYTHONPATH": str(tmp_path),
        "SANITIZED_KERNELS": str(library),
    }
    # every level is this library now: v1, which every machine has, stands for all
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "sanitized", "-p", "no:cacheprovider", "-k", "v1"]
    done = subprocess.run([*command, *TESTS], cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
