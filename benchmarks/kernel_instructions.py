"""How many instructions the kernels take: figures that do not depend on what else the machine does.

    python benchmarks/kernel_instructions.py [LIBRARY ...]

Every kernel runs under `valgrind --tool=callgrind`, which must be installed and which knows levels up to v3. A LIBRARY
is a compiled file, to compare builds; the default is the installed one of level v3, elsewhere v1.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunecell import native
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.matrix import as_argument
from prunecell.sparse.values import VALUES

# What runs under callgrind imports no torch, because that would take minutes. An argument is a number, None, the bytes
# of a buffer, or a pair: buffers whose addresses begin a structure, and the bytes that follow them there.
CHILD = """if True:
    import ctypes, pickle, sys

    held = []

    def address(contents):
        held.append(ctypes.create_string_buffer(contents, len(contents) + 64))
        return ctypes.addressof(held[-1])

    def value(argument):
        if isinstance(argument, tuple):
            buffers, rest = argument
            pointers = [0 if buffer is None else address(buffer) for buffer in buffers]
            argument = b"".join(pointer.to_bytes(8, "little") for pointer in pointers) + rest
        return ctypes.c_int64(address(argument) if isinstance(argument, bytes) else argument or 0)

    library = ctypes.CDLL(sys.argv[1])
    function, arguments = pickle.load(open(sys.argv[2], "rb"))
    values = [value(argument) for argument in arguments]
    for _ in range(int(sys.argv[3])):
        getattr(library, function)(*values)
"""
SPARSITY, N_ROWS, N_COLUMNS, N_WEIGHTS, N_TIMES = 0.9, 512, 1000, 1 << 18, 10


def raw(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def matrix(n_rows: int, n_columns: int, name: str, values: str) -> tuple[list[bytes | None], bytes]:
    weight = torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) > SPARSITY)
    made = compress(weight, format=name, values=values)
    buffers = [made.starts, made.indices, made.values, made.scales]
    return [None if t is None else raw(t) for t in buffers], bytes(as_argument(made))[32:]


def linear(n: int, name: str, values: str) -> tuple[str, list]:
    x, y = raw(torch.randn(n, N_COLUMNS)), bytes(4 * n * N_ROWS)
    return "pc_linear", [matrix(N_ROWS, N_COLUMNS, name, values), None, 0, x, 1, N_COLUMNS, n, y, None]


def convolution(k: int, name: str) -> tuple[str, list]:
    channels, size = 64, 28
    axes = [1, size, size, 1, size, size, 1, k, k, 1, 1, 1, 0, k // 2, k // 2, 1, 1, 1]
    geometry = raw(torch.tensor([1, channels, channels, *axes], dtype=torch.int32))
    x = raw(torch.randn(channels, size, size))
    packed = matrix(channels, channels * k * k, name, "fp32")
    return "pc_convolution", [packed, None, 0, geometry, x, bytes(len(x)), 1, None]


def census() -> tuple[str, list]:
    low, high = torch.tensor([0.1, 0.2]).view(torch.int32).tolist()
    return "pc_census", [raw(torch.randn(N_WEIGHTS)), N_WEIGHTS, 4, low, high, bytes(4 * N_WEIGHTS), bytes(32)]


def take_pruned() -> tuple[str, list]:
    """Three of four weights are pruned."""
    n_pruned = N_WEIGHTS // 4 * 3
    bits = b"\x11" * (N_WEIGHTS // 8)
    return "pc_take_pruned", [raw(torch.randn(N_WEIGHTS)), bits, N_WEIGHTS, 4, bytes(4 * n_pruned), n_pruned]


def join_bytes() -> tuple[str, list]:
    planes = [raw(torch.randint(256, (N_WEIGHTS,), dtype=torch.uint8)) for _ in range(4)]
    return "pc_join_bytes", [(planes, b""), N_WEIGHTS, 4, 1, bytes(4 * N_WEIGHTS)]


def calls() -> dict[str, tuple[str, list]]:
    """What is counted -> the function and its arguments."""
    torch.manual_seed(0)
    return {
        **{f"linear {n} {name} {v}": linear(n, name, v) for n in (1, 16, 64) for name in FORMATS for v in VALUES},
        **{f"convolution {k}x{k} {name}": convolution(k, name) for k in (1, 3) for name in FORMATS},
        "census": census(),
        "take_pruned": take_pruned(),
        "join_bytes": join_bytes(),
    }


def total(library: str, call: tuple[str, list], n_times: int) -> int:
    """Instructions of a Python that makes one call so many times."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "call"
        file.write_bytes(pickle.dumps(call))
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command = [*tool, sys.executable, "-S", "-c", CHILD, library, str(file), str(n_times)]
        same = {**os.environ, "PYTHONHASHSEED": "0"}  # else Python itself takes more or fewer instructions every time
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=same).stderr  # noqa: S603
    return int(printed.split("Collected :")[1].split()[0])


def counted(library: str, call: tuple[str, list]) -> int:
    """Instructions of one call, with the few thousand that Python takes to make it."""
    return (total(library, call, 1 + N_TIMES) - total(library, call, 1)) // N_TIMES


def main(libraries: list[str]) -> None:
    best: Any = native.library_of("v3" if native.cpu_level() > 1 else "v1")
    for name, call in calls().items():
        counts = [counted(library, call) for library in libraries or [best._name]]  # noqa: SLF001
        ratios = [f"{n / counts[0]:8.4f}" for n in counts[1:]]
        print(f"{name:28}", *[f"{n:12,}" for n in counts], *ratios, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
