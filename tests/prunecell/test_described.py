"""Specs as data: equal where they do the same, different where they do not, alike in every process."""

import copy
import functools
import json
import subprocess
import sys
from operator import itemgetter
from pathlib import Path

import pytest
import torch

from prunecell import Cubic, Gradual, IterNonStruct, KeepZeros, Lowest, PruneSpec, Random, Static, global_ranking
from prunecell.allocation import AtLeast, PerLayer, erk, lamp
from prunecell.criteria import CRITERIA, taylor
from prunecell.described import described, shown
from prunecell.errors import StateError, UnknownNameError
from prunecell.fillers import SET, NofM, RigL
from prunecell.granularity import Blocks, Heads, Slices, kernels
from prunecell.schedules import Exponential, Iterative, Moving, OneCycle

SPECS = [
    PruneSpec(schedule=Static(sparsity=0.9)),
    PruneSpec(schedule=Gradual(sparsity=0.9, every_samples=3), filler=Random(), seed=3),
    PruneSpec(schedule=Cubic(sparsity=0.9, steps=5), filler=IterNonStruct(delta=0.1), allocation=global_ranking),
    PruneSpec(schedule=Static(sparsity=0), filler=KeepZeros()),
    PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor, granularity=Slices(dims=(0, 1)))),
    PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(granularity=Blocks(rows=2), revives=True)),
    PruneSpec(schedule=Exponential(sparsity=0.9, steps=5), filler=NofM(m=8, criterion=taylor), allocation=lamp),
    PruneSpec(schedule=OneCycle(sparsity=0.9, epochs=5), filler=Lowest(granularity=Heads(n_heads=2)), allocation=erk),
    PruneSpec(schedule=Iterative(sparsity=0.9, samples=5), filler=Lowest(granularity=kernels)),
    PruneSpec(schedule=Moving(sparsity=0.9, steps=50, every=2), filler=RigL(fraction=0.2)),
    PruneSpec(schedule=Static(sparsity=0.9), filler=SET(), allocation=AtLeast(allocation=lamp, density=0.1)),
    PruneSpec(schedule=Static(sparsity=0.9), allocation=PerLayer(sparsities={"a*": 0.5, "*": 0.75})),
    *(
        PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=one() if isinstance(one, type) else one))
        for one in CRITERIA.values()
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_a_spec_of_ours_comes_back_from_its_data(spec):
    data = spec.to_data()
    assert json.loads(json.dumps(data)) == data
    assert PruneSpec.from_data(json.loads(json.dumps(data))) == spec


def test_specs_that_differ_are_described_differently():
    unlike = {json.dumps(spec.to_data(), sort_keys=True) for spec in SPECS}
    assert len(unlike) == len(set(SPECS))


class Filler:
    """A callable object that is no dataclass."""

    def __init__(self, power):
        self.power = power

    def __call__(self, evidence, _):
        return evidence.weight.abs() ** self.power > 0.1


def make(power):
    return lambda evidence, _: evidence.weight.abs() ** power > 0.1


def test_lambdas_and_objects_are_known_by_what_they_do():
    one, two, other = (lambda e, _: e.weight > 0), (lambda e, _: e.weight > 0), (lambda e, _: e.weight > 1)
    assert described(one) == described(two) != described(other)
    assert described(make(2)) == described(make(2)) != described(make(3))
    assert described(Filler(2)) == described(Filler(2)) != described(Filler(3))
    assert described(functools.partial(make, 2)) != described(functools.partial(make, 3))
    assert described(torch.tensor([1.0])) == described(torch.tensor([1.0])) != described(torch.tensor([2.0]))
    assert "0x" not in json.dumps([described(Filler(2)), described(make(2)), described(Filler(2).__call__)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1, 2}, {3}),
        (frozenset({1}), frozenset({2})),
        (b"a", b"b"),
        (Path("a"), Path("b")),
        (range(3), range(4)),
        (1 + 2j, 2j),
        (itemgetter(1), itemgetter(2)),
        ({1: 2}.get, {1: 3}.get),
        (len, max),
        (lambda e, *, k=1: k, lambda e, *, k=2: k),  # noqa: ARG005
    ],
)
def test_what_has_no_attributes_is_told_apart_too(one, other):
    assert described(one) == described(copy.deepcopy(one)) != described(other)
    json.dumps(described(one))


OTHERS = """
import json
from prunecell import Lowest, PruneSpec, Static
SPEC = PruneSpec(schedule=lambda clock: clock in {0.5, "a", "b", "c"}, filler=Lowest())
def told(): return json.dumps([SPEC.to_data(), described({"a", "b", "c", 1.5})])
"""


def test_a_description_is_the_same_in_another_process():
    """Whose hashes differ, and with them the order of its sets."""
    here = {"__name__": "__main__", "described": described}
    exec(OTHERS, here)  # noqa: S102 - our own words
    code = f"from prunecell.described import described{OTHERS}print(told())"
    command, seed = [sys.executable, "-c", code], {"PYTHONHASHSEED": "1"}
    there = subprocess.run(command, check=True, capture_output=True, text=True, env=seed)
    assert there.stdout == here["told"]() + "\n"


def test_what_is_not_ours_cannot_be_made_from_data():
    data = PruneSpec(schedule=Static(sparsity=0.5), filler=Filler(2)).to_data()
    with pytest.raises(UnknownNameError, match=r"Filler' cannot be made again from its description"):
        PruneSpec.from_data(data)
    with pytest.raises(StateError, match="version=9 of a spec is unknown"):
        PruneSpec.from_data({**data, "version": 9})
    data = SPECS[0].to_data()
    data["schedule"]["fields"]["speed"] = 3
    with pytest.raises(StateError, match=r"Static: the fields do not fit: .*speed"):
        PruneSpec.from_data(data)
    with pytest.raises(StateError, match="the fields of the spec do not fit"):
        PruneSpec.from_data({**SPECS[0].to_data(), "colour": 1})


def test_what_is_shown_is_what_an_author_would_write():
    assert shown(SPECS[2]) == (
        "PruneSpec(schedule=Cubic(sparsity=0.9, steps=5), filler=IterNonStruct(delta=0.1), allocation=global_ranking)"
    )
    assert repr(SPECS[4].filler) == "Lowest(criterion=taylor, granularity=Slices(dims=(0, 1)))"


def test_what_holds_itself_is_described_too():
    loop = Filler(2)
    loop.me = loop
    assert described(loop)["attributes"]["power"] == 2
