"""Measuring the table by which layers are chosen to be sparse, on the machine at hand."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from prunecell.checks import check_count
from prunecell.sparse.break_even import DENSITIES, DTYPES, Measured, Table, own_table, write_table
from prunecell.sparse.choose import GAIN
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.layers import SparseConvolution, SparseLinear
from prunecell.sparse.values import VALUES

MANY = 32  # samples
SECONDS = 0.001  # that calls are repeated for one time
LONG = 0.2  # seconds, from which on a call is measured in one round only: noise is less of it
LOST = 1.2  # a form that is this many times slower than dense is not measured at higher densities


@dataclass(frozen=True)
class Case:
    """A layer, the shape of what it is given, and the dtype of both."""

    kind: str
    make: Callable[[], nn.Linear | nn.Conv2d]
    shape: tuple[int, ...]
    dtype: str = "float32"


def _linear(size: int, n_samples: int) -> Case:
    return Case("linear", lambda: nn.Linear(size, size), (n_samples, size))


def _convolution(channels: int, out: int, kernel: int, shape: tuple[int, ...], stride: int = 1) -> Case:
    kind = "strided " * (stride > 1) + "pointwise" if kernel == 1 else "convolution"
    padding = {1: 0, 3: 1, 5: 0}[kernel]  # as in ResNets and in LeNet
    make = lambda: nn.Conv2d(channels, out, kernel, stride, padding)  # noqa: E731 - as above
    return Case(kind, make, (shape[0], channels, *shape[1:]))


def _cases(n_samples: int) -> tuple[Case, ...]:
    """Those that are measured in all dtypes: torch may take seconds for larger ones where the CPU knows no bfloat16."""
    return (
        *(_linear(size, n_samples) for size in (256, 512, 1024)),
        _convolution(64, 64, 1, (n_samples, 8, 8)),
        _convolution(64, 256, 1, (n_samples, 8, 8)),
        _convolution(64, 128, 1, (n_samples, 16, 16), stride=2),
        _convolution(128, 256, 1, (n_samples, 16, 16), stride=2),
        _convolution(1, 6, 5, (n_samples, 32, 32)),
        _convolution(1, 20, 5, (n_samples, 28, 28)),
        _convolution(6, 16, 5, (n_samples, 14, 14)),
        _convolution(32, 32, 3, (n_samples, 8, 8)),
    )


def _large(n_samples: int) -> tuple[Case, ...]:
    return (
        _convolution(256, 256, 1, (n_samples, 16, 16)),
        _convolution(256, 1024, 1, (n_samples, 14, 14)),
        _convolution(64, 64, 3, (n_samples, 32, 32)),
        _convolution(256, 256, 3, (n_samples, 14, 14)),
    )


def _large_of_halves(n_samples: int) -> tuple[Case, ...]:
    return _convolution(256, 256, 1, (n_samples, 8, 8)), _convolution(128, 128, 3, (n_samples, 8, 8))


CASES = tuple(
    replace(case, dtype=dtype)
    for dtype in DTYPES
    for n_samples in (1, MANY)
    for case in (*_cases(n_samples), *(_large if dtype == "float32" else _large_of_halves)(n_samples))
)


def tune_runtime(*, repeats: int = 3, path: Path | None = None, watch: Callable[[str], None] = lambda _: None) -> Path:
    """Measure the table on this machine, on one thread, and keep it for all later calls of `compact_`.

    Args:
        repeats: >= 1, times of each, dense and sparse in turn; the shortest count.
        path: where the table is written, at the end; None: to the user's cache folder, where `compact_` finds it.
        watch: is given a line about each layer when it was measured: from how many zeros on a sparse form is faster.

    Returns:
        The file.
    """
    check_count("repeats", repeats, low=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = measure(CASES, repeats, watch)
    finally:
        torch.set_num_threads(threads)
    path = path or own_table()
    write_table(path, table)
    return path


@torch.inference_mode()
def measure(cases: tuple[Case, ...], repeats: int, watch: Callable[[str], None] = lambda _: None) -> Table:
    """Measure layers at all densities and in all forms."""
    table = []
    for n, case in enumerate(cases, 1):
        table.append(_measured(case, repeats))
        watch(f"{n} of {len(cases)}: {_found(table[-1])}")
    return tuple(table)


def _found(measured: Measured) -> str:
    best = [min(times) for times in zip(*measured.ratios.values(), strict=True)]
    wins = [density for density, ratio in zip(DENSITIES, best, strict=True) if ratio <= GAIN]
    what = f"sparse is faster from {1 - max(wins):.0%} zeros on" if wins else "dense is faster"
    samples = f"{measured.n_samples} sample{'s' * (measured.n_samples > 1)}"
    return f"{measured.kind}, {measured.dtype}, {measured.n_weights:,} weights, {samples}: {what}"


def _measured(case: Case, repeats: int) -> Measured:
    dtype = DTYPES[case.dtype]
    dense, x = case.make().to(dtype), torch.randn(case.shape).to(dtype)
    ratios: dict[str, list[float]] = {f"{form} {values}": [] for form, values in product(FORMATS, VALUES)}
    for density in DENSITIES:
        weight = dense.weight * (torch.rand_like(dense.weight) < density)
        layers = {name: _sparse(dense, weight, name) for name, row in ratios.items() if not row or row[-1] < LOST}
        times = _shortest({"dense": dense, **layers}, x, repeats)
        for name, row in ratios.items():
            ratio = times[name] / times["dense"] if name in times else 0.0
            row.append(round(max([ratio, *row[-1:]]), 3))  # more entries never take less time: what looks so was noise
    n_samples, n_weights = case.shape[0], dense.weight.numel()
    return Measured(kind=case.kind, dtype=case.dtype, n_samples=n_samples, n_weights=n_weights, ratios=ratios)


def _sparse(dense: nn.Linear | nn.Conv2d, weight: Tensor, name: str) -> nn.Module:
    form, values = name.split()
    matrix = compress(weight, format=form, values=values)
    if isinstance(dense, nn.Conv2d):
        return SparseConvolution(matrix, dense.bias, dense)
    return SparseLinear(matrix, dense.bias, dtype=dense.weight.dtype)


def _shortest(layers: dict[str, nn.Module], x: Tensor, repeats: int) -> dict[str, float]:
    """The shortest time of each layer in `repeats` rounds, in which they take turns."""
    shortest = dict.fromkeys(layers, math.inf)
    for _ in range(repeats):
        for name, layer in layers.items():
            if not LONG < shortest[name] < math.inf:
                shortest[name] = min(shortest[name], _seconds(layer, x))
    return shortest


def _seconds(layer: nn.Module, x: Tensor) -> float:
    """Of one call: the mean over `SECONDS`, after a call that warms up."""
    layer(x)
    n_calls, started = 0, time.perf_counter()
    while (now := time.perf_counter()) - started < SECONDS or not n_calls:
        layer(x)
        n_calls += 1
    return (now - started) / n_calls
