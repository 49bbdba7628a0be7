"""The threads that kernels share their work between: those of the OpenMP library that torch computes with.

Where torch has none that can be found, and in a process that was forked from one with threads, a kernel starts threads
of its own in every call, which takes longer.
"""

import ctypes
import functools
import os
from pathlib import Path

import torch

from prunecell.native.structs import Team

_PROCESS = os.getpid()
_NAMES = ("GOMP_parallel", "omp_get_thread_num")  # LLVM's and Intel's OpenMP have them too


def n_threads() -> int:
    """How many threads a kernel may use: what `torch.set_num_threads` says."""
    return torch.get_num_threads()


def team(n_threads: int) -> int | None:
    """The address of a team of so many threads, as a kernel takes it; None for a thread alone."""
    return _team(n_threads).address if n_threads > 1 else None


@functools.cache
def _team(n_threads: int) -> Team:
    return Team(*_openmp(), _PROCESS, n_threads)


@functools.cache
def _openmp() -> tuple[int | None, ...]:
    """The addresses of two functions of torch's OpenMP library, which is loaded already; None where it has none."""
    for path in [*sorted(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*")), None]:
        try:
            loaded = ctypes.CDLL(None if path is None else str(path))
            return tuple(ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value for name in _NAMES)
        except (OSError, AttributeError):
            continue
    return (None,) * len(_NAMES)
