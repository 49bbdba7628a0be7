"""Check the kernels for CPUs that are not at hand: they are cross-compiled, and run in an emulator.

    python tools/other_cpus.py [TARGET ...]

Debian has what it needs: apt-get install qemu-user g++-aarch64-linux-gnu. A target whose compiler or emulator is not
installed is told and left out; without targets all are tried. `check_kernels.cpp` compares the kernels with slow loops.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from prunecell import native

TARGETS = {
    "aarch64": ("aarch64-linux-gnu-g++", ["-static"], ["qemu-aarch64"]),
    "x86-64": ("c++", [], []),
    "x86-64-v3": ("c++", ["-march=x86-64-v3"], ["qemu-x86_64", "-cpu", "max"]),
}
"""Name -> compiler, its options, and what runs the program."""

FLAGS = ["-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", "-DSOURCE_CHECKSUM=0u"]


def check(target: str) -> bool:
    """Compile for a target and run; whether all is right."""
    compiler, options, emulator = TARGETS[target]
    if missing := [tool for tool in (compiler, *emulator[:1]) if shutil.which(tool) is None]:
        print(f"{target}: left out, there is no {' and no '.join(missing)}")
        return True
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/check"
        source = Path(__file__).with_name("check_kernels.cpp")
        include = ["-I", str(native.SOURCE.parent)]
        subprocess.run([compiler, *FLAGS, *options, *include, str(source), "-o", program], check=True)  # noqa: S603
        done = subprocess.run([*emulator, program], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    print(f"{target}: {done.stdout.strip()}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(not all(check(target) for target in sys.argv[1:] or TARGETS))
