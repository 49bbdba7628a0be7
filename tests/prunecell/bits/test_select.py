"""Selection, with the compiled kernels of every level and with their torch twins."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell.bits import mask as masks
from prunecell.bits import select
from prunecell.bits.mask import Mask
from prunecell.bits.order import Draws, Magnitudes, keys

pytestmark = pytest.mark.usefixtures("level")

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2]
floats = st.lists(st.floats(width=32), min_size=1, max_size=200)


def expected_cut(every, m):
    key = int(every.sort().values[m - 1])
    return select.Cut(key, int((every < key).sum()))


def expected_mask(every, m):
    """The plain way: a stable sort."""
    keep = torch.ones(len(every), dtype=torch.bool)
    keep[every.sort(stable=True).indices[:m]] = False
    return keep


def pruned(weight, m):
    return pruned_at(weight, select.smallest([weight], m), m)


def pruned_at(weight, cut, m):
    return select.prune_up_to(weight, cut, m - cut.n_below).to_bool().view(-1)


@given(values=floats, dtype=st.sampled_from(DTYPES), data=st.data())
def test_the_smallest_m_are_pruned_ties_by_index(values, dtype, data):
    weight = torch.tensor(values).to(dtype)
    m = data.draw(st.integers(1, len(values)))
    assert select.smallest([Magnitudes(weight)], m) == expected_cut(keys(weight), m)
    assert torch.equal(pruned(Magnitudes(weight), m), expected_mask(keys(weight), m))


def test_ties_go_by_index():
    weight = Magnitudes(torch.tensor([1.0, -1.0, 0.5, 1.0]))
    assert pruned(weight, 3).tolist() == [False, False, False, True]


def _normal(n):
    return torch.randn(n, generator=torch.Generator().manual_seed(n))


def _not_finite(n):
    at = torch.arange(n) % 3
    return _normal(n).where(at > 0, math.nan).where(at > 1, math.inf)


KINDS = {
    "normal": _normal,
    "half of it zero": lambda n: _normal(n) * (torch.arange(n) % 2),
    "few values": lambda n: (_normal(n) * 2).round(),
    "all the same": lambda n: torch.full((n,), 0.5),
    "all zero": torch.zeros,
    "with NaN and inf": _not_finite,
    "sorted": lambda n: _normal(n).sort().values,
}


@functools.cache
def _sorted(kind, n, dtype):
    """The same at every level, and sorting takes longer than selecting."""
    weight = KINDS[kind](n).to(dtype)
    return weight, keys(weight).sort(stable=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensors_select_as_a_sort_would(kind, dtype):
    n = 2 * masks.CHUNK + 77
    weight, order = _sorted(kind, n, dtype)
    for m in (1, n // 3, int(0.9 * n), n - 1):
        keep = torch.ones(n, dtype=torch.bool)
        keep[order.indices[:m]] = False
        cut = select.smallest([Magnitudes(weight)], m)
        assert cut.key == int(order.values[m - 1])
        assert torch.equal(pruned_at(Magnitudes(weight), cut, m), keep)


@pytest.mark.parametrize("kind", KINDS)
def test_several_tensors_share_the_m_smallest(kind):
    parts = [KINDS[kind](n) * scale for n, scale in ((70_000, 1), (3, 1), (0, 1), (90_001, 3), (1, 0))]
    every = torch.cat([keys(part) for part in parts])
    for m in (1, 1000, 100_000, len(every)):
        assert select.smallest([Magnitudes(p) for p in parts], m) == expected_cut(every, m)
        of_each = expected_mask(every, m).logical_not().split([len(p) for p in parts])
        assert select.shares([Magnitudes(p) for p in parts], m) == [int(chosen.sum()) for chosen in of_each]


def test_a_sample_that_misleads_costs_time_only(monkeypatch):
    weight = torch.randn(100_000)
    every = keys(weight)
    for wrong in (0, int(every.max())):
        monkeypatch.setattr(select, "_sample", lambda *_, wrong=wrong: torch.full((5000,), wrong).numpy())
        for m in (1, 50_000, 100_000):
            assert select.smallest([Magnitudes(weight)], m) == expected_cut(every, m)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_before_spares_a_pass_and_changes_nothing(kind, monkeypatch):
    parts = [KINDS[kind](n) for n in (70_000, 90_001)]
    known = [Magnitudes(part) for part in parts]
    shares = select.shares(known, 120_000)
    for part, weight, m in zip(parts, known, shares, strict=True):
        expected = select.smallest([Magnitudes(part)], m)
        with monkeypatch.context() as patch:
            patch.setattr(select, "_census", None)
            assert select.smallest([weight], m) == expected
        for other in (1, m // 2 + 1, len(part)):
            assert select.smallest([weight], other) == select.smallest([Magnitudes(part)], other)


def test_other_strides_go_by_the_order_of_the_indices():
    weight = torch.randn(30, 20).t()
    assert torch.equal(pruned(Magnitudes(weight), 200), expected_mask(keys(weight.contiguous().view(-1)), 200))


@pytest.mark.parametrize("n", [1, 63, 65, masks.CHUNK + 3])
def test_no_bit_is_written_beyond_the_last_weight(n):
    mask = select.prune_up_to(Magnitudes(torch.ones(n)), select.Cut(0, 0), 0)
    assert mask.equals(Mask.full(torch.Size([n])))


def test_a_random_choice_is_a_selection_of_drawn_keys():
    n = 3 * masks.CHUNK
    weight = torch.ones(n)
    weight[: n // 10] = 0
    old = Mask.from_bool(torch.arange(n) % 5 > 0)
    draws = Draws(weight, old, 99)
    every = draws.chunk(0, n)
    for m in (old.n_pruned, n // 4, n // 2, n):
        keep = pruned(draws, m)
        assert torch.equal(keep, expected_mask(every, m))
        assert not keep[~old.to_bool()].any()
