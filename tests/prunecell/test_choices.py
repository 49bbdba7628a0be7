"""Names become values, and what is no name is refused with what is legal."""

import copy
import pickle
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import prunecell
import prunecell.plan.spec
from prunecell.allocation import ALLOCATIONS, AtLeast
from prunecell.checks import check_count, check_number, check_path, check_texts
from prunecell.choices import check_callable, chosen
from prunecell.codecs.modes import SharedValues
from prunecell.described import rebuilt
from prunecell.errors import OptionError, OptionTypeError, PrunecellError, UnknownNameError
from prunecell.fillers import FILLERS
from prunecell.granularity import GRANULARITIES, Slices
from prunecell.schedules import SCHEDULES, Clock, sparsity_at

TABLE = {"exact": 1, "fp16": 2, "int8": None}


@pytest.mark.parametrize("name", TABLE)
def test_a_name_gives_its_value(name):
    assert chosen("values", name, TABLE) is TABLE[name]


def test_the_nearest_name_is_offered():
    with pytest.raises(
        UnknownNameError, match=r"^values='fp17' is illegal; did you mean 'fp16'\? Legal: exact, fp16, int8$"
    ):
        chosen("values", "fp17", TABLE)


@pytest.mark.parametrize("value", [3, None, ["exact"], {}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(OptionTypeError, match=r"^values=.* is illegal: it must be a name; legal: exact, fp16, int8$"):
        chosen("values", value, TABLE)


def names():
    """What the calls in messages are written in."""
    public = {name: getattr(prunecell, name) for name in prunecell.__all__}
    modules = (prunecell.granularity, prunecell.schedules, prunecell.fillers, prunecell.allocation)
    ours = {name: value for module in modules for name, value in vars(module).items()}
    model = torch.nn.Linear(2, 2)
    parts = {"model": model, "optimizer": torch.optim.SGD(model.parameters()), "batches_of_epoch": lambda _: []}
    return {**public, **ours, **parts, "prunecell": prunecell, "Path": Path}


def classes():
    """All that users make by a call and that takes its values by name."""
    tables = (SCHEDULES, FILLERS, GRANULARITIES, ALLOCATIONS)
    found = [value for table in tables for value in table.values() if isinstance(value, type)]
    return [*found, prunecell.PruneSpec, prunecell.Task, prunecell.Checkpoint]


LARGE = {
    "matrix": torch.rand(50, 50),
    "vector": torch.rand(3),
    "parameter": torch.nn.Parameter(torch.rand(4, 4)),
    "array": np.ones((50, 50)),
    "list": list(range(100_000)),
    "list of tensors": [torch.rand(50, 50)],
    "list in a list": [[torch.rand(9, 9)]],
    "dict": {"weight": torch.rand(9, 9)},
    "text": "x" * 100_000,
}


def check_told(error):
    assert len(str(error)) < 900, "legal values are listed, and a few dozen characters of the given one"
    assert "tensor(" not in str(error)


@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("cls", [*classes(), prunecell.RateSpec, prunecell.IntSpec], ids=lambda cls: cls.__name__)
def test_a_large_value_is_taken_or_refused_in_few_words(cls, large):
    example = eval(cls.__example__, names())  # noqa: S307
    for field in fields(cls):
        try:
            cls(**{f.name: getattr(example, f.name) for f in fields(cls) if f.init} | {field.name: large})
        except PrunecellError as error:
            check_told(error)


REFUSING = {
    "chosen": lambda value: chosen("values", value, TABLE),
    "number": lambda value: check_number("lr", value, low=0),
    "count": lambda value: check_count("steps", value),
    "texts": lambda value: check_texts("names", [value, 3]),
    "path": lambda value: check_path("path", [value]),
    "callable": lambda value: check_callable("loss", [value], {}),
    "schedule": lambda value: sparsity_at(lambda _: value, Clock()),
    "description": lambda value: rebuilt({"type": value}, {}),
    "plan": lambda value: prunecell.Pruner(torch.nn.Linear(2, 2), [value]),
    "spec": lambda value: prunecell.Pruner(torch.nn.Linear(2, 2), {"weight": [value]}),
    "integers": lambda value: prunecell.Quantizer(torch.nn.Linear(2, 2), {"weight": [value]}),
}


@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("refuse", REFUSING.values(), ids=REFUSING)
def test_messages_show_a_large_value_in_few_words(refuse, large):
    with pytest.raises(PrunecellError) as caught:
        refuse(large)
    check_told(caught.value)


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_values_without_names_are_refused_with_a_call_that_is_right(cls):
    for values in ([0.9], [0.9, 1], [0.9, 1, 2, 3, 4, 5, 6, 7], [prunecell.Static(sparsity=0.5)], [(0,)]):
        with pytest.raises(OptionTypeError, match=f"^{cls.__name__} takes its values by name: ") as caught:
            cls(*values)
        call = str(caught.value).partition("by name: ")[2].removeprefix("for example ")
        eval(call, names())  # noqa: S307 - our own words


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_wrong_names_of_fields_are_refused_with_the_nearest(cls):
    with pytest.raises(OptionTypeError, match=f"^{cls.__name__} has no field 'strange'; .*for example {cls.__name__}"):
        cls(strange=1)
    first = [field.name for field in fields(cls) if field.init]
    if first and len(first[0]) > 4:
        with pytest.raises(OptionTypeError, match=rf"has no field '{first[0]}x'; did you mean '{first[0]}'\?"):
            cls(**{f"{first[0]}x": 1})


def test_what_is_missing_is_named():
    with pytest.raises(OptionTypeError, match=r"Cubic needs sparsity: for example Cubic\(sparsity=0\.9, epochs=1\)"):
        prunecell.Cubic(epochs=1)
    with pytest.raises(
        OptionError, match=r"exactly one of epochs, steps, samples .*: for example Cubic\(sparsity=0\.7,"
    ):
        prunecell.Cubic(sparsity=0.7)


def test_the_right_call_shows_what_was_given():
    with pytest.raises(OptionTypeError, match=r"by name: Cubic\(sparsity=0\.95, epochs=3\)$"):
        prunecell.Cubic(0.95, 3)
    with pytest.raises(OptionTypeError, match=r"by name: Cubic\(sparsity=0\.95, steps=3\)$"):
        prunecell.Cubic(0.95, steps=3)


def test_subclasses_copies_and_pickles_are_as_of_any_dataclass():
    @dataclass(frozen=True, kw_only=True)
    class Mine(prunecell.Static):
        more: int = 0

    schedule = Mine(sparsity=0.5, more=2)
    assert replace(schedule, more=3).more == 3
    for value in (prunecell.Static(sparsity=0.5), prunecell.Lowest(revives=True)):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value  # noqa: S301 - our own


S = prunecell.Static(sparsity=0.5)


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: prunecell.PruneSpec(schedule="cubic"), "Cubic(sparsity=0.9, epochs=1)"),
        (lambda: prunecell.PruneSpec(schedule="gradul"), "Gradual(sparsity=0.9)"),
        (lambda: prunecell.PruneSpec(schedule=S, allocation="global_magnitude"), "prunecell.allocation.global_ranking"),
        (lambda: prunecell.PruneSpec(schedule=S, allocation="Uniform"), "prunecell.allocation.uniform"),
        (lambda: prunecell.PruneSpec(schedule=S, filler="magnitude"), "Lowest(criterion=prunecell.criteria.magnitude)"),
        (lambda: prunecell.PruneSpec(schedule=S, filler="random"), "Random()"),
        (lambda: prunecell.Lowest(criterion="Taylor"), "prunecell.criteria.taylor"),
        (lambda: prunecell.Lowest(granularity="slice"), "Slices(dims=(0,))"),
        (lambda: prunecell.Lowest(granularity="Filters"), "prunecell.granularity.filters"),
        (lambda: prunecell.Lowest(granularity="head"), "Heads(n_heads=8)"),
        (lambda: prunecell.PruneSpec(schedule="moving"), "Moving(sparsity=0.9, every=100, steps=7500)"),
        (lambda: prunecell.PruneSpec(schedule=S, filler="rigl"), "RigL()"),
        (lambda: prunecell.PruneSpec(schedule=S, allocation="LAMP"), "prunecell.allocation.lamp"),
        (lambda: AtLeast(allocation="Lamp", density=0.1), "prunecell.allocation.lamp"),
    ],
)
def test_a_name_in_the_place_of_a_value_is_refused_with_the_value(make, meant):
    with pytest.raises(OptionTypeError, match=re.escape(f"not a name; did you mean {meant}? Legal: ")):
        make()
    assert eval(meant, names()) is not None  # noqa: S307 - our own words


