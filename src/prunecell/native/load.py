"""Which compiled library runs on this CPU.

`kernels.cpp`, which includes the headers beside it, is built for up to three x86-64 levels (`v1` is the baseline and
the only one elsewhere, `v3` has AVX2, `v4` has AVX-512). The best that the CPU runs is loaded at first use, through
ctypes, which frees the GIL while a kernel runs. Where no compiler was at hand when prunecell was installed there is no
library: every kernel has a slower twin in torch, which then runs instead, and one warning says so.

`PRUNECELL_KERNELS` overrules the choice: `none` (the twins, without a warning), `v1`, `v3` or `v4`.
"""

import ctypes
import functools
import importlib.util
import os
import warnings

from prunecell.errors import OptionError, UnknownNameError, nearest
from prunecell.native import sources
from prunecell.native.structs import declare

LEVELS = {"v4": 4, "v3": 3, "v1": 1}
ENVIRONMENT = "PRUNECELL_KERNELS"


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
        if (found := library_of(level)) is not None:
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
    if (found := library_of(level)) is None:
        raise OptionError(f"{ENVIRONMENT}={level!r} is illegal: that level was not built, or is older than its source")
    return found


@functools.cache
def library_of(level: str) -> ctypes.CDLL | None:
    """The library of one level, or None where it was not built or is older than its source.

    Whether the CPU runs it is not looked at here: see `cpu_level`.
    """
    spec = importlib.util.find_spec(f"{__package__}._kernels_{level}")
    if spec is None or spec.origin is None:
        return None
    found = ctypes.CDLL(spec.origin)
    return None if _is_stale(found) else declare(found)


def cpu_level() -> int:
    """The best level that this CPU runs: 1, 3 or 4; 1 too where no library is there to ask."""
    baseline = library_of("v1")
    return 1 if baseline is None else int(baseline.pc_cpu_level())


def has_vnni(library: ctypes.CDLL | None) -> bool:
    """Whether the CPU has VNNI, by which kernels multiply bytes: a CPU of any level may lack it."""
    return library is not None and bool(library.pc_has_vnni())


def _is_stale(found: ctypes.CDLL) -> bool:
    """Whether the library is older than its source; never where the source is not installed."""
    found.pc_source_checksum.restype = ctypes.c_uint32
    return bool(sources.files()) and int(found.pc_source_checksum()) != sources.checksum()
