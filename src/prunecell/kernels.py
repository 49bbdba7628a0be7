"""The compiled kernels: which library runs on this CPU, and how it is called.

`_kernels.cpp` is built for up to three x86-64 levels (`v1` is the baseline and the only one elsewhere, `v3` has AVX2,
`v4` has AVX-512). The best that the CPU runs is loaded at first use, through ctypes, which frees the GIL while a
kernel runs. Where no compiler was at hand when prunecell was installed there is no library: every kernel has a slower
twin in torch, which then runs instead, and one warning says so.

`PRUNECELL_KERNELS` overrules the choice: `none` (the twins, without a warning), `v1`, `v3` or `v4`.
"""

import ctypes
import functools
import importlib.util
import os
import warnings
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import torch

from prunecell.errors import OptionError, UnknownNameError, nearest

LEVELS = {"v4": 4, "v3": 3, "v1": 1}
ENVIRONMENT = "PRUNECELL_KERNELS"
SOURCE = Path(__file__).with_name("_kernels.cpp")


# ---- which library ---------------------------------------------------------------------------------------------------


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library that the kernels run in, or None where the torch twins must do; chosen once per process.

    Raises:
        UnknownNameError: `PRUNECELL_KERNELS` names no level.
        OptionError: it names a level that this CPU does not run or that was not built.
    """
    asked = os.environ.get(ENVIRONMENT)
    if asked == "none":
        return None
    if asked:
        return _asked_for(asked)
    best = cpu_level()
    for level in (level for level, rank in LEVELS.items() if rank <= best):
        if (found := load(level)) is not None:
            return found
    warnings.warn(
        "prunecell's compiled kernels were not built, or are older than their source: slower torch code runs instead. "
        "Install a C++ compiler and reinstall prunecell (pip install --force-reinstall --no-deps), "
        f"or set {ENVIRONMENT}=none to run without them",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _asked_for(level: str) -> ctypes.CDLL:
    if level not in LEVELS:
        raise UnknownNameError(f"{ENVIRONMENT}={level!r} is illegal{nearest(level, [*LEVELS, 'none'])}")
    if LEVELS[level] > cpu_level():
        raise OptionError(f"{ENVIRONMENT}={level!r} is illegal: this CPU runs no more than v{cpu_level()}")
    if (found := load(level)) is None:
        raise OptionError(f"{ENVIRONMENT}={level!r} is illegal: that level was not built, or is older than its source")
    return found


@functools.cache
def load(level: str) -> ctypes.CDLL | None:
    """The library of one level, or None where it was not built or is older than its source.

    Whether the CPU runs it is not looked at here: see `cpu_level`.
    """
    spec = importlib.util.find_spec(f"{__package__}._kernels_{level}")
    if spec is None or spec.origin is None:
        return None
    found = ctypes.CDLL(spec.origin)
    return None if _is_stale(found) else _declare(found)


def cpu_level() -> int:
    """The best level that this CPU runs: 1, 3 or 4; 1 too where no library is there to ask."""
    baseline = load("v1")
    return 1 if baseline is None else int(baseline.pc_cpu_level())


def _is_stale(found: ctypes.CDLL) -> bool:
    found.pc_source_checksum.restype = ctypes.c_uint32
    return SOURCE.exists() and int(found.pc_source_checksum()) != zlib.crc32(SOURCE.read_bytes())


# ---- how it is called ------------------------------------------------------------------------------------------------


class Argument(ctypes.Structure):
    """A structure that kernels take by its address."""

    @functools.cached_property
    def address(self) -> int:
        """Where it lies."""
        return ctypes.addressof(self)


class Matrix(Argument):
    """A compressed matrix: the fields of `Matrix` in _kernels.cpp, in its order."""

    _fields_ = (
        ("starts", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("n_entries", ctypes.c_int64),
        ("n_rows", ctypes.c_int32),
        ("n_columns", ctypes.c_int32),
        ("format", ctypes.c_int32),
        ("value_type", ctypes.c_int32),
    )


class Geometry(Argument):
    """A convolution: the fields of `Geometry` in _kernels.cpp, in its order."""

    _fields_ = (
        ("groups", ctypes.c_int32),
        ("in_channels", ctypes.c_int32),
        ("out_channels", ctypes.c_int32),
        ("size", ctypes.c_int32 * 3),
        ("out", ctypes.c_int32 * 3),
        ("kernel", ctypes.c_int32 * 3),
        ("stride", ctypes.c_int32 * 3),
        ("padding", ctypes.c_int32 * 3),
        ("dilation", ctypes.c_int32 * 3),
    )


_ADDRESS, _FLAG, _COUNT, _ROW, _BYTES = (
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.c_int32,
    ctypes.c_int32,
)

# Function -> its arguments; every result is an int32, if there is one. What they mean is written where the function is.
SIGNATURES: dict[str, list[Any]] = {
    "pc_cpu_level": [],
    "pc_what_is_wrong": [_ADDRESS],
    "pc_linear": [
        *[_ADDRESS, _ADDRESS, _FLAG],
        *[_ADDRESS, _COUNT, _COUNT, _COUNT],
        *[_ADDRESS, _COUNT, _COUNT, _ROW, _ROW],
    ],
    "pc_convolution": [
        *[_ADDRESS, _ADDRESS, _FLAG, _ADDRESS],
        *[_ADDRESS, _ADDRESS, _COUNT, _ROW, _ROW],
    ],
    "pc_fill_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _COUNT],
    "pc_any_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES],
    "pc_take_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _ADDRESS, _COUNT],
    "pc_put_pruned": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _ADDRESS, _COUNT],
    "pc_count_bits": [_ADDRESS, _COUNT, _ADDRESS],
    "pc_census": [_ADDRESS, _COUNT, _BYTES, _COUNT, _COUNT, _ADDRESS, _ADDRESS],
    "pc_prune_up_to": [_ADDRESS, _COUNT, _BYTES, _COUNT, _ADDRESS, _ADDRESS],
    "pc_join_bytes": [_ADDRESS, _COUNT, _BYTES, _FLAG, _ADDRESS],
    "pc_scatter": [_ADDRESS, _ADDRESS, _ADDRESS, _COUNT, _BYTES],
    "pc_random_keys": [_ADDRESS, _ADDRESS, _COUNT, _BYTES, _COUNT, _COUNT, _ADDRESS],
}


def _declare(found: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = ctypes.c_int32, arguments
    return found


# ---- on how many threads ---------------------------------------------------------------------------------------------


Task = Callable[[int, int], None]


def in_parallel(task: Task, n_items: int, *, n_threads: int) -> None:
    """Run `task(begin, end)` over [0, n_items) in at most `n_threads` equal shares, one a thread, and wait.

    The calling thread takes the first share, and those of threads that work for another caller. What a share raises is
    raised here.

    >>> shares = []
    >>> in_parallel(lambda begin, end: shares.append((begin, end)), 10, n_threads=2)
    >>> sorted(shares)
    [(0, 5), (5, 10)]
    """
    n_threads = min(n_threads, n_items)
    if n_threads <= 1:
        return task(0, n_items)
    own, *others = pairwise(n_items * i // n_threads for i in range(n_threads + 1))
    started, left = [], [own]
    for i, share in enumerate(others):
        worker = _worker(os.getpid(), i)
        if worker.start(task, share):
            started.append(worker)
        else:
            left.append(share)
    try:
        for share in left:
            task(*share)
    finally:  # whatever happens here, the others still write into the caller's memory
        errors = [worker.wait() for worker in started]
    for error in filter(None, errors):
        raise error
    return None


class _Worker:
    """A thread that runs one share at a time. Two locks hand it over: in a fifth of the time that a future takes."""

    def __init__(self) -> None:
        self._free, self._begin, self._end = Lock(), Lock(), Lock()
        self._begin.acquire()
        self._end.acquire()
        self._work: tuple[Task, tuple[int, int]] | None = None
        self._error: BaseException | None = None
        Thread(target=self._run, name="prunecell", daemon=True).start()

    def start(self, task: Task, share: tuple[int, int]) -> bool:
        """Begin a share, if there is none in work."""
        if not self._free.acquire(blocking=False):
            return False
        self._work = task, share
        self._begin.release()
        return True

    def wait(self) -> BaseException | None:
        """Wait for the end of the share; what it raised, if anything."""
        try:
            self._end.acquire()
        except BaseException:  # a signal: the share goes on nevertheless
            self._end.acquire()
            raise
        finally:
            error, self._work, self._error = self._error, None, None
            self._free.release()
        return error

    def _run(self) -> None:
        while True:
            self._begin.acquire()
            try:
                self._do()
            except BaseException as error:  # noqa: BLE001 - it is raised where the share came from
                self._error = error
            self._end.release()

    def _do(self) -> None:
        if self._work is not None:
            task, share = self._work
            task(*share)


@functools.cache
def _worker(_process: int, _number: int) -> _Worker:
    """The worker of a number; every process has its own, as the threads of a parent do not live on in a fork."""
    return _Worker()


def n_threads() -> int:
    """How many threads a kernel may use: what `torch.set_num_threads` says."""
    return torch.get_num_threads()
