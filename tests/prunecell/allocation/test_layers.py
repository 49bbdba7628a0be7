"""What each layer gets: ERK and LAMP beside slow twins, given sparsities, and minimum densities."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunecell import Cubic, Lowest, Pruner, PruneSpec, Static, global_ranking, uniform
from prunecell.allocation import AtLeast, PerLayer, erk, lamp
from prunecell.allocation.shares import apportioned
from prunecell.bits.mask import Mask
from prunecell.described import shown
from prunecell.errors import OptionError, OptionTypeError, PlanError
from prunecell.evidence import Evidence
from prunecell.fillers import exact_count
from prunecell.granularity import filters

SHAPES = [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def evidences(shapes=SHAPES, seed=0, **changed):
    draw = torch.Generator().manual_seed(seed)
    weights = {f"{i}.weight": torch.randn(shape, generator=draw) for i, shape in enumerate(shapes)}
    weights |= changed
    return [
        Evidence(name=name, weight=w, mask=Mask.full(w.shape), generator=torch.Generator(), rank=Lowest().rank)
        for name, w in weights.items()
    ]


def counts(found, shares):
    return [exact_count(share, e.weight.numel()) for e, share in zip(found, shares, strict=True)]


def slow_erk(shapes, sparsity):
    """The densities, by halving the interval in which the factor lies."""
    sizes, ratios = [math.prod(s) for s in shapes], [sum(s) / math.prod(s) for s in shapes]
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        n_kept = sum(size * min(1, middle * ratio) for size, ratio in zip(sizes, ratios, strict=True))
        low, high = (low, middle) if n_kept > sum(sizes) * (1 - sparsity) else (middle, high)
    return [min(1, low * ratio) for ratio in ratios]


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.97, 0.999])
def test_erk_is_its_formula(sparsity):
    found = evidences()
    densities = [1 - share for share in erk(found, sparsity)]
    sizes = [e.weight.numel() for e in found]
    expected = slow_erk(SHAPES, sparsity)
    assert all(abs(d - e) <= 1.01 / n for d, e, n in zip(densities, expected, sizes, strict=True))


def slow_lamp(weight):
    """|weights| -> scores, each by its definition."""
    return [w * w / sum(v * v for v in weight if v >= w) for w in weight]


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.9, 0.96])
def test_lamp_takes_the_lowest_scores_of_its_definition(sparsity):
    found = evidences([(6, 5), (10, 10), (3, 7)])
    scored = [(s, i) for i, e in enumerate(found) for s in slow_lamp(e.weight.abs().double().flatten().tolist())]
    lowest = [i for _, i in sorted(scored)[: exact_count(sparsity, len(scored))]]
    assert counts(found, lamp(found, sparsity)) == [lowest.count(i) for i in range(3)]


def test_lamp_keeps_one_weight_of_each_layer_as_long_as_others_have_more():
    found = evidences([(4, 4), (30, 30)], seed=1)
    found[0].weight.mul_(1e-20)
    assert counts(found, lamp(found, 0.997)) == [15, 899]
    assert counts(found, global_ranking(found, 0.5)) == [16, 442]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_lamp_takes_zeros_first_and_what_is_not_finite_last(dtype):
    weights = {
        "zeros": torch.zeros(5, 4),
        "huge": torch.full((4, 5), torch.finfo(dtype).max, dtype=dtype),
        "odd": torch.tensor([[math.nan, math.inf, 1.0, 0.0]]),
        "empty": torch.zeros(0, 3),
    }
    found = evidences([], **{name: w.to(dtype) for name, w in weights.items()})
    assert counts(found, lamp(found, 21 / 44)) == [20, 0, 1, 0]
    assert counts(found, lamp(found, 40 / 44)) == [20, 19, 1, 0]
    assert counts(found, lamp(found, 1.0)) == [20, 20, 4, 0]


def test_weights_of_several_dtypes_share_one_budget():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, dtype=torch.float64))
    for allocation in (lamp, erk, AtLeast(allocation=lamp, density=0.1)):
        pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.7), allocation=allocation))
        assert sum(int((~mask).sum()) for mask in pruner.masks.values()) == exact_count(0.7, 128)
        pruner.finalize()


# ---- given by hand ---------------------------------------------------------------------------------------------------

GIVEN = PerLayer(sparsities={"0.*": 0.0, "re:[12]\\.weight": 0.8, "*": 0.97})


def test_each_layer_gets_its_own_sparsity_at_their_total():
    found = evidences()
    total = GIVEN.total({e.name: e.weight.numel() for e in found})
    shares = GIVEN(found, total)
    wanted = [0.0, 0.8, 0.8, 0.97, 0.97]
    assert all(abs(s - w) <= 1 / e.weight.numel() for s, w, e in zip(shares, wanted, found, strict=True))


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.7, 0.95])
def test_at_another_total_densities_are_powers_of_the_given_ones(sparsity):
    found = evidences()
    shares = GIVEN(found, sparsity)
    assert sum(counts(found, shares)) == exact_count(sparsity, sum(e.weight.numel() for e in found))
    assert shares[0] == 0
    if sparsity:
        powers = [math.log1p(-s) / math.log1p(-g) for s, g in zip(shares[2:], [0.8, 0.97, 0.97], strict=True)]
        assert powers == pytest.approx([powers[0]] * 3, rel=0.05)


@pytest.mark.parametrize("tiny", [5e-324, 1e-17, 1e-9])
def test_the_smallest_sparsities_are_powers_too(tiny):
    for sparsities in ({"*": tiny}, {"0.*": 0.0, "*": tiny}, {"0.*": tiny, "*": 0.9}):
        found = evidences()
        shares = PerLayer(sparsities=sparsities)(found, 0.5)
        assert sum(counts(found, shares)) == exact_count(0.5, sum(e.weight.numel() for e in found))


def test_a_schedule_reaches_what_is_given_in_the_end():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20), nn.Linear(20, 10))
    given = PerLayer(sparsities={"0.weight": 0.9, "2.*": 0.3, "*": 0.5})
    total = given.total({name: p.numel() for name, p in model.named_parameters() if p.ndim == 2})
    pruner = Pruner(model, PruneSpec(schedule=Cubic(sparsity=total, steps=5, n_updates=5), allocation=given))
    for _ in range(5):
        pruner.step(1)
    assert [w.n_weights - w.n_kept for w in pruner.report().weights] == [1080, 300, 60]


@pytest.mark.parametrize(
    ("sparsities", "message"),
    [
        ({"0.*": 0.5}, r"no pattern of PerLayer fits 1\.weight, 2\.weight: add '\*' and a sparsity for the rest"),
        (
            {"0.wieght": 0.5, "*": 0.1},
            r"sparsities\['0\.wieght'\] of PerLayer fits no weight .* did you mean '0\.weight'",
        ),
        ({"0.bias": 0.5, "*": 0.1}, r"sparsities\['0\.bias'\] of PerLayer fits no weight under this spec"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: AtLeast(allocation=a, density=0.01)])
def test_patterns_that_do_not_fit_are_refused_before_anything_is_pruned(sparsities, message, wrap):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(PlanError, match=message):
        Pruner(model, PruneSpec(schedule=Static(sparsity=0.3), allocation=wrap(PerLayer(sparsities=sparsities))))
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    ("sparsities", "kind", "message"),
    [
        ({"*": 1}, OptionError, r"sparsities\['\*'\]=1 is illegal: it must be a number in \[0, 1\), below 1"),
        ({"*": 90}, OptionError, r"sparsities\['\*'\]=90 is illegal: .*; 90 % is 0\.9"),
        ({"*": "0.5"}, OptionTypeError, r"sparsities\['\*'\]='0\.5' is illegal"),
        (0.5, OptionTypeError, r"sparsities=0\.5 is illegal: it must be a mapping from names or patterns"),
        ({1: 0.5}, OptionTypeError, "it must be a mapping from names or patterns"),
        ("ab", OptionTypeError, "it must be a mapping from names or patterns"),
        ({"re:(": 0.5}, PlanError, r"pattern 're:\(' is no regular expression"),
    ],
)
def test_illegal_sparsities_are_refused_by_name(sparsities, kind, message):
    with pytest.raises(kind, match=message):
        PerLayer(sparsities=sparsities)


def test_more_than_the_given_can_prune_is_refused():
    with pytest.raises(
        OptionError, match=r"sparsity=0\.9999 is illegal: PerLayer keeps 150 of 61,470 weights dense, so it"
    ):
        GIVEN(evidences(), 0.9999)


# ---- a minimum density -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [global_ranking, lamp, erk, PerLayer(sparsities={"2.*": 0.999, "*": 0.5})], ids=shown)
@pytest.mark.parametrize("density", [0.0, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_no_layer_falls_below_its_density_and_the_total_stays_exact(inner, density, sparsity):
    found = evidences(seed=3)
    found[3].weight.mul_(1e-3)
    shares = AtLeast(allocation=inner, density=density)(found, sparsity)
    pruned = counts(found, shares)
    assert sum(pruned) == exact_count(sparsity, sum(e.weight.numel() for e in found))
    for count, e in zip(pruned, found, strict=True):
        assert e.weight.numel() - count >= density * e.weight.numel()


def test_what_is_within_its_density_is_left_as_the_allocation_says():
    found = evidences()
    assert AtLeast(allocation=lamp, density=0.001)(found, 0.9) == lamp(found, 0.9)


def test_groups_are_kept_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 30))
    model[0].weight.data *= 0.01
    spec = PruneSpec(
        schedule=Static(sparsity=0.6),
        filler=Lowest(granularity=filters),
        allocation=AtLeast(allocation=global_ranking, density=0.25),
    )
    pruner = Pruner(model, spec)
    kept = [int(mask.any(1).sum()) for mask in pruner.masks.values()]
    assert kept == [3, 14]


def test_more_than_the_densities_leave_is_refused():
    keeping = AtLeast(allocation=uniform, density=0.1)
    with pytest.raises(
        OptionError, match=r"sparsity=0\.95 is illegal: AtLeast\(.*density=0\.1\) can prune 0\.9 at most"
    ):
        keeping(evidences([(10, 10)]), 0.95)
    for density in (-0.1, 1.1, math.nan):
        with pytest.raises(OptionError, match=f"density={density} is illegal"):
            AtLeast(allocation=lamp, density=density)


@settings(max_examples=40)
@given(data=st.data(), sizes=st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_whole_numbers_sum_to_the_budget_and_stay_within_the_sizes(data, sizes):
    total = data.draw(st.integers(0, sum(sizes)))
    fractions = [data.draw(st.floats(0, 1)) for _ in sizes]
    scale = total / max(sum(f * s for f, s in zip(fractions, sizes, strict=True)), 1e-9)
    wanted = [min(scale, 1) * f * s for f, s in zip(fractions, sizes, strict=True)]
    found = apportioned(wanted, sizes, total) if sum(map(int, wanted)) <= total else None
    if found is not None:
        assert sum(found) == total
        assert all(0 <= count <= size for count, size in zip(found, sizes, strict=True))
