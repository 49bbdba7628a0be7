"""Teams whose threads come as a test wants it."""

import ctypes
import os

import pytest

from prunecell import native


@pytest.fixture
def lone_team():
    """Makes a team of so many threads, of which only the one of a number comes: it does its own share first."""
    run_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    made = []

    def run(work, data, _n_threads, _flags):
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)(data)

    def lone(n_threads, *, number):
        made.append((run_type(run), ctypes.CFUNCTYPE(ctypes.c_int)(lambda: number)))  # kept until the test ends
        return native.Team(*(ctypes.cast(f, ctypes.c_void_p) for f in made[-1]), os.getpid(), n_threads)

    return lone
