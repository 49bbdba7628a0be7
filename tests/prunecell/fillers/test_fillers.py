import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell import IterNonStruct, Lowest, NofM, Random
from prunecell.bits.mask import Mask
from prunecell.errors import OptionError, OptionTypeError
from prunecell.evidence import Evidence
from prunecell.fillers import FILLERS, SET, RigL, exact_count, float32_count, keep_all

DATA = Path(__file__).parents[2] / "data"
EXAMPLES = [*(kind() for kind in FILLERS.values() if isinstance(kind, type)), IterNonStruct(delta=0.1)]
RANDOM_OR_BOUND = (Random, SET, RigL, NofM)
SPARSITIES = [0.0, 0.01, 0.1, 0.3, 0.5, 0.77, 0.9, 0.999, 1.0]


def evidence(weight, mask=None, seed=0):
    return Evidence(
        name="weight",
        weight=weight,
        mask=mask or Mask.full(weight.shape),
        generator=torch.Generator().manual_seed(seed),
    )


def can_prune(filler, shape, sparsity):
    """NofM prunes half of what four divides."""
    return not isinstance(filler, NofM) or (len(shape) > 1 and shape[1] % 4 == 0 and sparsity <= 0.5)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("filler", EXAMPLES, ids=repr)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (4, 3, 5, 5), (2, 8, 3), (333, 100)])
def test_laws_that_hold_for_every_filler(filler, shape):
    weight = normal(*shape)
    before = weight.clone()
    for sparsity in [s for s in SPARSITIES if can_prune(filler, shape, s)]:
        mask = filler(evidence(weight), sparsity)
        assert mask.shape == weight.shape
        assert mask.n_pruned / weight.numel() >= np.float32(sparsity) - 1e-7
        assert mask.equals(filler(evidence(weight), sparsity))
        assert sparsity > 0 or mask.n_pruned == 0
        assert sparsity < 1 or mask.n_kept == 0
    assert torch.equal(weight, before)


