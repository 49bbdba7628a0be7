"""How many instructions the kernels take: figures that do not depend on what else the machine does.

    python benchmarks/kernel_instructions.py [LIBRARY ...]

Every kernel runs under `valgrind --tool=callgrind`, which must be installed and which counts up to the level v3. A
LIBRARY is a compiled file, to compare two builds; the default is the installed v3, elsewhere v1.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from prunecell import native
from prunecell.native.structs import declare
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.matrix import Compressed, as_argument
from prunecell.sparse.values import VALUES

SEED, SPARSITY = 0, 0.9
KERNELS = [
    *[f"linear {samples} {name} {values}" for samples in (1, 64) for name in FORMATS for values in VALUES],
    *[f"convolution {size} {name} fp32" for size in (1, 3) for name in FORMATS],
    *["census", "take_pruned", "join_bytes"],
]


def matrix_of(n_rows: int, n_columns: int, name: str, values: str) -> Compressed:
    weight = torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) > SPARSITY)
    return compress(weight, format=name, values=values)


def linear(library: ctypes.CDLL, n_samples: str, name: str, values: str) -> None:
    n, matrix = int(n_samples), matrix_of(512, 1000, name, values)
    argument, x, y = as_argument(matrix), torch.randn(n, 1000), torch.empty(n, 512)
    library.pc_linear(argument.address, None, 0, x.data_ptr(), 1, 1000, n, y.data_ptr(), 1, 512, 0, 512)


def convolution(library: ctypes.CDLL, kernel: str, name: str, values: str) -> None:
    k, axes = int(kernel), ctypes.c_int32 * 3
    matrix = matrix_of(64, 64 * k * k, name, values)
    one, size = axes(1, 1, 1), axes(1, 28, 28)
    geometry = native.Geometry(1, 64, 64, size, size, axes(1, k, k), one, axes(0, k // 2, k // 2), one)
    argument, x, y = as_argument(matrix), torch.randn(64, 28, 28), torch.empty(64, 28, 28)
    library.pc_convolution(argument.address, None, 0, geometry.address, x.data_ptr(), y.data_ptr(), 1, 0, 64)


def census(library: ctypes.CDLL) -> None:
    values, between, counts = torch.randn(1 << 18), torch.empty(1 << 18), torch.empty(4, dtype=torch.int64)
    low, high = torch.tensor([0.1, 0.2]).view(torch.int32).tolist()
    library.pc_census(values.data_ptr(), 1 << 18, 4, low, high, between.data_ptr(), counts.data_ptr())


def take_pruned(library: ctypes.CDLL) -> None:
    values, bits = torch.randn(1 << 18), torch.full((1 << 15,), 0b00010001, dtype=torch.uint8)
    taken = torch.empty(6 << 15)
    library.pc_take_pruned(values.data_ptr(), bits.data_ptr(), 1 << 18, 4, taken.data_ptr(), 6 << 15)


def join_bytes(library: ctypes.CDLL) -> None:
    planes, words = torch.randint(256, (4, 1 << 18), dtype=torch.uint8), torch.empty(1 << 18)
    addresses = (ctypes.c_void_p * 4)(*[plane.data_ptr() for plane in planes])
    library.pc_join_bytes(ctypes.addressof(addresses), 1 << 18, 4, 1, words.data_ptr())


def run_all(path: str) -> None:
    """Run every kernel once, in the order of `KERNELS`."""
    torch.set_num_threads(1)
    library = declare(ctypes.CDLL(path))
    for kernel in KERNELS:
        torch.manual_seed(SEED)
        name, *arguments = kernel.split()
        globals()[name](library, *arguments)


def counted(path: str) -> list[int]:
    """Instructions of every kernel, in the order of `KERNELS`: callgrind writes a file whenever one returns."""
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", "--toggle-collect=pc_*", "--dump-after=pc_*", "--quiet"]
        command = [*tool, f"--callgrind-out-file={folder}/out", sys.executable, __file__, "--run", path]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        dumps = sorted(Path(folder).iterdir(), key=lambda file: int(file.suffix[1:] or 0))
        totals = [re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE) for dump in dumps]
        return [int(total[1]) for total in totals if total and int(total[1])]


def main(paths: list[str]) -> None:
    best = native.library_of("v3" if native.cpu_level() > 1 else "v1")
    columns = [counted(path) for path in paths or [best._name]]  # noqa: SLF001
    for kernel, *counts in zip(KERNELS, *columns, strict=True):
        print(f"{kernel:34}", *[f"{count:12,}" for count in counts], *[f"{c / counts[0]:8.4f}" for c in counts[1:]])


if __name__ == "__main__":
    run_all(sys.argv[2]) if sys.argv[1:2] == ["--run"] else main(sys.argv[1:])
