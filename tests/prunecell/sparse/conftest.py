"""Every kernel runs at every level that this CPU has, and as its twin."""

import sys
import threading
from itertools import product

import pytest
import torch

from prunecell import native
from prunecell.sparse.break_even import DENSITIES, DTYPES, Measured, own_table, write_table
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.values import VALUES

LEVELS = [level for level, rank in native.LEVELS.items() if rank <= native.cpu_level()]


@pytest.fixture(params=[*LEVELS, "none"])
def level(request, monkeypatch):
    """The operators run at this level, or as their twins for "none"."""
    chosen = None if request.param == "none" else native.library_of(request.param)
    monkeypatch.setattr(native, "library", lambda: chosen)
    return request.param


@pytest.fixture(params=LEVELS)
def compiled_level(request, monkeypatch):
    """The operators run at this level; for what the twins, which are dense inside, need not do."""
    monkeypatch.setattr(native, "library", lambda: native.library_of(request.param))
    return request.param


@pytest.fixture(autouse=True)
def _same_numbers_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def often_switched():
    """Runs call(argument) for some arguments on a thread each, which take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def run(call, arguments):
        threads = [threading.Thread(target=call, args=(argument,)) for argument in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    yield run
    sys.setswitchinterval(before)


@pytest.fixture
def everything_wins(monkeypatch, tmp_path):
    """A table of times by which layers of any size become sparse, the smaller the formats the slower."""
    forms = {
        f"{form} {values}": [0.5 + 0.1 * i] * len(DENSITIES) for i, form in enumerate(FORMATS) for values in VALUES
    }
    cases = product(("linear", "pointwise", "strided pointwise", "convolution"), DTYPES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_table(
        own_table(),
        tuple(Measured(kind=kind, dtype=dtype, n_samples=1, n_weights=1, ratios=forms) for kind, dtype in cases),
    )
