"""How fast sparse layers are on the CPU, beside the dense ones of torch, ONNX Runtime and OpenVINO.

    python benchmarks/runtime_speed.py [--picture FILE] [WORD ...]

Tables of layers, of layers of bfloat16, of a sweep over sparsities, of int8 arithmetic, and of threads; with words,
only the rows whose name has one of them ("bfloat16", "sweep", "int8" or "threads" stands before the names in these
tables). Everything takes turns in one process, on one thread and one core but for the table of threads; times are
medians of calls after others of the same task, when caches are hot. "cold": a layer inside a model of so many, one
after the other, that its weights are in no cache when its turn comes. A ratio is the time of the fastest dense float32
over the sparse one's, copies included. "asked" is what the project wants to reach. OpenVINO runs where it is installed.

"limit" is what the machine allows: for many samples the entries of the matrix at the rate of a small matrix whose
inputs stay in the first-level cache; for one sample the same for a small vector; cold, at least the bytes of the packed
matrix at the bandwidth of memory. All three are measured at the beginning. The picture shows the table of layers.

AVX2 code against dense layers limited to AVX2, on a CPU that has more:

    PRUNECELL_KERNELS=v3 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python benchmarks/runtime_speed.py
"""

import argparse
import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import interleaved, one_core
from rivals import (
    HOT,
    IS_LIMITED,
    SPARSITIES,
    Task,
    best_dense,
    calling,
    copies,
    in_a_row,
    in_onnxruntime,
    in_onnxruntime_int8,
    in_openvino,
    sparse_of,
    thinned,
)
from speed_picture import Bar, draw
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import NothingSparseWarning
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseLinear


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer and its input."""

    make: Callable[[], nn.Module]
    x: tuple[int, ...]
    asked: tuple[float, float] = (0, 0)
    deepsparse: float | None = None  # at 90 %, measured in 2025 on a machine like ours
    n_layers: int = 1  # one after the other
    rounds: int = 60


def linear(size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(size, size)


def conv(channels: int, out: int, kernel: int) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(channels, out, kernel, padding=kernel // 2)


LAYERS = {
    "linear 1024, batch 1": Row(make=linear(1024), x=(1, 1024), asked=(6, 9), rounds=300),
    "linear 1024, batch 1, cold": Row(make=linear(1024), x=(1, 1024), asked=(8, 16), n_layers=200, rounds=20),
    "linear 1024, batch 64": Row(make=linear(1024), x=(64, 1024), asked=(5.3, 8.5), deepsparse=3.4, rounds=100),
    "linear 1024, batch 256": Row(make=linear(1024), x=(256, 1024), asked=(5.3, 8), rounds=50),
    "linear 4096, batch 1": Row(make=linear(4096), x=(1, 4096), asked=(8, 15), deepsparse=4.0),
    "linear 4096, batch 64": Row(make=linear(4096), x=(64, 4096), asked=(7.5, 12.5), deepsparse=5.3, rounds=15),
    "conv 3x3 64-64, 32x32": Row(make=conv(64, 64, 3), x=(1, 64, 32, 32), asked=(5, 7.5), deepsparse=4.8, rounds=150),
    "conv 3x3 256-256, 14x14": Row(make=conv(256, 256, 3), x=(1, 256, 14, 14), asked=(5.2, 8.3), rounds=100),
    "conv 3x3 128-128, 28x28": Row(make=conv(128, 128, 3), x=(1, 128, 28, 28), asked=(4.8, 7.5), rounds=100),
    "conv 1x1 256-1024, 14x14": Row(
        make=conv(256, 1024, 1), x=(1, 256, 14, 14), asked=(5, 7.8), deepsparse=3.0, rounds=150
    ),
}
HALVES = {
    "linear 4096, batch 1, cold": Row(make=linear(4096), x=(1, 4096), asked=(4.5, 0), n_layers=16, rounds=15),
    "linear 4096, batch 16, cold": Row(make=linear(4096), x=(16, 4096), asked=(3.8, 0), n_layers=16, rounds=10),
    "linear 4096, batch 64, cold": Row(make=linear(4096), x=(64, 4096), asked=(3, 0), n_layers=16, rounds=6),
    "linear 4096, batch 1": Row(make=linear(4096), x=(1, 4096)),
    "linear 4096, batch 16": Row(make=linear(4096), x=(16, 4096), rounds=30),
    "linear 4096, batch 64": Row(make=linear(4096), x=(64, 4096), rounds=15),
    "linear 1024, batch 1": Row(make=linear(1024), x=(1, 1024), rounds=300),
    "linear 1024, batch 64": Row(make=linear(1024), x=(64, 1024), rounds=100),
    "conv 3x3 128-128, 28x28": Row(make=conv(128, 128, 3), x=(1, 128, 28, 28), rounds=60),
    "conv 1x1 256-1024, 14x14": Row(make=conv(256, 1024, 1), x=(1, 256, 14, 14), rounds=100),
}
SWEEP = {
    **{f"linear {n}, batch {b}": (linear(n), (b, n)) for n in (256, 1024, 2048) for b in (1, 16, 128)},
    **{f"conv 3x3 {c}-{c}, 16x16, batch {b}": (conv(c, c, 3), (b, c, 16, 16)) for c in (16, 64, 256) for b in (1, 8)},
    **{f"conv 1x1 {c}-{c}, 16x16, batch {b}": (conv(c, c, 1), (b, c, 16, 16)) for c in (64, 256) for b in (1, 8)},
}
INT8 = {f"linear {n}, batch {b}": (n, b) for n in (1024, 4096) for b in (1, 64)}
SWEPT = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
THREADS = (
    *("linear 4096, batch 1", "linear 4096, batch 64", "linear 1024, batch 64"),
    *("conv 3x3 64-64, 32x32", "conv 3x3 256-256, 14x14"),
)


def tasks_of(row: Row) -> dict[str, Task]:
    """Every way to compute a row."""
    x = torch.randn(row.x)
    layers = [row.make().eval() for _ in range(row.n_layers)]
    dense = in_a_row(layers)
    tasks = {
        "torch": calling(dense, x),
        "bf16": calling(copy.deepcopy(dense).bfloat16(), x.bfloat16()),
    }
    if not IS_LIMITED:
        tasks["onnxruntime"] = in_onnxruntime(layers, x)
    if not IS_LIMITED and (task := in_openvino(layers, x)) is not None:
        tasks["openvino"] = task
    for sparsity in SPARSITIES:
        sparse = [sparse_of(thinned(copy.deepcopy(layer), sparsity)) for layer in layers]
        tasks[f"{sparsity}"] = calling(in_a_row(sparse, SparseSequential), x)
    return tasks


def measured(row: Row) -> dict[str, float]:
    """Median seconds of a layer, computed in every way."""
    with torch.inference_mode():
        times = interleaved(tasks_of(row), row.rounds, **HOT)
    return {name: time / row.n_layers for name, time in times.items()}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the machine allows.

    Attributes:
        of_many: seconds for an entry times 64 samples.
        of_one: seconds for an entry times one sample.
        memory: bytes a second that are read from memory.
    """

    of_many: float
    of_one: float
    memory: float

    @classmethod
    def of_this_machine(cls) -> "Limits":
        """Measure them: matrices of 64 rows that take part of the first-level cache, and a sum over 1 GiB."""
        small = sparse_of(thinned(nn.Linear(128, 64), 0.5))
        larger = sparse_of(thinned(nn.Linear(128, 1024), 0.5))
        big = torch.ones(1 << 28)
        tasks: dict[str, Task] = {"memory": big.sum}
        for n in (1, 64):
            x = torch.randn(n, 128)
            tasks |= {f"small {n}": calling(small, x), f"larger {n}": calling(larger, x)}
        with torch.inference_mode():
            times = interleaved(tasks, 20, warm=2)
        entries = 0.5 * 128 * (1024 - 64)
        of_one, of_many = ((times[f"larger {n}"] - times[f"small {n}"]) / entries for n in (1, 64))
        return cls(of_many=of_many, of_one=of_one, memory=big.nbytes / times["memory"])

    def seconds(self, row: Row, sparsity: float) -> float:
        """The least that a layer can take."""
        layer = row.make()
        n_entries = (1 - sparsity) * layer.get_parameter("weight").numel()
        n_positions = row.x[0] * math.prod(row.x[2:])
        if n_positions > 1:
            return n_entries * n_positions / 64 * self.of_many
        return max(n_entries * self.of_one, (n_entries * 5 / self.memory) if row.n_layers > 1 else 0.0)


