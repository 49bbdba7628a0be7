"""Frames of Zstandard, by the kernels of every level and by the library: the same bytes, and the same errors."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell import native
from prunecell.codecs.streams import InMemory
from prunecell.codecs.zstandard import HUFFMAN_ONLY, KernelReader, LibraryReader, ZstdWriter, open_zstd, searching, zstd
from prunecell.errors import FormatError

pytestmark = pytest.mark.usefixtures("level")

BLOCK = 1 << 17
SIZES = [0, 1, 5, 255, 256, 1023, 1024, 1025, 16383, 16385, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77]
LIMITS = [1000, 1 << 16, BLOCK, 1 << 20]


def source(data):
    return InMemory(memoryview(bytes(data)))


def made(numbers, parameters):
    writer = ZstdWriter(parameters)
    for some in np.array_split(numbers, 3):
        writer.write(some)
    return b"".join(writer.finish())


def read(reader, limit):
    """All bytes of a frame, some at a time; None where it is refused."""
    found = []
    try:
        while len(some := reader.read(limit)):
            found.append(some)
        reader.finish()
    except FormatError:
        return None
    return np.concatenate([np.empty(0, np.uint8), *found])


KINDS = {
    "exponents": lambda made, n: np.clip(made.geometric(0.4, n) + 100, 0, 255),
    "two": lambda made, n: made.random(n) < 0.1,
    "one": lambda _, n: np.full(n, 7),
    "flat": lambda made, n: made.integers(0, 200, n),
    "noise": lambda made, n: made.integers(0, 256, n),
    "rare": lambda made, n: np.where(made.random(n) < 1e-3, made.integers(0, 256, n), made.integers(0, 3, n)),
    "changing": lambda made, n: made.geometric(0.1, n) // (1 + np.arange(n) // 50_000),
    "repeats": lambda made, n: np.resize(made.integers(0, 30, 1000), n),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_back(kind, for_every):
    def back(size, limit, parameters):
        numbers = np.minimum(KINDS[kind](np.random.default_rng(size), size), 255).astype(np.uint8)
        data = made(numbers, parameters)
        assert np.array_equal(read(open_zstd(source(data)), limit), numbers)
        assert np.array_equal(read(LibraryReader(source(data)), limit), numbers)

    for_every(back, SIZES, LIMITS, [HUFFMAN_ONLY, searching(3), searching(6)])


def test_frames_of_codes_alone_are_not_left_to_the_library():
    if (library := native.library()) is None:
        pytest.skip("no kernels")
    for kind in KINDS.values():
        numbers = np.minimum(kind(np.random.default_rng(0), 3 * BLOCK + 77), 255).astype(np.uint8)
        reader = KernelReader(source(made(numbers, HUFFMAN_ONLY)), library)
        assert np.array_equal(read(reader, BLOCK), numbers)
        assert reader._rest is None


FRAME = made(np.minimum(np.random.default_rng(1).geometric(0.1, 3000), 255).astype(np.uint8), HUFFMAN_ONLY)


@given(at=st.integers(0, len(FRAME) - 1), bit=st.integers(0, 7))
def test_what_is_damaged_is_read_as_the_library_reads_it(at, bit):
    data = bytearray(FRAME)
    data[at] ^= 1 << bit
    found, wanted = read(open_zstd(source(data)), 1000), read(LibraryReader(source(data)), 1000)
    assert (found is None) == (wanted is None)
    assert found is None or np.array_equal(found, wanted)


@given(cut=st.integers(1, len(FRAME) - 1))
def test_what_is_cut_or_too_long_is_refused(cut):
    assert read(open_zstd(source(FRAME[:-cut])), 1000) is None
    assert read(open_zstd(source(FRAME + FRAME[:cut])), 1000) is None


def test_a_frame_that_wants_much_memory_is_refused():
    largest = made(np.zeros(10, np.uint8), {zstd.CompressionParameter.window_log: 23})
    assert len(read(open_zstd(source(largest)), 100)) == 10
    larger = made(np.zeros(10, np.uint8), {zstd.CompressionParameter.window_log: 24})
    with pytest.raises(FormatError, match="a zstd stream is damaged"):
        open_zstd(source(larger)).read(10)


def test_no_more_is_decoded_than_is_asked_for():
    bomb = made(np.zeros(1 << 26, np.uint8), searching(3))
    reader = open_zstd(source(bomb))
    assert len(reader.read(1000)) == 1000
    assert sys.getsizeof(getattr(reader, "_ready", b"")) < 2 * BLOCK
    with pytest.raises(FormatError, match="cut or too long"):
        reader.finish()
