"""Which form a layer takes: dense, or which compressed format. Decided by times that were measured.

A table holds, for each kind of layer and each compressed form, the time of the sparse layer over that of the dense one,
at several densities. One table is shipped; `tune_runtime` measures another one on the machine at hand, and keeps it.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell import kernels
from prunecell.errors import OptionError, UnknownNameError, nearest
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS, VALUES
from prunecell.sparse.layers import SparseConvolution, SparseLinear

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
LARGEST_RATIO = 1.0
"""Times of the dense layer that a sparse one may take; what takes longer stays dense."""

PREFERENCES = ("speed", "memory")
SHIPPED = Path(__file__).with_name("break_even.json")
_INDEX_BYTES: Mapping[str, Callable[[float], float]] = {
    "columns16": lambda density: 2 * density,
    "gaps8": lambda density: density + 1 / 256,
    "bitmask": lambda density: 1 / 8,  # noqa: ARG005 - the same at any density
}
"""Format -> bytes of its indices for each element of the matrix."""

Table = Mapping[str, Mapping[str, list[float]]]
"""Kind of layer -> "format values" -> time over dense at each of DENSITIES."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A compressed form of a matrix."""

    format: str
    values: str

    def n_bytes(self, density: float) -> float:
        """Bytes for each element of the matrix, about."""
        return _INDEX_BYTES[self.format](density) + density * VALUES[self.values].itemsize


def choose(kind: str, *, density: float, n_columns: int, prefer: str, values: str, table: Table) -> Form | None:
    """Choose the compressed form of a matrix, or None where it had better stay dense.

    Args:
        kind: "linear" or "convolution".
        density: the fraction of its elements that is kept.
        n_columns: its columns; not every format can write any number of them.
        prefer: "speed": the fastest, if it is faster than dense; "memory": the smallest, if it is smaller than dense
            and not slower.
        values: "fp32", "fp16" or "int8".
        table: the measured times.

    Raises:
        UnknownNameError: `prefer` or `values` is no such name.
    """
    if prefer not in PREFERENCES:
        raise UnknownNameError(f"prefer={prefer!r} is illegal{nearest(prefer, PREFERENCES)}")
    if values not in VALUES:
        raise UnknownNameError(f"values={values!r} is illegal{nearest(values, VALUES)}")
    rank: dict[Form, float] = {}
    for name, form in FORMATS.items():
        candidate = Form(format=name, values=values)
        ratio = max(_ratio(table, part, candidate, density) for part in table if part.startswith(kind))
        if ratio <= LARGEST_RATIO and (form.max_columns is None or n_columns <= form.max_columns):
            rank[candidate] = ratio if prefer == "speed" else candidate.n_bytes(density)
    best = min(rank, key=lambda form: rank[form], default=None)
    if best is None or (prefer == "memory" and best.n_bytes(density) >= VALUES["fp32"].itemsize):
        return None
    return best


def _ratio(table: Table, kind: str, form: Form, density: float) -> float:
    return float(np.interp(density, DENSITIES, table[kind][f"{form.format} {form.values}"], right=np.inf))


def break_even_table() -> Table:
    """The times measured on this machine if there are any, else the shipped ones."""
    path = _own_table()
    return _read(path if path.exists() else SHIPPED)


def _read(path: Path) -> Table:
    try:
        table: Table = json.loads(path.read_text())
        rows = [row for rows in table.values() for row in rows.values()]
        sound = {*table} == {*_KINDS} and all(len(row) == len(DENSITIES) for row in rows)
    except (OSError, ValueError, AttributeError) as error:
        raise OptionError(f"{path} cannot be read as a table of times: {error}; remove it or tune again") from error
    if not sound:
        raise OptionError(f"{path} is of another version; remove it or tune again")
    return table


def _own_table() -> Path:
    """Where this machine's table is kept: one for each CPU and kernel level."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cpu = f"{platform.machine()} v{kernels.cpu_level()} {platform.node()}"
    return cache / "prunecell" / f"break_even {cpu}.json".replace(" ", "-")


def tune_runtime(*, repeats: int = 9) -> Path:
    """Measure the table on this machine, on one thread, and keep it for all later calls of `compact_`.

    Args:
        repeats: >= 1, runs of each, dense and sparse in turn; the fastest count.

    Returns:
        The file.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = {kind: _measure(make, repeats) for kind, make in _KINDS.items()}
    finally:
        torch.set_num_threads(threads)
    path = _own_table()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1))
    return path


Case = tuple[nn.Module, Tensor, Callable[[str, str], nn.Module]]


def _linear(n_samples: int) -> Callable[[float], Case]:
    def case(density: float) -> Case:
        dense = nn.Linear(1024, 1024)
        _thin_(dense.weight, density)
        x = torch.randn(n_samples, 1024)
        return (
            dense,
            x,
            lambda form, values: SparseLinear(compress(dense.weight, format=form, values=values), dense.bias),
        )

    return case


def _convolution(channels: int, size: int) -> Callable[[float], Case]:
    def case(density: float) -> Case:
        dense = nn.Conv2d(channels, channels, 3, padding=1)
        _thin_(dense.weight, density)
        x = torch.randn(1, channels, size, size)
        return (
            dense,
            x,
            lambda form, values: SparseConvolution(
                compress(dense.weight, format=form, values=values), dense.bias, dense
            ),
        )

    return case


_KINDS: dict[str, Callable[[float], Case]] = {
    "linear, 1 sample": _linear(1),
    "linear, 64 samples": _linear(64),
    "convolution, 64 channels": _convolution(64, 32),
    "convolution, 256 channels": _convolution(256, 14),
}


@torch.no_grad()
def _thin_(weight: Tensor, density: float) -> None:
    F.dropout(weight, 1 - density, inplace=True)


@torch.inference_mode()
def _measure(make: Callable[[float], Case], repeats: int) -> dict[str, list[float]]:
    ratios: dict[str, list[float]] = {f"{form} {values}": [] for form, values in product(FORMATS, VALUES)}
    for density in DENSITIES:
        dense, x, sparse = make(density)
        for name, row in ratios.items():
            layer = sparse(*name.split())
            times = [(_seconds(layer, x), _seconds(dense, x)) for _ in range(repeats)]
            row.append(round(min(t for t, _ in times) / min(t for _, t in times), 3))
    # more entries never take less time: what looks so was noise
    return {name: np.maximum.accumulate(row).tolist() for name, row in ratios.items()}


def _seconds(layer: nn.Module, x: Tensor) -> float:
    """Of one call, the mean over some milliseconds, after one that warms up."""
    layer(x)
    n_calls, started = 0, time.perf_counter()
    while (now := time.perf_counter()) - started < 0.002 or not n_calls:  # noqa: PLR2004 - seconds
        layer(x)
        n_calls += 1
    return (now - started) / max(n_calls, 1)