def layer_table(rows: Mapping[str, Row]) -> list[Bar]:
    """Print it, and return what a picture of it shows."""
    bars, limits = [], Limits.of_this_machine()
    print(
        f"an entry times 64 samples {limits.of_many * 1e9:.2f} ns, times one {limits.of_one * 1e9:.2f} ns, "
        f"memory {limits.memory / 1e9:.1f} GB/s"
    )
    rivals = ("torch", "onnxruntime", "openvino", "bf16")
    heads = "".join(f"{head:>12}" for head in (*rivals, "90 %", "95 %"))
    print(f"{'microseconds':28}{heads}   {'limit':13}{'ratio':13}{'asked':13}{'over bf16':17}DeepSparse at 90 %")
    for name, row in rows.items():
        times = measured(row)
        cells = "".join(f"{times[rival] * 1e6:12.0f}" if rival in times else f"{'-':>12}" for rival in rivals)
        sparse = [times[f"{sparsity}"] for sparsity in SPARSITIES]
        cells += "".join(f"{time * 1e6:12.0f}" for time in sparse)
        ratios = " / ".join(f"{best_dense(times) / time:.1f}" for time in sparse)
        asked = " / ".join(f"{ratio:g}" for ratio in row.asked) if any(row.asked) else ""
        over_half = " / ".join(f"{times['bf16'] / time:.1f}" for time in sparse)
        least = [limits.seconds(row, sparsity) for sparsity in SPARSITIES]
        limit = " / ".join(f"{time * 1e6:.0f}" for time in least)
        print(f"{name:28}{cells}   {limit:13}{ratios:13}{asked:13}{over_half:17}{row.deepsparse or ''}", flush=True)
        bars.append(Bar(name, *([best_dense(times) / time for time in of] for of in (sparse, least))))
    return bars


