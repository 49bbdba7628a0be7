import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell import select
from prunecell.errors import OptionTypeError

floats = st.lists(st.floats(width=32), min_size=1, max_size=60)


@given(values=floats)
def test_keys_order_as_magnitudes_do(values):
    weight = torch.tensor(values)
    order = select.keys(weight).argsort()
    magnitudes = weight.abs()[order].nan_to_num(nan=math.inf)
    assert bool((magnitudes.diff().nan_to_num(nan=0) >= 0).all())


@given(values=floats, data=st.data())
def test_the_smallest_m_are_found_whatever_the_path(values, data):
    weight = torch.tensor(values)
    m = data.draw(st.integers(1, len(values)))
    expected = int(select.keys(weight).sort().values[m - 1])
    cut = select.smallest([weight], m)
    assert cut.key == expected
    assert cut.n_below == int((select.keys(weight) < expected).sum())
    assert select._smallest_bracketed([weight], m, len(values)) == cut
    mask = select.prune_up_to(weight, cut, m - cut.n_below)
    assert mask.n_pruned == m


@pytest.mark.parametrize("m", [1, 2, 150_000, 269_999, 299_999, 300_000])
@pytest.mark.parametrize("ties", [False, True])
def test_large_tensors_select_as_a_sort_would(m, ties):
    torch.manual_seed(0)
    parts = [torch.randn(100_000), torch.randn(200, 500), torch.randn(100_000) * 3]
    if ties:
        parts = [(p * 4).round() for p in parts]
    every = torch.cat([select.keys(p.view(-1)) for p in parts])
    expected = int(every.sort().values[m - 1])
    cut = select.smallest(parts, m)
    assert cut == select.Cut(expected, int((every < expected).sum()))
    counts = [select.count_to(p, cut.key) for p in parts]
    assert sum(below for below, _ in counts) == cut.n_below


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1.0, 65519.0, 1e39, math.inf])
def test_key_at_most_is_the_last_number_not_above(dtype, value):
    key = select.key_at_most(value, dtype)
    assert select.value_of_key(key, dtype) <= value
    assert math.isfinite(select.value_of_key(key, dtype))
    assert not select.value_of_key(key + 1, dtype) <= min(value, torch.finfo(dtype).max)


def test_ties_go_by_index():
    weight = torch.tensor([1.0, -1.0, 0.5, 1.0])
    cut = select.smallest([weight], 3)
    assert select.prune_up_to(weight, cut, 3 - cut.n_below).to_bool().tolist() == [False, False, False, True]


def test_integers_are_refused():
    with pytest.raises(OptionTypeError, match=r"torch\.int64"):
        select.keys(torch.arange(3))