@pytest.mark.parametrize("filler", [f for f in EXAMPLES if not isinstance(f, RANDOM_OR_BOUND)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_pruned_is_never_larger_than_what_is_kept(filler, dtype):
    weight = normal(50, 20, dtype=dtype)
    keep = filler(evidence(weight), 0.6).to_bool()
    assert weight[~keep].abs().max() <= weight[keep].abs().min()


@given(sparsity=st.floats(0, 1), n=st.integers(1, 5000))
def test_the_exact_count_is_the_smallest_that_is_enough(sparsity, n):
    m = exact_count(sparsity, n)
    assert 0 <= m <= n
    assert m / n >= sparsity
    assert m == 0 or (m - 1) / n < sparsity


@given(n=st.integers(1, 3000), data=st.data())
def test_every_count_can_be_asked_for(n, data):
    m = data.draw(st.integers(0, n))
    assert exact_count(m / n, n) == m
    assert float32_count(m / n, n) == m


def test_the_float32_count_is_not_a_float64_ceil():
    assert float32_count(0.07, 100) == 7
    assert math.ceil(0.07 * 100) == 8


def test_magnitude_prunes_exactly_with_ties():
    weight = torch.ones(10, 10)
    keep = Lowest()(evidence(weight), 0.35).to_bool().view(-1)
    assert keep.tolist() == [False] * 35 + [True] * 65


def test_magnitude_takes_nan_and_inf_last():
    weight = torch.tensor([math.nan, math.inf, -math.inf, 1e30, 0.0])
    assert Lowest()(evidence(weight), 0.4).to_bool().tolist() == [True, True, True, False, False]
    assert Lowest()(evidence(weight), 1.0).n_kept == 0


def test_iter_non_struct_never_prunes_nan_and_inf():
    weight = torch.tensor([math.nan, math.inf, -math.inf, 1e30, 0.0])
    assert IterNonStruct()(evidence(weight), 1.0).to_bool().tolist() == [True, True, True, False, False]


def golden_tensors():
    with np.load(DATA / "iter_nonstruct.npz") as golden:
        return [name.removeprefix("w__") for name in golden if name.startswith("w__")]


@pytest.mark.parametrize("name", golden_tensors())
def test_iter_non_struct_prunes_what_n2d2_prunes(name):
    with np.load(DATA / "iter_nonstruct.npz") as golden:
        weight = torch.tensor(golden[f"w__{name}"])
        for i, threshold in enumerate(golden["thresholds"]):
            for j, delta in enumerate(golden["deltas"]):
                mask = IterNonStruct(delta=float(delta))(evidence(weight), float(threshold))
                expected = torch.tensor(golden[f"mask__{name}"][i, j]).bool()
                assert torch.equal(mask.to_bool(), expected), (threshold, delta)


@given(
    values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40),
    delta=st.sampled_from([0.05, 0.1, 0.25, 0.3]),
    sparsity=st.floats(0.125, 1, width=32),
)
def test_the_closed_form_equals_the_search_it_replaces(values, delta, sparsity):
    weight = np.array(values, np.float32)
    k = 1
    while np.float32((abs(weight) <= np.float32(delta) * np.float32(k)).sum()) / np.float32(len(weight)) < sparsity:
        k += 1
    expected = abs(weight) > np.float32(delta) * np.float32(k)
    mask = IterNonStruct(delta=delta)(evidence(torch.tensor(weight)), sparsity)
    assert mask.to_bool().tolist() == expected.tolist()


def test_a_tiny_delta_is_exact_and_fast():
    weight = normal(100, 100)
    mask = IterNonStruct(delta=1e-30)(evidence(weight), 0.9)
    assert mask.n_pruned == 9000


def test_random_counts_are_those_of_n2d2():
    with np.load(DATA / "random_filler.npz") as golden:
        for size, zeros in zip(golden["count__sizes"], golden["count__zeros"], strict=True):
            weight = normal(int(size))
            counts = [Random()(evidence(weight), float(t)).n_pruned for t in golden["count__thresholds"]]
            assert counts == zeros.tolist()


def test_random_counts_from_a_mask_with_zeros_are_those_of_n2d2():
    with np.load(DATA / "random_filler.npz") as golden:
        for before, zeros in zip(golden["pre__nb_zero_before"], golden["pre__zeros_after"], strict=True):
            old = torch.arange(int(golden["pre__size"])) >= int(before)
            for threshold, after in zip(golden["count__thresholds"], zeros, strict=True):
                mask = Random()(evidence(normal(len(old)), Mask.from_bool(old)), float(threshold))
                assert mask.n_pruned == after
                assert not mask.to_bool()[~old].any()


def test_random_takes_exact_zeros_first():
    weight = normal(100)
    weight[:50] = 0
    assert not Random()(evidence(weight), 0.9).to_bool()[:50].any()
    assert Random()(evidence(weight), 0.9).n_pruned == 90
    few = Random()(evidence(weight), 0.2).to_bool()
    assert few[50:].all()
    assert int((~few).sum()) == 20


def test_random_is_uniform_over_the_weights():
    weight = torch.ones(40)
    hits = sum(1 - Random()(evidence(weight, seed=s), 0.25).to_bool().float() for s in range(800))
    # 200 expected for each, standard deviation 12
    assert 140 < hits.min() < hits.max() < 260


def test_random_differs_between_seeds():
    weight = normal(1000)
    assert not Random()(evidence(weight, seed=1), 0.5).equals(Random()(evidence(weight, seed=2), 0.5))


def test_keep_all_prunes_nothing():
    assert keep_all(evidence(torch.zeros(3)), 1.0).n_pruned == 0


@pytest.mark.parametrize("delta", [0, -1, math.nan, math.inf])
def test_an_illegal_delta_is_refused_by_name(delta):
    with pytest.raises(OptionError, match=rf"delta={delta} is illegal: it must be a finite number > 0"):
        IterNonStruct(delta=delta)


def test_a_delta_of_the_wrong_type_is_refused_by_name():
    with pytest.raises(OptionTypeError, match="delta='x' is illegal"):
        IterNonStruct(delta="x")
