"""The coder of integers: the compiled one and its twin give the same bytes, and the numbers back; damage is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecell import native
from prunecell.codecs.contexts import NO_ROWS, Grid, grid_of, open_contexts, read_row_flags, write_contexts
from prunecell.errors import FormatError

CODERS = ["native", "twin"]


@pytest.fixture(params=CODERS)
def coder(request, monkeypatch):
    if request.param == "twin":
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("no kernels were built")
    return request.param


def drawn(grid, density, most, seed):
    """Random numbers, some of them zero; whole rows and columns too."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-most, most, (grid.rows, grid.columns), endpoint=True)
    for axis in (0, 1, None):
        shape = {0: (grid.rows, 1), 1: (1, grid.columns), None: numbers.shape}[axis]
        numbers = numbers * (rng.random(shape) < density)
    numbers[-1, 0] = numbers[-1, 0] or 1  # not all zero
    return numbers.astype(np.int32).reshape(-1)


def read_all(data, grid, count, above=NO_ROWS, at_once=1):
    reader = open_contexts(data, grid, count, above)
    found = [reader.read(min(at_once, grid.rows - row)) for row in range(0, grid.rows, at_once)]
    reader.finish()
    return np.concatenate(found)


sizes = st.integers(1, 6)
grids = st.builds(Grid, rows=st.integers(1, 12), planes=sizes, height=sizes, width=sizes)


@pytest.mark.skipif(native.library() is None, reason="no kernels were built")
@settings(max_examples=200)
@given(
    grid=grids, density=st.sampled_from([0.1, 0.5, 1.0]), most=st.sampled_from([1, 3, 200, 2**31 - 1]), data=st.data()
)
def test_both_coders_write_the_same_bytes_and_read_them_back(grid, density, most, data):
    numbers = drawn(grid, density, most, data.draw(st.integers(0, 1000)))
    parts = data.draw(st.sampled_from([n for n in range(1, grid.columns + 1) if grid.columns % n == 0]))
    above = np.array(data.draw(st.lists(st.integers(0, 1), min_size=parts, max_size=parts)), np.uint8)
    above = data.draw(st.sampled_from([above, NO_ROWS]))
    count, flags = int(np.count_nonzero(numbers)), (numbers.reshape(grid.rows, -1) != 0).any(1)
    written = {}
    for name in CODERS:
        with pytest.MonkeyPatch.context() as patch:
            if name == "twin":
                patch.setattr(native, "library", lambda: None)
            written[name] = write_contexts(numbers, grid, above)
            stream = written["native"]
            if stream is not None:
                assert read_all(stream, grid, count, above, data.draw(st.integers(1, 12))).tolist() == numbers.tolist()
                assert read_row_flags(stream, grid).tolist() == flags.tolist()
    assert written["native"] == written["twin"]


@pytest.mark.parametrize("seed", range(3))
def test_larger_tensors_are_the_same_for_both(seed, monkeypatch):
    grid = [grid_of((40, 300)), grid_of((20, 6, 5, 5)), grid_of((3, 784), side=28)][seed]
    numbers = drawn(grid, 0.6, [1, 2, 50][seed], seed)
    data = write_contexts(numbers, grid)
    assert read_all(data, grid, int(np.count_nonzero(numbers)), at_once=7).tolist() == numbers.tolist()
    monkeypatch.setattr(native, "library", lambda: None)
    assert write_contexts(numbers, grid) == data
    assert read_all(data, grid, int(np.count_nonzero(numbers)), at_once=7).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("shape", "side", "wanted"),
    [
        ((), 0, (1, 1, 1, 1)),
        ((5,), 0, (1, 1, 1, 5)),
        ((4, 6), 0, (4, 1, 1, 6)),
        ((4, 98), 7, (4, 2, 7, 7)),
        ((4, 6, 3), 0, (4, 6, 1, 3)),
        ((4, 6, 1), 0, (4, 1, 1, 6)),
        ((4, 6, 3, 5), 0, (4, 6, 3, 5)),
        ((4, 6, 1, 1), 0, (4, 1, 1, 6)),
        ((4, 6, 2, 3, 5), 0, (4, 12, 3, 5)),
        ((4, 7), 2, None),
        ((0, 7), 0, None),
        ((7, 0), 0, None),
        ((1, (1 << 22) + 1), 0, None),
        ((1 << 20, 1 << 20), 0, None),
    ],
)
def test_a_tensor_is_seen_as_rows_of_pictures(shape, side, wanted):
    found = grid_of(shape, side)
    assert (found and (found.rows, found.planes, found.height, found.width)) == wanted


