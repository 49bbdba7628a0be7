"""Laws over every criterion of the table, with every granularity."""

from dataclasses import replace

import pytest
import torch

from prunecell.bits.mask import Mask
from prunecell.bits.order import Keys, Scores
from prunecell.criteria import CRITERIA, keys_of, needs, needs_of
from prunecell.errors import OptionError, OptionTypeError
from prunecell.evidence import Evidence, Needs
from prunecell.fillers import Lowest
from prunecell.granularity import GRANULARITIES, Slices

SHAPE = (12, 8, 2, 2)
MADE = {name: value() if isinstance(value, type) else value for name, value in CRITERIA.items()}
SPARSITIES = (0.0, 0.01, 0.3, 0.5, 0.9, 1.0)


def evidence(criterion, shape=SHAPE, seed=0, **given):
    """All that the criterion needs, and nothing else."""
    draw = torch.Generator().manual_seed(seed)
    known = {
        Needs.GRADIENT: torch.randn(shape, generator=draw),
        Needs.SQUARED_GRADIENT: torch.rand(shape, generator=draw),
        Needs.INPUTS: torch.rand(shape[1], generator=draw).view(1, -1, *[1] * (len(shape) - 2)),
        Needs.MOVEMENT: torch.randn(shape, generator=draw),
        Needs.GRADIENT_SAMPLES: torch.randn((5, *shape), generator=draw),
        Needs.NORM_SCALE: torch.rand(shape[0], generator=draw).view(-1, *[1] * (len(shape) - 1)),
        Needs.HESSIAN_GRADIENT: torch.randn(shape, generator=draw),
        Needs.SYNAPTIC_FLOW: torch.rand(shape, generator=draw, dtype=torch.float64),
    }
    assert set(known) == set(Needs)
    weight = given.pop("weight", torch.randn(shape, generator=draw))
    return Evidence(
        name="weight",
        weight=weight,
        mask=Mask.full(weight.shape),
        generator=torch.Generator().manual_seed(seed),
        collected={need: value for need, value in known.items() if need in needs_of(criterion)},
        **given,
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", CRITERIA)
def test_laws_that_hold_for_every_criterion(name, granularity):
    made = GRANULARITIES[granularity]
    if isinstance(made, type):
        made = made(**({"n_heads": 12} if granularity == "Heads" else {}))
    filler = Lowest(criterion=MADE[name], granularity=made)
    sizes = set()
    for sparsity in SPARSITIES:
        found = evidence(MADE[name])
        before = found.weight.clone()
        mask = filler(found, sparsity)
        assert mask.shape == SHAPE
        assert sparsity <= mask.n_pruned / mask.shape.numel() < sparsity + 1 / 8
        assert mask.equals(filler(evidence(MADE[name]), sparsity)), "the same evidence, the same mask"
        assert torch.equal(found.weight, before)
        sizes.add(found.ranked(filler.rank).group_size)
    assert len(sizes) == 1
    assert mask.n_kept == 0


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_pruned_stays_pruned_and_other_groups_go_by_their_scores(name, granularity):
    """From a mask of single weights, some groups of which are whole; zeros that are alive do not take their places."""
    made = GRANULARITIES[granularity]
    if isinstance(made, type):
        made = made(**({"n_heads": 12} if granularity == "Heads" else {}))
    draw = torch.Generator().manual_seed(1)
    groups = made.group(Scores(torch.rand(SHAPE, generator=draw)))
    some_groups = Mask.from_bool(torch.rand(groups.shape, generator=draw) > 0.2)
    keep = made.spread(some_groups, torch.Size(SHAPE)).to_bool() & (torch.rand(SHAPE, generator=draw) > 0.3)
    weight = torch.randn(SHAPE, generator=draw) * keep * (torch.rand(SHAPE, generator=draw) > 0.3)

    def of_groups(values):
        return made.group(Scores(values)).scores().double()

    def found():
        return replace(evidence(MADE[name], weight=weight), mask=Mask.from_bool(keep))

    scores = made.group(keys_of(MADE[name], found())).scores()
    for sparsity in (0.5, 0.7, 0.9):
        filled = Lowest(criterion=MADE[name], granularity=made, revives=False)(found(), sparsity).to_bool()
        before, after = of_groups(keep.double()) > 0, of_groups(filled.double()) > 0
        assert not (after & ~before).any()
        newly = before & ~after
        assert newly.any()
        assert not after.any() or scores[newly].max() <= scores[after].min()


@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_pruned_never_scores_above_what_is_kept(name):
    found = evidence(MADE[name])
    keys = keys_of(MADE[name], found)
    every = keys.chunk(0, found.weight.numel()) & torch.iinfo(keys.dtype).max
    keep = Lowest(criterion=MADE[name])(evidence(MADE[name]), 0.4).to_bool().view(-1)
    assert every[~keep].max() <= every[keep].min()


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_gives_keys_or_real_scores_of_the_weights_shape(name):
    scores = MADE[name](evidence(MADE[name]))
    assert scores.shape == SHAPE
    assert isinstance(scores, torch.Tensor) or all(hasattr(scores, member) for member in Keys.__annotations__)


@pytest.mark.parametrize("name", [name for name, criterion in MADE.items() if needs_of(criterion)])
def test_what_was_not_collected_is_named(name):
    found = evidence(lambda _: None)
    with pytest.raises(OptionError, match=r"of 'weight' was not collected: the criterion must declare that need"):
        MADE[name](found)


@needs(Needs.GRADIENT | Needs.INPUTS)
def everything(evidence):
    return evidence.weight + evidence.gradient + evidence.input_norms


def test_needs_are_declared_by_functions_and_by_values():
    class Value:
        needs = Needs.INPUTS

        def __call__(self, evidence):
            return evidence.weight

    assert needs_of(everything) == Needs.GRADIENT | Needs.INPUTS
    assert needs_of(Value()) == Needs.INPUTS
    assert needs_of(lambda e: e.weight) == Needs.NOTHING
    assert Lowest(criterion=everything).traits.needs == Needs.GRADIENT | Needs.INPUTS


@pytest.mark.parametrize("scores", [None, torch.ones(3), torch.ones(SHAPE, dtype=torch.complex64)])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(OptionTypeError, match=r"the criterion returned .* for weight: it must be a real tensor"):
        Lowest(criterion=lambda _: scores)(evidence(lambda _: None), 0.5)


def test_a_criterion_that_cannot_be_called_is_refused():
    with pytest.raises(OptionTypeError, match="criterion='magnitude' is illegal: it must be callable"):
        Lowest(criterion="magnitude")


def test_scores_of_any_sign_are_ordered_by_value_not_by_magnitude():
    weight = torch.tensor([[3.0, -4.0, 1.0, -0.5]])
    keep = Lowest(criterion=lambda e: e.weight)(evidence(lambda _: None, weight=weight), 0.5).to_bool()
    assert keep.tolist() == [[True, False, True, False]]


def test_integer_scores_are_exact():
    big = torch.tensor([[(1 << 24) + 1, 1 << 24, -5, -6]], dtype=torch.int32)
    keep = Lowest(criterion=lambda _: big)(evidence(lambda _: None, weight=torch.ones(1, 4)), 0.75).to_bool()
    assert keep.tolist() == [[True, False, False, False]]


def test_filters_of_the_lowest_mean_magnitude_go():
    weight = torch.arange(1.0, 25.0).view(4, 3, 2, 1)[torch.tensor([2, 0, 3, 1])]
    keep = Lowest(granularity=Slices(dims=(0,)))(evidence(lambda _: None, weight=weight), 0.5).to_bool()
    assert keep.flatten(1).all(1).tolist() == [True, False, True, False]
    assert keep.flatten(1).any(1).tolist() == [True, False, True, False]
