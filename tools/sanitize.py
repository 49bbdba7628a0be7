"""Run the tests of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/sanitize.py [LEVEL] [TEST ...]

The kernels are built once more, for the best level of the CPU or the one named (v1, v3, v4), with a check at every load
and store. pytest then runs with the sanitizers' runtime in front, every level being this library: the tests of v1,
which every machine has, stand for all. A tensor is an allocation of its own, so one float read too far is found.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from prunecell import native

MARCH = {"v1": [], "v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]}
FLAGS = [
    *("-std=c++17", "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-fno-exceptions", "-fno-rtti", "-Wno-psabi", "-DSOURCE_CHECKSUM=0u", "-shared", "-fPIC"),
]
TESTS = [
    f"tests/prunecell/{name}.py"
    for name in (
        *(
            "native/test_formats",
            "native/test_blocked_convolution",
            "codecs/test_words",
            "codecs/test_contexts",
            "bits/test_mask",
            "bits/test_order",
            "bits/test_select",
        ),
        "quantization/test_passes",
        *(
            "sparse/test_linear_op",
            "sparse/test_convolution_op",
            "sparse/test_formats",
            "sparse/test_damage",
            "sparse/test_halves",
            "sparse/test_chain",
            "sparse/test_links",
            "sparse/test_packed",
            "sparse/test_quantised_op",
        ),
    )
]
# "v1" as pytest writes a test's parameters, which Conv1d is not; of the large selections two kinds of values are
# enough. The coder of contexts has no level in its tests: its loops are the same for all.
OF_V1 = "(v1- or v1] or test_contexts) and not (large_tensors and not (normal or few))"
PLUGIN = """
import ctypes
from prunecell import native
sanitized = native.structs.declare(ctypes.CDLL({library!r}))
native.library_of = native.load.library_of = lambda level: sanitized
"""


def compiler(*arguments: str) -> str:
    """Run the compiler; what it prints."""
    command = [os.environ.get("CXX", "c++"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603


def main(arguments: list[str]) -> int:
    """Build, and run pytest."""
    level = arguments.pop(0) if arguments and arguments[0] in MARCH else f"v{native.cpu_level()}"
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/kernels.so"
        compiler(*FLAGS, *MARCH[level], str(native.SOURCE), "-o", library)
        (Path(folder) / "sanitized.py").write_text(PLUGIN.format(library=library))
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(compiler(f"-print-file-name={name}") for name in ("libasan.so", "libubsan.so")),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves much to the operating system
            "PYTHONPATH": folder,
        }
        pytest = [sys.executable, "-m", "pytest", "-x", "-k", OF_V1, "-p", "sanitized", "-p", "no:cacheprovider"]
        return subprocess.run([*pytest, *(arguments or TESTS)], env=environment, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
