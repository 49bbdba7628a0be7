"""What the benchmarks measure with: interleaved runs, and the peak of the process's memory."""

import ctypes
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from prunecell import native

ENOUGH = 5  # times of a task
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def one_core() -> Iterator[None]:
    """Stay on one core meanwhile: on a shared machine another may be half as fast."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def seconds(work: Callable[[], object]) -> float:
    """Wall clock of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def interleaved(
    tasks: Mapping[str, Callable[[], object]], rounds: int, *, warm: int = 0, patience: float = math.inf
) -> dict[str, float]:
    """Median seconds of every task over `rounds` in which all take turns; one more round goes before, unmeasured.

    Args:
        tasks: by their names.
        rounds: >= 1.
        warm: calls before each one that is timed.
        patience: seconds after which a slow task has no more turns, if it had `ENOUGH`.
    """
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            if len(times[name]) > ENOUGH and sum(times[name]) * (warm + 1) > patience:
                continue
            for _ in range(warm):
                task()
            times[name].append(seconds(task))
    return {name: median(taken[1:]) for name, taken in times.items()}


def peak_bytes(work: Callable[[], object]) -> int:
    """How far the process's memory rises above what it is now while `work` runs (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")  # the peak starts anew
    before = _kilobytes("VmRSS")
    work()
    return (_kilobytes("VmHWM") - before) * 1024


def _kilobytes(field: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(field))


@contextmanager
def kernels_at(level: str) -> Iterator[None]:
    """The compiled kernels of one level ("none": the torch twins) meanwhile; "" is the usual choice."""
    os.environ[native.ENVIRONMENT] = level
    native.library.cache_clear()
    try:
        yield
    finally:
        del os.environ[native.ENVIRONMENT]
        native.library.cache_clear()
