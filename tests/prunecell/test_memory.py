"""Parameters in one memory: refused by all that writes to weights, before anything is changed."""

import copy
import itertools
import math
import re

import pytest
import torch
from torch import nn

from prunecell import (
    Gradual,
    IntSpec,
    Pruner,
    PruneSpec,
    Quantizer,
    RateSpec,
    Static,
    share_,
)
from prunecell.errors import OptionError, StateError
from prunecell.graph import chains_of, fold_batchnorm_, remove_dead_, sort_units_
from prunecell.memory import check_ties, flat, laid_out_as, overlapping, shares_within
from prunecell.structured import RemoveSpec, remove_

X = torch.zeros(4, 8)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


def _flat(n, starts):
    """A net whose matrices, given by their numbers, are parts of one buffer."""
    model, buffer = net(), torch.randn(n)
    for number, start in starts.items():
        model[number].weight = nn.Parameter(buffer[start : start + 64].view(8, 8))
    return model


def _the_data_of_another():
    model = net()
    model[3].weight = nn.Parameter(model[0].weight.data)
    return model


def _transposed():
    model = net()
    model[3].weight.data = model[0].weight.data.t()
    return model


def _a_row_as_bias():
    model = net()
    model[3].bias = nn.Parameter(model[0].weight.data[2])
    return model


def _a_column_as_bias():
    model = net()
    model[0].bias = nn.Parameter(model[3].weight.data[:, 1])
    return model


def _expanded():
    model = net()
    model[0].weight = nn.Parameter(torch.randn(1, 8).expand(8, 8))
    return model


def _windows():
    model = net()
    model[0].weight = nn.Parameter(torch.randn(15).unfold(0, 8, 1))
    return model


def _windows_that_miss_one():
    model = net()
    model[0].weight = nn.Parameter(torch.randn(64).as_strided((8, 8), (7, 2)))
    return model


def _columns_of_one():
    model, both = net(), torch.randn(8, 16)
    model[0].weight, model[3].weight = nn.Parameter(both[:, :8]), nn.Parameter(both[:, 8:])
    return model


def _every_second_of_one():
    model, both = net(), torch.randn(8, 8, 2)
    model[0].weight, model[3].weight = nn.Parameter(both[..., 0]), nn.Parameter(both[..., 1])
    return model


def _tied():
    model = net()
    model[3].weight = model[0].weight
    return model


TOGETHER = {
    "the data of another": _the_data_of_another,
    "transposed": _transposed,
    "a row as bias": _a_row_as_bias,
    "a column as bias": _a_column_as_bias,
    "expanded": _expanded,
    "windows": _windows,
    "windows that miss one": _windows_that_miss_one,
    "parts that overlap by one": lambda: _flat(127, {0: 0, 3: 63}),
    "a large one across two": lambda: _flat(256, {0: 0, 3: 32, 5: 64}),
}
APART = {
    "parts of one buffer": lambda: _flat(192, {0: 0, 3: 64, 5: 128}),
    "columns of one": _columns_of_one,
    "every second of one": _every_second_of_one,
    "tied": _tied,
}
WRITERS = {
    "Pruner": lambda model: Pruner(model, PruneSpec(schedule=Static(sparsity=0.5))),
    "Pruner later": lambda model: Pruner(
        model, PruneSpec(schedule=Gradual(sparsity=0.5, start=0, gamma=0.1, every_samples=9))
    ),
    "RateSpec": lambda model: Quantizer(model, RateSpec(lam=1e-3, steps=5)),
    "IntSpec": lambda model: Quantizer(model, IntSpec(bits=4)),
    "share_": lambda model: share_(model, bits=2),
    "remove_": lambda model: remove_(model, RemoveSpec(sparsity=0.5), X),
}
REFUSED = r"^'\S+' and '\S+' are different tensors in the same memory|^the elements of '0.weight' share memory"


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("case", TOGETHER)
def test_weights_in_one_memory_are_refused_before_anything_is_changed(case, writer):
    model = TOGETHER[case]()
    before = state_of(model)
    with pytest.raises(OptionError, match=REFUSED):
        WRITERS[writer](model)
    assert same(state_of(model), before)
    assert not any(getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in model.parameters())


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "remove_"])
@pytest.mark.parametrize("case", APART)
def test_parts_of_one_memory_are_written_to_as_weights_of_their_own(case, writer):
    model = APART[case]()
    own = copy.deepcopy(model)
    for tied, parameter in own.named_parameters():
        parameter.data = model.get_parameter(tied).detach().clone()
    WRITERS[writer](model)
    WRITERS[writer](own)
    assert same(state_of(model), state_of(own))


@pytest.mark.parametrize("case", [name for name in APART if name != "tied"])
def test_parts_of_one_memory_become_smaller(case):
    model = APART[case]()
    remove_(model, RemoveSpec(sparsity=0.5), X)
    assert (model[0].out_features, model[3].in_features, model[3].out_features, model[5].in_features) == (4, 4, 4, 4)


@pytest.mark.parametrize("change", [sort_units_, remove_dead_, fold_batchnorm_])
@pytest.mark.parametrize("case", TOGETHER)
def test_layers_in_one_memory_are_left_by_what_knows_the_graph(case, change):
    model = TOGETHER[case]().eval()
    x = torch.randn(4, 8)
    before = model(x)
    change(model, example=X)
    assert torch.allclose(model(x), before, atol=1e-6)


def in_chains(model):
    """The layers whose units may move, or be read by moved ones."""
    layers = chains_of(model, X).layers
    return [module for layer in layers for module in (layer.module, *(reading.module for reading in layer.readings))]


