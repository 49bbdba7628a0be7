"""What happens to a file of any version: accidents, other bytes, bombs."""

import tracemalloc

import pytest
from hypothesis import strategies as st

from prunecell.archive import load
from prunecell.errors import FormatError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a bad file is written, again and again."""
    return tmp_path_factory.mktemp("bad") / "bad.pcell"


def _accidents(file):
    for size in range(len(file)):
        yield f"cut to {size}", file[:size]
    for more in (b"\0", b" ", file):
        yield f"{len(more)} bytes more", file + more
    for at in range(len(file)):
        yield f"a bit of byte {at}", file[:at] + bytes([file[at] ^ 1 << at % 8]) + file[at + 1 :]


@pytest.fixture(scope="session")
def accidents():
    """Every accident of a small file: what happened, and the file after it."""
    return _accidents


def _moved_or_replaced(file, data):
    start = data.draw(st.integers(0, len(file) - 1))
    stop = data.draw(st.integers(start, min(len(file), start + 40)))
    return file[:start] + data.draw(st.binary(max_size=40)) + file[stop:]


@pytest.fixture(scope="session")
def moved_or_replaced():
    """Draws a file in which other bytes, and as many or not, stand in place of some."""
    return _moved_or_replaced


def _spoilt(blob, data, *, within=None):
    changed = bytearray(blob)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, min(within or len(blob), len(blob)) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed)


@pytest.fixture(scope="session")
def spoilt():
    """Draws a blob with up to three other bytes, among the first `within`."""
    return _spoilt


def _peak(place):
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            load(place)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="session")
def peak():
    """The error of a file, and the most memory that numpy and Python held while it came about."""
    return _peak
