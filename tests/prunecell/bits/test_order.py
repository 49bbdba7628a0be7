"""Keys of magnitudes and of random draws, with the compiled kernels of every level and with their torch twins."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell.bits.mask import Mask
from prunecell.bits.order import LARGEST_DRAW, Draws, Magnitudes, Scores, key_at_most, keys, value_of_key
from prunecell.errors import OptionError, OptionTypeError

pytestmark = pytest.mark.usefixtures("level")


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=60))
def test_keys_order_as_magnitudes_do(values):
    weight = torch.tensor(values)
    order = keys(weight).argsort()
    magnitudes = weight.abs()[order].nan_to_num(nan=math.inf)
    assert bool((magnitudes.diff().nan_to_num(nan=0) >= 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32, torch.int8, torch.bool])
def test_keys_of_scores_order_as_the_scores_do(dtype):
    special = [0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 1e-45, -1e-45]
    scores = torch.randn(500).mul(100)
    scores = (torch.cat([scores, torch.tensor(special)]) if dtype.is_floating_point else scores).to(dtype)
    keys_of_scores = Scores(scores).chunk(0, len(scores))
    assert keys_of_scores.dtype == torch.int64
    assert keys_of_scores.min() >= 0
    a, b = scores.double().unsqueeze(0), scores.double().unsqueeze(1)
    lower = ~a.isnan() & (b.isnan() | (a < b))
    assert torch.equal(keys_of_scores.unsqueeze(0) < keys_of_scores.unsqueeze(1), lower)
    index = torch.randperm(len(scores))
    assert torch.equal(Scores(scores).at(index), keys_of_scores[index])


def test_scores_of_64_bits_are_ordered_but_for_the_last_bit():
    scores = torch.tensor(
        [-1e300, -1.0, -1e-300, -0.0, 0.0, 1e-300, 1.0, 1 + 2**-50, math.inf, math.nan], dtype=torch.float64
    )
    ordered = Scores(scores).chunk(0, 10)
    assert ordered[3] == ordered[4]
    assert bool((ordered.diff() > 0).sum() == 8)
    assert bool((ordered >= 0).all())
    whole = torch.tensor([-(2**63), -2, 0, 2, 2**63 - 1])
    assert bool((Scores(whole).chunk(0, 5).diff() > 0).all())
    assert bool((Scores(whole).chunk(0, 5) >= 0).all())


def test_complex_scores_are_refused():
    with pytest.raises(OptionTypeError, match=r"scores of dtype torch\.complex64 are illegal"):
        Scores(torch.zeros(3, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1.0, 65519.0, 1e39, math.inf])
def test_key_at_most_is_the_last_number_not_above(dtype, value):
    key = key_at_most(value, dtype)
    assert value_of_key(key, dtype) <= value
    assert math.isfinite(value_of_key(key, dtype))
    assert not value_of_key(key + 1, dtype) <= min(value, torch.finfo(dtype).max)


@pytest.mark.parametrize("weight", [torch.arange(3), torch.zeros(2, dtype=torch.complex64)])
def test_what_has_no_magnitudes_is_refused(weight):
    for make in (keys, Magnitudes):
        with pytest.raises(OptionTypeError, match=f"weight of dtype {weight.dtype} is illegal"):
            make(weight)


def draws(n, seed=0):
    return Draws(torch.ones(n), Mask.full(torch.Size([n])), seed)


def test_draws_are_the_same_on_every_machine():
    assert draws(4).chunk(0, 4).tolist() == [536870913, 994003206, 914272780, 691874397]
    assert draws(4, seed=(1 << 62) - 1).chunk(0, 4).tolist() == [608235731, 762482420, 1046836668, 877545428]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.complex64])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 1000])
def test_what_is_pruned_comes_first_then_zeros_then_the_rest(dtype, n):
    torch.manual_seed(n)
    weight = torch.randn(n).to(dtype)
    weight[: n // 3] = 0
    weight[: n // 6] *= -1
    keep = torch.arange(n) % 4 != 0
    drawn = Draws(weight, Mask.from_bool(keep), 12345)
    got, plain = drawn.chunk(0, n), draws(n, 12345).chunk(0, n) - LARGEST_DRAW
    assert got.dtype == torch.int32
    assert torch.equal(got, (plain + (weight != 0) * LARGEST_DRAW) * keep)
    index = torch.randperm(n)
    assert torch.equal(drawn.at(index), got[index])


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(OptionError, match=r"mask of shape \(8,\) is illegal: the weight's is \(9,\)"):
        Draws(torch.ones(9), Mask.full(torch.Size([8])), 0)


def test_a_chunk_is_what_it_is_within_the_whole():
    whole = draws(5000, 7)
    assert torch.equal(whole.chunk(1024, 4999), whole.chunk(0, 5000)[1024:4999])


def test_draws_are_uniform():
    drawn = draws(1 << 16, 3).chunk(0, 1 << 16) - LARGEST_DRAW
    assert drawn.min() >= 1
    assert drawn.max() <= LARGEST_DRAW
    counts = torch.histc((drawn - 1).double(), bins=256, min=0, max=LARGEST_DRAW)
    chi_squared = float(((counts - 256) ** 2 / 256).sum())
    assert 160 < chi_squared < 370  # 255 expected, standard deviation 22.6


def test_draws_of_other_seeds_and_of_neighbouring_weights_are_unrelated():
    n = 1 << 16
    seeds = (0, 1, 2, 1 << 31, 1 << 32, 1 << 33, (1 << 32) + 1, 987654321 << 30)
    of_seeds = [draws(n, seed).chunk(0, n).double() for seed in seeds]
    of_neighbours = [of_seeds[0].roll(shift) for shift in (0, 1, 2, 3, 64, 256, 1024)]
    for drawn in (of_seeds, of_neighbours):
        correlation = torch.corrcoef(torch.stack(drawn))
        assert (correlation - torch.eye(len(drawn))).abs().max() < 5 / math.sqrt(n)
