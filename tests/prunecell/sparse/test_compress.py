"""What goes into a compressed matrix comes out of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecell.errors import OptionError, UnknownNameError
from prunecell.sparse.compress import CHUNK, Chunk, chunks_of, compress, count_quads
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.matrix import decompress


def sparse(*shape, density=0.3):
    return torch.randn(shape) * (torch.rand(shape) < density)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 8), (4, 257), (2, 1000), (7, 3, 3, 3)])
def test_fp32_comes_back_bit_for_bit(name, density, shape):
    weight = sparse(*shape, density=density)
    assert torch.equal(decompress(compress(weight, format=name)), weight.flatten(1))


@settings(max_examples=50)
@given(st.data())
def test_any_pattern_comes_back(data):
    n_columns = data.draw(st.integers(1, 600))
    kept = data.draw(st.lists(st.integers(0, 3 * n_columns - 1), max_size=40, unique=True))
    weight = torch.zeros(3 * n_columns)
    weight[kept] = torch.arange(1.0, len(kept) + 1)
    for name in FORMATS:
        assert torch.equal(decompress(compress(weight.view(3, -1), format=name)), weight.view(3, -1)), name


@pytest.mark.parametrize(("values", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("name", FORMATS)
def test_floats_are_rounded_as_torch_rounds(name, values, dtype):
    weight = sparse(5, 40)
    assert torch.equal(decompress(compress(weight, format=name, values=values)), weight.to(dtype).float())


def test_of_two_bfloats_as_near_the_even_one_is_taken_and_nan_and_infinity_stay():
    weight = torch.tensor([[1 + 2**-8, 1 + 3 * 2**-8, 1e-40, math.inf, -math.inf, math.nan]])
    values = compress(weight, values="bf16").values.float()
    expected = torch.tensor([1, 1 + 2**-6, weight[0, 2].bfloat16(), math.inf, -math.inf, math.nan])
    assert torch.equal(values[:-1], expected[:-1])
    assert values[-1].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FORMATS)
def test_exact_values_have_the_dtype_of_the_weight(name, dtype):
    weight = sparse(5, 40).to(dtype)
    matrix = compress(weight, format=name)
    assert matrix.values.dtype == dtype
    assert torch.equal(decompress(matrix), weight.float())


@pytest.mark.parametrize("name", FORMATS)
def test_int8_is_within_half_a_step_of_its_row(name):
    weight = sparse(6, 50) * torch.logspace(-3, 3, 6)[:, None]
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((decompress(compress(weight, format=name, values="int8")) - weight).abs() <= step * 0.5001).all()


def test_rows_of_zeros_are_no_trouble_for_int8():
    assert torch.equal(decompress(compress(torch.zeros(2, 5), values="int8")), torch.zeros(2, 5))


def test_a_weight_longer_than_a_chunk_is_one_matrix():
    weight = sparse(3, CHUNK, density=0.001)
    assert len(list(chunks_of(weight))) == 3
    assert torch.equal(decompress(compress(weight, format="gaps8")), weight)


def test_long_gaps_are_bridged():
    weight = torch.zeros(1, 1000)
    weight[0, [0, 256, 513, 999]] = 1.0  # skipping 255, 256, 485
    matrix = compress(weight, format="gaps8")
    assert matrix.indices.tolist() == [0, 255, 255, 0, 255, 229]
    assert matrix.values.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_negative_zero_is_a_zero():
    assert len(compress(torch.tensor([[-0.0, 1.0]])).values) == 1


def test_float64_is_read_as_float32():
    weight = sparse(4, 9).double()
    assert torch.equal(decompress(compress(weight)), weight.float())


def test_what_cannot_be_held_is_refused():
    with pytest.raises(OptionError, match=r"format='columns16' is illegal for 65537 columns: at most 65536"):
        compress(torch.zeros(1, 65537))
    with pytest.raises(OptionError, match=r"values='fp16' is illegal for a weight of 70000: at most 65504 fits"):
        compress(torch.tensor([[1.0, 70000.0]]), values="fp16")
    with pytest.raises(OptionError, match=r"values='bf16' is illegal for a weight of 3.40282e\+38: at most 3.38953e"):
        compress(torch.tensor([[1.0, torch.finfo(torch.float32).max]]), values="bf16")
    with pytest.raises(UnknownNameError, match="did you mean 'gaps8'"):
        compress(torch.zeros(1, 1), format="gap8")
    with pytest.raises(UnknownNameError, match="legal: bf16, exact, fp16, fp32, int8"):
        compress(torch.zeros(1, 1), values="fp8")


@pytest.mark.parametrize("shape", [(1, 1), (5, 4), (7, 6), (3, 257), (600, 500)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_quads_are_counted_whatever_chunks_they_come_in(shape, density):
    weight = torch.randn(shape) * (torch.rand(shape) < density)
    padded = torch.nn.functional.pad(weight, (0, -shape[1] % 4))
    expected = int(padded.unflatten(1, (-1, 4)).count_nonzero(2).gt(0).sum())
    assert count_quads(chunks_of(weight), shape[1]) == expected
    flat = [Chunk(positions=at, values=weight.flatten()[at]) for at in weight.flatten().nonzero()]
    assert shape[0] > 100 or count_quads(flat, shape[1]) == expected
