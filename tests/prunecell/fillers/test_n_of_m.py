"""N of M: a slow twin, exact counts on the way, and what it refuses."""

import itertools

import pytest
import torch

from prunecell import Cubic, NofM, Pruner, PruneSpec, Static, global_ranking
from prunecell.bits.mask import Mask
from prunecell.criteria import random, taylor
from prunecell.errors import OptionError, OptionTypeError
from prunecell.evidence import Evidence, Needs
from prunecell.fillers import exact_count

CASES = [(2, 4, 1, (6, 8)), (1, 4, 0, (8, 3)), (3, 5, 2, (2, 3, 10)), (7, 8, 1, (4, 8, 3, 3)), (1, 2, 0, (6,))]


WIDE = {"resnet": "conv1.*", "mlp": "0.weight", "transformer": "*.linear1.weight", "lstm": "lstm.weight_*"}


def evidence(weight, mask=None):
    return Evidence(
        name="fc.weight",
        weight=weight,
        mask=mask or Mask.full(weight.shape),
        generator=torch.Generator().manual_seed(0),
    )


def slow_twin(weight, n, m, dim, sparsity):
    """Group by group, weight by weight; ties by index in C order."""
    flat, may_go = weight.abs().flatten().tolist(), []
    index = torch.arange(len(flat)).view(weight.shape).movedim(dim, -1).reshape(-1, m)
    for group in index.tolist():
        may_go += sorted(group, key=lambda i: (flat[i], i))[: m - n]
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[sorted(may_go, key=lambda i: (flat[i], i))[: exact_count(sparsity, len(flat))]] = False
    return keep.view(weight.shape)


@pytest.mark.parametrize(("n", "m", "dim", "shape"), CASES)
@pytest.mark.parametrize("values", ["normal", "ties", "zeros"])
def test_it_prunes_what_its_slow_twin_prunes(n, m, dim, shape, values):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weight = {"normal": weight, "ties": (weight * 2).round(), "zeros": weight * 0}[values]
    for sparsity in (0, 0.05, 0.125, (m - n) / m / 2, (m - n) / m):
        if sparsity > (m - n) / m:
            continue
        mask = NofM(n=n, m=m, dim=dim)(evidence(weight), sparsity).to_bool()
        assert torch.equal(mask, slow_twin(weight, n, m, dim, sparsity))
        kept = mask.movedim(dim, -1).reshape(-1, m).sum(1)
        assert kept.min() >= n
        assert sparsity < (m - n) / m or kept.max() == n


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_is_exact_and_nan_stays(dtype):
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    weight[:, 3] = torch.nan
    keep = NofM()(evidence(weight), 0.5).to_bool()
    assert keep[:, 3].all()
    assert torch.equal(keep.view(-1, 4).sum(1), torch.full((16,), 2))


def test_a_schedule_that_rises_ends_with_n_of_m_and_prunes_nothing_twice(task):
    solver = torch.optim.Adam(task.model.parameters(), lr=0.01)
    spec = PruneSpec(schedule=Cubic(sparsity=0.5, steps=6), filler=NofM(n=2, m=4))
    pruner = Pruner(task.model, {WIDE[task.name]: spec}, optimizer=solver)
    before = pruner.masks
    for _ in range(8):
        task.train(solver, pruner, steps=1)
        for name, mask in pruner.masks.items():
            assert not (mask & ~before[name]).any()
            assert int((~mask).sum()) == exact_count(pruner.target_sparsity(name), mask.numel())
        before = pruner.masks
    for mask in before.values():
        assert (mask.movedim(1, -1).reshape(-1, 4).sum(1) == 2).all()


def test_a_global_budget_never_breaks_the_groups():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4))
    model[0].weight.data *= 100
    for sparsity in (0.3, 0.5):
        spec = PruneSpec(schedule=Static(sparsity=sparsity), filler=NofM(), allocation=global_ranking)
        pruner = Pruner(model, spec)
        assert sum(int((~mask).sum()) for mask in pruner.masks.values()) == exact_count(sparsity, 192)
        assert all(mask.view(-1, 4).sum(1).min() >= 2 for mask in pruner.masks.values())
        pruner.finalize()


def test_other_criteria_decide_within_the_groups_too():
    weight, gradient = torch.ones(2, 4), torch.tensor([[1.0, 4, 2, 3], [4, 3, 2, 1]])
    found = Evidence(
        name="w",
        weight=weight,
        mask=Mask.full(weight.shape),
        generator=torch.Generator(),
        collected={Needs.GRADIENT: gradient},
    )
    filler = NofM(criterion=taylor)
    assert filler.traits.needs == Needs.GRADIENT
    assert filler(found, 0.5).to_bool().int().tolist() == [[0, 1, 0, 1], [1, 1, 0, 0]]
    drawn = NofM(criterion=random)(evidence(torch.randn(40, 8)), 0.5).to_bool().view(-1, 4)
    assert len({tuple(row) for row in drawn.tolist()}) == len([*itertools.combinations(range(4), 2)])


@pytest.mark.parametrize(
    ("filler", "shape", "sparsity", "message"),
    [
        (
            NofM(),
            (4, 6),
            0.5,
            r"2 of 4 is illegal for fc\.weight of shape \(4, 6\): 4 does not divide 6, its size in dim",
        ),
        (NofM(), (8,), 0.5, r"dim=1 is illegal for fc\.weight of shape \(8,\)"),
        (NofM(), (4, 8), 0.51, r"sparsity=0\.51 of fc\.weight is illegal: 2 of 4 can prune 0\.5 at most"),
        (NofM(n=7, m=8), (4, 8), 0.2, r"sparsity=0\.2 of fc\.weight is illegal: 7 of 8 can prune 0\.125 at most"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name(filler, shape, sparsity, message):
    with pytest.raises(OptionError, match=message):
        filler(evidence(torch.randn(shape)), sparsity)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n": 4}, OptionError, r"n=4 is illegal: it must be a whole number in \[1, 3\], below m"),
        ({"n": 0}, OptionError, "n=0 is illegal"),
        ({"m": 1, "n": 1}, OptionError, "m=1 is illegal"),
        ({"dim": -1}, OptionError, "dim=-1 is illegal"),
        ({"n": 1.5}, OptionTypeError, r"n=1\.5 is illegal"),
        ({"criterion": "taylor"}, OptionTypeError, "criterion='taylor' is illegal: it must be callable"),
    ],
)
def test_illegal_options_are_refused_by_name(options, kind, message):
    with pytest.raises(kind, match=message):
        NofM(**options)