def test_layers_that_lie_apart_are_in_chains():
    model = net()
    assert {id(module) for module in in_chains(model)} == {id(model[0]), id(model[3]), id(model[5])}


@pytest.mark.parametrize("case", TOGETHER)
def test_no_layer_in_one_memory_with_another_is_in_a_chain(case):
    model = TOGETHER[case]()
    shared = overlapping(model.parameters())
    assert shared
    parameters = [parameter for module in in_chains(model) for parameter in module.parameters()]
    assert not any(id(parameter) in shared for parameter in parameters)


def test_the_message_names_both_and_what_is_right():
    with pytest.raises(OptionError, match=re.escape("'0.weight' and '3.weight' are different tensors")):
        WRITERS["Pruner"](_the_data_of_another())
    with pytest.raises(OptionError, match=re.escape("'3.weight' and '0.bias' are different tensors")):
        WRITERS["share_"](_a_column_as_bias())


def test_what_the_plan_leaves_alone_may_lie_in_one_memory():
    model = _the_data_of_another()
    assert Pruner(model, {"5.weight": PruneSpec(schedule=Static(sparsity=0.5))}).sparsity == 0.5


def slow(tensors):
    """Which of some views of one buffer overlap, with others or within: by the numbers of their elements."""
    places = [set(index.flatten().tolist()) for index in tensors]
    within = {i for i, (index, place) in enumerate(zip(tensors, places, strict=True)) if len(place) < index.numel()}
    return within | {i for i, one in enumerate(places) for j, other in enumerate(places) if i != j and one & other}


@pytest.mark.parametrize("seed", range(30))
def test_overlaps_are_those_of_the_elements(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    buffer, numbers = torch.zeros(200), torch.arange(200)
    forms = []
    for _ in range(4):
        sizes, strides = [draw(1, 5) for _ in range(3)], [draw(1, 12) for _ in range(3)]
        reach = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        forms.append((sizes, strides, draw(0, 199 - reach)))
    forms.append(([draw(1, 4) for _ in range(2)], [6, draw(2, 5)], 175))  # rarely in one memory with others
    views = [buffer.as_strided(*form) for form in forms]
    found = overlapping(views)
    assert {i for i, view in enumerate(views) if id(view) in found} == slow([numbers.as_strided(*f) for f in forms])


@pytest.mark.parametrize("seed", range(40))
def test_what_lies_within_itself_is_that_of_the_elements(seed):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(400)
    for _ in range(20):
        sizes, strides = (
            torch.randint(low, high, (3,), generator=generator).tolist() for low, high in [(1, 5), (0, 30)]
        )
        index = numbers.as_strided(sizes, strides)
        assert shares_within(index) == (len(set(index.flatten().tolist())) < index.numel())


@pytest.mark.parametrize("shape", [(1,), (1, 1), (), (1, 3), (3, 1), (2, 3), (2, 2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.complex64], ids=str)
def test_flat_tensors_are_seen_as_bytes_whatever_their_strides(shape, dtype):
    buffer = torch.arange(600).to(dtype)
    for strides in itertools.product([1, 2, 3, 5, 7, 40], repeat=len(shape)):
        tensor = buffer.as_strided(shape, strides, 3)
        given = flat(tensor).view(torch.uint8).numpy().tobytes()
        assert (
            given == tensor.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
        )


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2), (1, 3, 1, 1), (5,)], ids=str)
def test_what_is_laid_out_as_another_lies_as_torchs_own_moments(shape):
    torch.manual_seed(0)
    for order in itertools.permutations(range(len(shape))):
        gaps = [
            torch.zeros([shape[d] * step for d in order])[(slice(None, None, step),) * len(shape)] for step in (1, 2)
        ]
        back = [order.index(d) for d in range(len(shape))]
        for other in (tensor.permute(back) for tensor in gaps):
            tensor = torch.randn(shape)
            made = laid_out_as(tensor, other)
            assert torch.equal(made, tensor)
            moment = torch.zeros_like(other)
            assert made.stride() in {other.stride(), moment.stride()}


TIES = {  # what is loaded under two names of one tensor, and whether nothing of it is lost
    "the same": (torch.ones(3), torch.ones(3), True),
    "NaN": (torch.tensor([math.nan] * 3), torch.tensor([math.nan] * 3), True),
    "the same when cast": (torch.ones(3), torch.ones(3, dtype=torch.float64), True),
    "other values": (torch.ones(3), torch.zeros(3), False),
    "another shape": (torch.ones(3), torch.ones(2), False),
    "another sign of zero": (torch.zeros(3), -torch.zeros(3), False),
}


@pytest.mark.parametrize("case", TIES)
def test_two_values_for_one_tensor_are_refused(case):
    one, other, is_right = TIES[case]
    weight = torch.zeros(3)
    model = {"a": weight, "b": torch.zeros(3), "c": weight}
    check_ties(model, {"a": one, "b": other})
    if is_right:
        check_ties(model, {"a": one, "c": other})
        return
    with pytest.raises(StateError, match=r"^'a' and 'c' are one tensor of the model, and two that differ"):
        check_ties(model, {"a": one, "c": other})


def test_bfloat16_empty_and_meta_tensors_are_compared_too():
    buffer = torch.zeros(8, dtype=torch.bfloat16)
    apart = [buffer[:4], buffer[4:], buffer[:0], torch.zeros(3, device="meta"), torch.zeros(3).to_sparse()]
    assert not overlapping(apart)
    assert len(overlapping([*apart, buffer[3:5]])) == 3
