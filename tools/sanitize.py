"""Run the tests of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/sanitize.py [level] [pytest arguments]

The kernels are built once more, for the CPU's best level or the one named (v1, v3, v4), with the sanitizers and their
checks at every load and store; pytest then runs in a process that has the sanitizers' runtime in front, and ends at
the first finding. A tensor of torch is an allocation of its own, so a kernel that reads one float too far is found.
"""

import os
import platform
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from prunecell import kernels

MARCH = {"v1": [], "v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]}
FLAGS = [
    *("-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-fno-exceptions", "-fno-rtti", "-Wno-psabi", "-shared", "-fPIC"),
]
TESTS = ["tests/prunecell/sparse", "tests/prunecell/test_masks.py", "tests/prunecell/test_select.py"]


def build(level: str, target: Path) -> None:
    """Compile the kernels with the sanitizers."""
    checksum = zlib.crc32(kernels.SOURCE.read_bytes())
    compiler = os.environ.get("CXX", "c++")
    command = [compiler, *FLAGS, *MARCH[level], f"-DSOURCE_CHECKSUM={checksum}u", str(kernels.SOURCE)]
    subprocess.run([*command, "-o", str(target)], check=True)  # noqa: S603 - our own command


def runtime(name: str) -> str:
    """The path of a sanitizer's runtime, as the compiler knows it."""
    compiler = os.environ.get("CXX", "c++")
    command = [compiler, f"-print-file-name=lib{name}.so"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def main(arguments: list[str]) -> int:
    """Build, and run pytest."""
    level = arguments.pop(0) if arguments and arguments[0] in MARCH else f"v{kernels.cpu_level()}"
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        level = "v1"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        build(level, library)
        environment = {
            **os.environ,
            kernels.ENVIRONMENT: str(library),
            "LD_PRELOAD": f"{runtime('asan')} {runtime('ubsan')}",
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves much to the operating system
        }
        pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or TESTS)]
        return subprocess.run(pytest, env=environment, check=False).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