def half_table(rows: Mapping[str, Row]) -> None:
    """Layers of bfloat16, of which the weights are the same where there are several: each is in memory of its own."""
    heads = "".join(f"{head:>12}" for head in ("torch, fp32", "torch, bf16", "90 %", "95 %"))
    print(f"\n{'microseconds, bfloat16':28}{heads}   {'over torch':13}asked at 90 %")
    for name, row in rows.items():
        layer, x = row.make().eval(), torch.randn(row.x)
        half, half_x = copy.deepcopy(layer).bfloat16(), x.bfloat16()
        dense = {"fp32": (layer, x), "bf16": (half, half_x)}
        tasks = {rival: calling(in_a_row(copies(of, row.n_layers)), given) for rival, (of, given) in dense.items()}
        for sparsity in SPARSITIES:
            sparse = sparse_of(thinned(copy.deepcopy(layer), sparsity).bfloat16())
            tasks[f"{sparsity}"] = calling(in_a_row(copies(sparse, row.n_layers), SparseSequential), half_x)
        with torch.inference_mode():
            times = interleaved(tasks, row.rounds, **HOT)
        cells = "".join(f"{time / row.n_layers * 1e6:12.0f}" for time in times.values())
        ratios = " / ".join(f"{times['bf16'] / times[f'{sparsity}']:.1f}" for sparsity in SPARSITIES)
        print(f"{name:28}{cells}   {ratios:13}{row.asked[0] or ''}", flush=True)


def sweep_table(rows: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]) -> None:
    print("\nwhat compact_ makes of a layer, as times of the dense one; asked <= 1.05. d: it stays dense")
    print(f"{'at sparsity':34}{''.join(f'{sparsity:9.0%}' for sparsity in SWEPT)}")
    for name, (make, shape) in rows.items():
        dense, x = make().eval(), torch.randn(shape)
        tasks: dict[str, Task] = {"dense": calling(dense, x)}
        kept_dense = set()
        for sparsity in SWEPT:
            small = compact_(thinned(copy.deepcopy(dense), sparsity))
            tasks[f"{sparsity}"] = calling(small, x)
            kept_dense |= {sparsity} if isinstance(small, nn.Linear | nn.Conv2d) else set()
        with torch.inference_mode():
            times = interleaved(tasks, 40, **HOT)
        marks = ((times[f"{s}"] / times["dense"], "d" if s in kept_dense else " ") for s in SWEPT)
        print(f"{name:34}{''.join(f'{ratio:8.2f}{mark}' for ratio, mark in marks)}", flush=True)


def in_blocks(layer: nn.Linear, sparsity: float) -> nn.Linear:
    """The layer with the blocks of 1 x 4 weights that have the smallest sums of magnitudes set to zero, in place."""
    with torch.no_grad():
        sums = layer.weight.abs().unflatten(1, (-1, 4)).sum(2)
        kept = sums > sums.flatten().kthvalue(round(sparsity * sums.numel())).values
        layer.weight *= kept.repeat_interleave(4, 1)
    return layer


