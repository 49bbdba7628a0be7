"""Integers are found in the floats that were made of them, whatever the step, the dtype and the mode."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunecell import IntSpec, Quantizer
from prunecell.codecs.decode import decode
from prunecell.codecs.dtypes import ELEMENT_TYPES, element_type, words_of
from prunecell.codecs.encode import Scaled, encode
from prunecell.codecs.integers import book_in, few_of, integers_in
from prunecell.codecs.modes import VALUE_MODES
from prunecell.codecs.records import IntegerRecord
from prunecell.codecs.steps import steps_of
from prunecell.codecs.streams import InMemory

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def found_in(tensor):
    words = words_of(tensor)
    return integers_in(words, few_of(words), element_type(tensor.dtype), tuple(tensor.shape))


def book_of(tensor):
    words = words_of(tensor)
    return book_in(words, few_of(words), element_type(tensor.dtype), words.nbytes + 1)


def numbers_of(tensor):
    """The integers of a tensor as one row, and their step; None if there is none."""
    found = steps_of(words_of(tensor).reshape(1, -1), element_type(tensor.dtype))
    return None if found is None else (found[1][0].tolist(), found[0][0])


def made(numbers, step, dtype):
    """A step times integers, in float32 and then cast."""
    return (torch.tensor(numbers, dtype=torch.float32) * torch.tensor(step, dtype=torch.float32)).to(dtype) + 0.0


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    numbers=st.lists(st.integers(-100, 100), min_size=1, max_size=60),
    step=st.floats(0.0009765625, 10, width=32),
    least=st.integers(1, 64),
)
def test_a_step_is_found_again(numbers, step, least, dtype):
    numbers = [least, *(number for number in numbers if abs(number) >= least or number == 0)]
    tensor = made(numbers, step, dtype)
    again = numbers_of(tensor)
    assert again is not None
    assert words_of(made(*again, dtype)).tolist() == words_of(tensor).tolist()
    assert max(map(abs, again[0])) <= max(map(abs, numbers))  # the step may be a multiple


def test_the_smallest_integers_are_found():
    for numbers in ([1, -2, 3], [2, 3, -5], [7, 64, -9], [0, 0, 63, 64, 65]):
        assert numbers_of(made(numbers, 0.0123, torch.float32))[0] == numbers


@pytest.mark.parametrize("odd", [-0.0, math.inf, math.nan, 0.1234567])
def test_what_is_no_integer_times_the_step_is_none(odd):
    tensor = torch.cat([made([1, 2, -3, 0], 0.1, torch.float32), torch.tensor([odd])])
    assert found_in(tensor) is None
    assert numbers_of(tensor) is None
    assert book_of(tensor).meaning == "book"


def test_random_weights_are_no_integers():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        for shape in ((300, 20), (4, 40), (50, 2), (60,)):
            assert found_in(torch.randn(shape, dtype=torch.float64).to(dtype)) is None


def test_a_book_counts_from_zero():
    tensor = torch.tensor([0.0, 3.0, -0.5, 0.1, -7.0, math.inf, -0.0])
    book = book_of(tensor)
    assert book.numbers.tolist() == [0, 2, -2, 1, -3, 3, -1]
    assert (book.n_before, len(book.prefix)) == (3, 6)


CASES = {
    "a step": made([[1, 0, -2], [0, 3, 0]] * 40, 0.037, torch.float32),
    "one row": made([[1, 0, -2, 4, 0, 3] * 40], 0.037, torch.float32),
    "large integers": made([[1, 0, -2000], [0, 300, 0]] * 40, 0.037, torch.float32),
    "half": made([[1, 0, -2], [0, 3, 0]] * 40, 0.037, torch.float16),
    "brain": made([[1, 0, -2], [0, 3, 0]] * 40, 0.037, torch.bfloat16),
    "double": made([[1, 0, -2], [0, 3, 0]] * 40, 0.037, torch.float64),
    "a vector": made([1, 0, -2, 0, 0, 3] * 40, 0.037, torch.float32),
    "a number": torch.tensor(0.3),
    "all the same": torch.full((30, 40), 0.3),
    "a book": torch.tensor([0.0, 0.3, -1.1, 2.7])[torch.arange(1200) * 7919 % 101 % 4].reshape(40, 30),
    "a book with NaN": torch.tensor([0.0, 0.3, math.nan, -0.0])[torch.arange(1200) * 7919 % 101 % 4].reshape(40, 30),
    "a volume": made([1, 0, -2, 0, 0, 3] * 40, 0.037, torch.float32).reshape(4, 3, 2, 2, 5),
    "not contiguous": made([[1, 0, -2], [0, 3, 0]] * 40, 0.037, torch.float32).T,
}


def stored(tensor, before=None):
    """The smallest way to store it as integers; the tensor that comes back must be the same to the bit."""
    encoded = encode(tensor, before=before or {})
    above = (before or {}).get(getattr(encoded.record, "above", None), np.empty(0, np.uint8))
    back = decode(encoded.record, InMemory(memoryview(b"".join(encoded.blob))), above)
    wanted = tensor
    if isinstance(tensor, Scaled):
        rows = tensor.scales.reshape(-1, *[1] * (tensor.integers.dim() - 1))
        wanted = (tensor.integers.float() * rows).to(tensor.dtype)
    assert (back.dtype, back.shape) == (wanted.dtype, wanted.shape)
    assert words_of(back).tolist() == words_of(wanted).tolist()
    return encoded.record


def prefer_integers(monkeypatch):
    """Let integers under contexts be chosen wherever there are any."""
    monkeypatch.setattr("prunecell.codecs.encode._WORTH", 100.0)
    monkeypatch.setattr("prunecell.codecs.encode._WORTH_OF_FEW", 100.0)


@pytest.mark.parametrize("name", CASES)
def test_integers_come_back_to_the_bit(name, monkeypatch):
    stored(CASES[name])
    prefer_integers(monkeypatch)
    assert isinstance(stored(CASES[name]), IntegerRecord)


@pytest.mark.parametrize("name", ELEMENT_TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (40,), (7, 9), (3, 0, 2), (4, 3, 5, 5)])
def test_every_dtype_and_shape_comes_back_as_integers(name, shape, monkeypatch):
    prefer_integers(monkeypatch)
    kind, n = ELEMENT_TYPES[name], math.prod(shape)
    words = np.arange(n * kind.words) * 7919 % 101 % 3 % 2
    tensor = torch.empty(shape, dtype=kind.torch)
    if n:
        tensor = torch.from_numpy(words.astype(kind.word).view(np.uint8).copy()).view(kind.torch).reshape(shape)
    record = stored(tensor)
    assert isinstance(record, IntegerRecord) == (kind.words == 1 and bool(words.any()))


@pytest.mark.parametrize("mode", VALUE_MODES)
def test_every_mode_comes_back_as_integers(mode, monkeypatch):
    prefer_integers(monkeypatch)
    torch.manual_seed(0)
    weight = torch.where(torch.rand(12, 30) < 0.3, torch.randn(12, 30), 0.0)
    record = stored(VALUE_MODES[mode]("w", weight))
    assert mode == "bf16" or isinstance(record, IntegerRecord)
    if mode == "int8":
        assert (record.meaning, record.stored.name, record.is_scaled) == ("steps", "int8", True)


def test_a_step_for_each_row_is_found():
    numbers = torch.arange(1200) * 7919 % 101 % 5 - 2
    weight = (numbers.reshape(30, 40) * (torch.arange(30.0) + 2).sqrt()[:, None]) + 0.0
    weight[3] = 0.0
    found = found_in(weight)
    assert found.meaning == "steps"
    assert found.prefix[3] == 0
    assert (found.numbers.reshape(30, 40)[4] == numbers.reshape(30, 40)[4].numpy()).all()
    assert len({float(s) for s in found.prefix}) == 30


SHAPES = [(300, 2), (1, 2), (64, 3), (100, 8), (500, 16), (90, 32), (16, 1, 3, 3), (12, 400), (40, 6, 1, 1), (300,)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_learned_integers_are_found_again(shape, bits, dtype):
    """A row of less than 8 bytes is not worth a step; it may be found with others under one."""
    torch.manual_seed(sum(shape) + bits)
    layer = nn.Module()
    layer.weight = nn.Parameter(
        (torch.randn(shape) * torch.rand(shape[0]).reshape(-1, *[1] * (len(shape) - 1))).to(dtype)
    )
    Quantizer(layer, {"weight": IntSpec(bits=bits)}).finalize()
    weight = layer.weight.detach()
    found = found_in(weight)
    if len(shape) > 1 and weight[0].numel() * weight.itemsize < 8:
        assert found is None or found.meaning == "step"
    else:
        assert found.stored.name == "int8"
        assert np.abs(found.numbers).max() < 1 << bits - 1 or found.meaning == "step"
    stored(weight)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    numbers=st.lists(st.integers(-127, 127), min_size=1, max_size=40).filter(any),
    step=st.floats(0.0009765625, 10, width=32),
)
def test_small_integers_of_any_kind_are_found(numbers, step, dtype):
    tensor = made(numbers, step, dtype)
    again = numbers_of(tensor)
    assert again is not None
    assert max(map(abs, again[0])) <= 127
    assert words_of(made(*again, dtype)).tolist() == words_of(tensor).tolist()


def test_rows_are_found_wherever_their_zeros_are():
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.integers(-9, 10, (700, 300)) * (rng.random((700, 300)) < 0.03)).float()
    numbers[5:20] = 0.0
    weight = numbers * (torch.arange(700.0) + 2).sqrt()[:, None] + 0.0
    found = found_in(weight)
    assert found.meaning == "steps"
    rows = torch.from_numpy(found.numbers.reshape(700, 300)).float() * torch.from_numpy(found.prefix)[:, None]
    assert rows.equal(weight)


def test_dense_integers_with_steps_are_small_bytes_which_are_read_fast():
    torch.manual_seed(0)
    numbers = torch.randn(600, 400).mul(30).round().clamp(-127, 127)
    record = stored(numbers * (torch.arange(600.0) + 2).sqrt()[:, None] + 0.0)
    assert (record.stored.name, record.positions, record.values) == ("int8", "all", "planes")
    assert record.n_bytes < 600 * 400 + 4 * 600


def test_pictures_and_the_tensor_above_are_used_where_they_help():
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-14:14, -14:14]) < 8
    first = torch.from_numpy((rng.random((50, 784)) < 0.3) * disc.reshape(-1) * rng.choice([-1.0, 1.0], (50, 784)))
    record = stored(first.float())
    assert (record.side, record.above) == (28, None)
    alive = rng.random(200) < 0.2
    second = torch.from_numpy((rng.random((30, 200)) < 0.4) * alive * 1.0).float()
    record = stored(second, {"other": np.array([1, 0, 1], np.uint8), "first": alive.astype(np.uint8)})
    assert record.above == "first"
    assert stored(second).n_bytes > record.n_bytes + 10


def test_a_large_tensor_is_judged_by_some_of_its_rows(monkeypatch):
    monkeypatch.setattr("prunecell.codecs.encode_integers._TRIED", 1000)
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.choice([-1.0, 1.0, 2.0], (100, 64)) * (rng.random((100, 64)) < 0.1)).float()
    assert isinstance(stored(numbers * 0.3 + 0.0), IntegerRecord)
    noise = torch.from_numpy(rng.integers(0, 256, (100, 64)).astype(np.uint8))
    assert not isinstance(stored(noise), IntegerRecord)


def test_a_step_is_looked_for_among_the_largest_and_smallest_numbers():
    for numbers in ([3.4028235e38, 1.0], [3.4028235e38], [1.4e-45, 3.4028235e38], [-1.4e-45, 2.8e-45]):
        tensor = torch.tensor(numbers)
        found = found_in(tensor)
        assert found is None or isinstance(found.numbers, np.ndarray)