@pytest.mark.parametrize(
    "make",
    [
        lambda: prunecell.PruneSpec(schedule=prunecell.Cubic),
        lambda: prunecell.PruneSpec(schedule=S, filler=prunecell.Lowest),
        lambda: prunecell.Lowest(granularity=Slices),
        lambda: prunecell.Lowest(criterion=prunecell.Lowest),
    ],
)
def test_a_class_in_the_place_of_a_value_is_refused(make):
    with pytest.raises(OptionTypeError, match=r"is illegal: .*(\(\)|=)"):
        make()


@pytest.mark.parametrize(
    ("given", "hint"), [(90, "; 90 % is 0.9"), (2, "; 2 % is 0.02"), (1.5, ""), (101, ""), (-1, "")]
)
def test_a_percentage_is_recognised(given, hint):
    for make in (prunecell.Static, lambda sparsity: prunecell.Gradual(sparsity=0.5, start=sparsity)):
        with pytest.raises(
            OptionError, match=re.escape(f"={given} is illegal: it must be a number in [0, 1]{hint}") + "$"
        ):
            make(sparsity=given)


@pytest.mark.parametrize("dims", [0, None, "0", {0}])
def test_dimensions_that_are_no_tuple_are_refused(dims):
    with pytest.raises(OptionTypeError, match="it must be a tuple of dimensions, such as"):
        Slices(dims=dims)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net: prunecell.tune(net, [], []),
            "tune takes its values by name: tune(model, train=train, validation=",
        ),
        (lambda net: prunecell.tune(net, [], max_drop=1), "tune(model, train=train, max_drop=1)"),
        (lambda net: prunecell.default_plan(net, 0.9, 3), "default_plan(model, sparsity=0.9, epochs=3)"),
        (
            lambda net: prunecell.default_plan(net, 0.9, 3, 4),
            "for example default_plan(model, sparsity=0.95, epochs=10)",
        ),
        (lambda net: prunecell.default_plan(net, 0.9, sparsity=3), "for example default_plan(model, sparsity=0.95"),
    ],
)
def test_a_function_that_takes_names_shows_the_call(call, message):
    with pytest.raises(OptionTypeError, match=re.escape(message)):
        call(prunecell.Static)


RANGES = {
    "IntSpec": (lambda bits: prunecell.IntSpec(bits=bits), 2),
    "share_": (lambda bits: prunecell.share_(torch.nn.Linear(4, 4), bits=bits), 1),
    "SharedValues": (lambda bits: SharedValues(bits=bits), 1),
}


@pytest.mark.parametrize("bits", [-1, 0, 9, 16, 1 << 70, 2.0, "8", True, None])
@pytest.mark.parametrize("taker", RANGES)
def test_a_count_out_of_a_range_is_told_by_the_whole_range(taker, bits):
    take, low = RANGES[taker]
    with pytest.raises((OptionError, OptionTypeError), match=rf"it must be a whole number in \[{low}, 8\]"):
        take(bits)