@pytest.mark.usefixtures("coder")
def test_numbers_at_the_limits_come_back():
    numbers = np.array([2**31 - 1, -(2**31) + 1, 1, -1, 0, 2**30, 15, 16, 17, -31, 32] * 3, np.int32)
    for shape in ((33,), (3, 11), (11, 3)):
        grid = grid_of(shape)
        assert read_all(write_contexts(numbers, grid), grid, 30).tolist() == numbers.tolist()


@pytest.mark.usefixtures("coder")
def test_a_single_number_takes_a_byte():
    grid = grid_of((1,))
    for number in (1, -1, 2, -3):
        data = write_contexts(np.array([number], np.int32), grid)
        assert len(data) <= 1
        assert read_all(data, grid, 1).tolist() == [number]


@pytest.mark.usefixtures("coder")
def test_zero_rows_and_columns_take_little():
    numbers = np.zeros((200, 300), np.int32)
    numbers[10:20, 40:50] = 1
    assert len(write_contexts(numbers.reshape(-1), grid_of((200, 300)))) < 24


def test_sparse_numbers_take_little_more_than_their_entropy():
    rng = np.random.default_rng(0)
    for density in (0.02, 0.1, 0.5):
        numbers = rng.choice([-1, 1], 200_000) * (rng.random(200_000) < density)
        kept = np.count_nonzero(numbers) / 200_000
        limit = 200_000 / 8 * (kept - kept * np.log2(kept) - (1 - kept) * np.log2(1 - kept))
        assert len(write_contexts(numbers.astype(np.int32), grid_of((400, 500)))) < 1.02 * limit + 60


@pytest.mark.usefixtures("coder")
def test_what_is_not_compressible_is_given_up():
    numbers = np.random.default_rng(0).integers(-(2**31) + 1, 2**31, 600).astype(np.int32)
    assert write_contexts(numbers, grid_of((20, 30))) is None


@pytest.mark.usefixtures("coder")
def test_cut_and_long_streams_are_told():
    grid = grid_of((6, 20))
    numbers = drawn(grid, 0.9, 9, 0)
    data, count = write_contexts(numbers, grid), int(np.count_nonzero(numbers))
    with pytest.raises(FormatError, match="too long"):
        read_all(data + bytes(5), grid, count)
    with pytest.raises(FormatError, match="numbers that are not zero, where there must be"):
        read_all(data, grid, count + 1)
    told = 0
    for n in range(len(data) - 4):
        try:
            assert read_all(data[:n], grid, count).tolist() != numbers.tolist()
        except FormatError as error:
            told += "ends early" in str(error) or "that are not zero" in str(error)
    assert told > 0.9 * len(data) - 4


@settings(max_examples=150)
@given(data=st.binary(max_size=40), grid=grids, count=st.integers(1, 1 << 36), seed=st.integers(0, 9))
def test_any_bytes_are_the_same_numbers_or_the_same_error_for_both(data, grid, count, seed):
    above = [NO_ROWS, np.array([seed % 2], np.uint8)][seed % 3 == 0]
    outcomes = []
    for name in CODERS:
        with pytest.MonkeyPatch.context() as patch:
            if name == "twin":
                patch.setattr(native, "library", lambda: None)
            try:
                outcomes.append(read_all(data, grid, count, above, 5).tolist())
            except FormatError as error:
                outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_a_short_stream_costs_little_work(coder):
    """Of 2^30 numbers for the compiled coder; each byte of a stream tells 23,000 at most."""
    grid = grid_of((1 << 20, 1 << 10) if coder == "native" else (100, 30))
    with pytest.raises(FormatError, match="ends early"):
        read_all(b"\x7f", grid, 5, at_once=1 if coder == "twin" else 1 << 9)