def difference(layer: nn.Linear, y: Tensor, x: Tensor) -> str:
    """How far results are from those in float32: the length of the difference over theirs, and the least cosine."""
    expected = layer(x) - layer.bias
    error = float(((y - layer.bias - expected).norm() / expected.norm()).detach())
    return f"{error:.4f} {float(F.cosine_similarity(y - layer.bias, expected).min().detach()):.5f}"


def int8_table(rows: Mapping[str, tuple[int, int]]) -> None:
    """Weights in blocks of 1 x 4 and inputs, both normal."""
    heads = [f"{head} {sparsity:.0%}" for sparsity in SPARSITIES for head in ("float", "1 x 4", "single")]
    print(
        f"\n{'int8, microseconds':24}{''.join(f'{head:>12}' for head in ('torch', 'onnxruntime', 'ort int8', *heads))}"
    )
    print(
        f"{'':24}float: sparse float32 of single weights; 1 x 4, single: int8 arithmetic with weights in blocks, or not"
    )
    for name, (size, batch) in rows.items():
        dense, x = nn.Linear(size, size).eval(), torch.randn(batch, size)
        tasks: dict[str, Task] = {
            "torch": calling(dense, x),
            "onnxruntime": in_onnxruntime([dense], x),
            "ort int8": in_onnxruntime_int8(dense, x),
        }
        errors = {}
        for sparsity in SPARSITIES:
            single = thinned(copy.deepcopy(dense), sparsity)
            blocks = in_blocks(copy.deepcopy(dense), sparsity)
            tasks[f"float {sparsity}"] = calling(sparse_of(single), x)
            for kind, layer in (("1 x 4", blocks), ("single", single)):
                matrix = compress(layer.get_parameter("weight"), values="int8")
                small = SparseLinear(matrix, layer.get_parameter("bias"), activations="int8")
                tasks[f"{kind} {sparsity}"] = calling(small, x)
                errors[f"{kind} {sparsity:.0%}"] = difference(layer, small(x), x)  # type: ignore[arg-type] # it is linear
        with torch.inference_mode():
            times = interleaved(tasks, 100 if size < 4096 else 20, **HOT)
        print(f"{name:24}{''.join(f'{time * 1e6:12.0f}' for time in times.values())}", flush=True)
        dense_y = torch.from_numpy(tasks["ort int8"]()[0])  # type: ignore[index] # a list of arrays
        print(f"{'  error, cosine':24}ort int8 {difference(dense, dense_y, x)}", end="")
        print("".join(f"; {kind} {error}" for kind, error in errors.items()))


def on(n_threads: int, task: Task) -> Task:
    """The task on so many threads."""

    def run() -> None:
        torch.set_num_threads(n_threads)
        task()

    return run


def thread_table(rows: Mapping[str, Row]) -> None:
    """Each task takes turns with itself only: torch's threads wait for work so busily that they hold a core."""
    print(f"\n{'two threads, times one thread':34}{'90 %':>12}{'95 %':>12}{'torch':>12}   asked 1.85")
    for name, row in rows.items():
        tasks, ratios = tasks_of(row), []
        with torch.inference_mode():
            for task in (tasks["0.9"], tasks["0.95"], tasks["torch"]):
                times = interleaved({str(n): on(n, task) for n in (1, 2)}, row.rounds, **HOT)
                ratios.append(times["1"] / times["2"])
        print(f"{name:34}{''.join(f'{ratio:12.2f}' for ratio in ratios)}", flush=True)
    torch.set_num_threads(1)


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser()
    options.add_argument("words", nargs="*", metavar="WORD")
    options.add_argument("--picture", type=Path, metavar="FILE")
    given = options.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    np.seterr(all="raise")
    warnings.simplefilter("ignore", NothingSparseWarning)  # the tables mark what stays dense

    def chosen(rows: Mapping[str, Any], title: str = "") -> dict[str, Any]:
        words = given.words
        return {name: row for name, row in rows.items() if not words or any(word in title + name for word in words)}

    def show(table: Callable[[Any], object], rows: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the table returns
        return table(rows) if rows else None

    with one_core():
        bars = show(layer_table, chosen(LAYERS))
        if given.picture and bars:
            draw(bars, given.picture)
        show(half_table, chosen(HALVES, "bfloat16 "))
        show(sweep_table, chosen(SWEEP, "sweep "))
        if not IS_LIMITED:
            show(int8_table, chosen(INT8, "int8 "))
    show(thread_table, chosen({name: LAYERS[name] for name in THREADS}, "threads "))


if __name__ == "__main__":
    main()
