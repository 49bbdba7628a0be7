"""Code that decides by values or by training: units go only where every way that is tried allows it."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell.errors import OptionError
from prunecell.structured import RemoveSpec, remove_
from prunecell.structured.ways import MOST, Going, ways_of

X = torch.ones(2, 8)
HALF = RemoveSpec(sparsity=0.5)


class Deciding(nn.Module):
    """Units of `a` that are read by `way`, and of `before` that are read by `a` alone."""

    def __init__(self, way):
        super().__init__()
        self.before, self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 12), nn.Linear(12, 4), nn.Linear(12, 4)
        self.scale, self.way = nn.Parameter(torch.rand(12)), way

    def forward(self, x):
        return self.way(self, x, torch.relu(self.a(torch.relu(self.before(x)))))


def _in_a_loop(m, x, h):
    for row in x:
        if row.sum() < 0:
            h = h.flip(1)
    return m.b(h)


def _nested(m, x, h):
    if x.sum() < 0 and x.prod() < 0:
        return m.c(h)
    return m.b(h)


def _never(m, x, h):
    if x.isnan().any():
        message = "no numbers"
        raise ValueError(message)
    return m.b(h)


def _dropped(m, x, h):
    del x
    return m.b(h) if not m.training or torch.rand(()) < 0.5 else m.b(h) * 0


def _by_python(m, x, h):
    del x
    return m.b(h.flip(1) if m.training and random.random() < 0.5 else h)  # noqa: S311 - as models do


def _by_python_alike(m, x, h):
    del x
    return m.b(h) * (2 if m.training and random.random() < 0.5 else 1)  # noqa: S311 - as models do


def _random_places(m, x, h):
    del x
    return m.b(h + torch.randn_like(h)) if m.training else m.b(h)


def _flipped_if(condition):
    return lambda m, x, h: m.b(h.flip(1) if condition(x) else h)


OTHER, BATCH = ", for other inputs", ", for another batch size"
BY_VALUES, IN_TRAINING = ", where its code decides by values", ", in training"
LEFT = {
    "another layer": (lambda m, x, h: m.b(h) if x.sum() > 0 else m.c(h), BY_VALUES),
    "another layer by item": (lambda m, x, h: m.b(h) if x.sum().item() > 0 else m.c(h), BY_VALUES),
    "another layer by index": (lambda m, x, h: [m.c, m.b][int(x.sum() > 0)](h), BY_VALUES),
    "another layer by any": (lambda m, x, h: m.b(h) if (x > 0).any() else m.c(h), BY_VALUES),
    "another layer by equal": (lambda m, x, h: m.b(h) if torch.equal(x, X) else m.c(h), BY_VALUES),
    "another order": (lambda m, x, h: m.b(h) if x.sum() > 0 else m.b(h.flip(1)), BY_VALUES),
    "a parameter of units": (lambda m, x, h: m.b(h) if x.sum() > 0 else m.b(h * m.scale), BY_VALUES),
    "in a loop": (_in_a_loop, BY_VALUES),
    "nested": (_nested, BY_VALUES),
    "by what is not finite": (lambda m, _, h: m.c(h) if h.isnan().any() else m.b(h), BY_VALUES),
    "another order in training": (lambda m, _, h: m.b(h.flip(1) if m.training else h), IN_TRAINING),
    "another order in training behind dropout": (
        lambda m, _, h: m.b(F.dropout(h, training=m.training).flip(1) if m.training else h),
        IN_TRAINING,
    ),
    "where": (lambda m, x, h: torch.where(x.sum() > 0, m.b(h), m.b(h.flip(1))), OTHER),
    "where for zeros": (lambda m, x, h: m.b(torch.where(x.any(), h, h.flip(1))), OTHER),
    "a count of nonzero": (_flipped_if(lambda x: (x > 3).nonzero().shape[0]), OTHER),
    "an index": (_flipped_if(lambda x: x[x > 3].numel()), OTHER),
    "a number of places": (_flipped_if(lambda x: len(torch.where(x > 3)[0])), OTHER),
    "distinct numbers": (_flipped_if(lambda x: torch.unique(x.round()).numel() > 12), OTHER),
    "a batch": (_flipped_if(lambda x: x.shape[0] > 2), BATCH),
    "a batch of one": (_flipped_if(lambda x: len(x) == 1), BATCH),
    "an item above": (_flipped_if(lambda x: x.abs().max().item() > 1e9), BY_VALUES),
    "an item below": (_flipped_if(lambda x: x.abs().max().item() < 1e-9), BY_VALUES),
    "an item that is computed with": (_flipped_if(lambda x: 2 * x.max().item() - 1 > 1e9), BY_VALUES),
    "an integer above a float": (_flipped_if(lambda x: x.to(torch.int64).sum().item() * 0.5 == 1e6), BY_VALUES),
    "a float above": (_flipped_if(lambda x: float(x.norm()) > 100), BY_VALUES),
    "an index that is equal": (_flipped_if(lambda x: int(x[0].argmax()) == 3), BY_VALUES),
    "an integer that is equal": (_flipped_if(lambda x: x.to(torch.int64).sum().item() == 555), BY_VALUES),
    "a list": (_flipped_if(lambda x: x.tolist()[1][2] > 1e9), BY_VALUES),
    "random numbers of Python": (_by_python, IN_TRAINING),
    "where in training": (
        lambda m, x, h: m.b(torch.where(x.sum() > 0, h, h.flip(1)) if m.training else h),
        IN_TRAINING + OTHER,
    ),
    "a batch in training": (lambda m, x, h: m.b(h.flip(1) if m.training and len(x) > 3 else h), IN_TRAINING + BATCH),
    "another layer in evaluation": (lambda m, _, h: m.b(h) if m.training else m.b(h.flip(1)), ""),
}
GONE = {
    "an error": _never,
    "a layer that drops": _dropped,
    "noise in training": _random_places,
    "dropout": lambda m, _, h: m.b(F.dropout(h, training=m.training)),
    "another factor": lambda m, x, h: m.b(h) if x.sum() > 0 else m.b(h) * 2,
    "another activation": lambda m, x, h: m.b(h) if x.sum() > 0 else m.b(h.tanh()),
    "where": lambda m, x, h: torch.where(x.sum() > 0, m.b(h), m.b(h.tanh())),
    "an item above": lambda m, x, h: m.b(h) * (2 if x.max().item() > 10 else 1),
    "an error for another batch size": lambda m, x, h: m.b(h) if len(x) == 2 else m.b(h.view(0)),
    "random numbers of Python": _by_python_alike,
    "numbers of other sizes": lambda m, _, h: m.b(h * torch.softmax(100 * h, 0)),
    "more in training": lambda m, _, h: (m.b(h), m.b(h * 2)) if m.training else m.b(h),
}


def made(way):
    torch.manual_seed(0)
    return Deciding(way)


@pytest.mark.parametrize("case", LEFT)
def test_units_that_another_way_tells_apart_are_left_and_others_go(case):
    way, where = LEFT[case]
    model = made(way)
    removal = remove_(model, HALF, X)
    assert removal.left["a"] == f"the model computes something else when they change places{where}"
    assert (model.a.out_features, model.a.in_features, model.before.out_features) == (12, 3, 3)
    for training in (False, True):
        for x in (X, -X, X - 3 * torch.eye(2, 8)):
            assert model.train(training)(x).shape == (2, 4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", GONE)
def test_units_that_are_alike_in_all_ways_go_without_a_trace(case, training):
    """What is removed is zeros, so the smaller model returns what the larger did, for inputs of the other way, too."""
    model = made(GONE[case]).train(training)
    with torch.no_grad():
        for layer, n in ((model.before, 3), (model.a, 6)):
            layer.weight[:n] = 0.0
            layer.bias[:n] = 0.0
    large = copy.deepcopy(model)
    removal = remove_(model, HALF, X)
    assert removal.units == {"before": (6, 3), "a": (12, 6)}
    assert model.training == training
    if training and case in {"noise in training", "dropout"}:
        return  # other numbers are drawn for fewer units
    for x in (X, -X, torch.randn(2, 8), torch.randn(3, 8), torch.zeros(2, 8), 100 * torch.randn(2, 8)):
        if case == "an error for another batch size" and len(x) != 2:
            continue
        torch.manual_seed(1)
        random.seed(1)
        before = large(x)
        torch.manual_seed(1)
        random.seed(1)
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)


def test_a_size_that_is_written_in_another_way_is_refused():
    model = made(lambda m, x, h: m.b(h) if x.sum() > 0 else m.b(h).mul(len(h.view(-1, 12)) / len(h)))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match="because something reads its units where its code decides by values"):
        remove_(model, HALF, X[:1])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_ways_of_a_function_are_all_answers_to_what_it_asks():
    asked = torch.tensor([1.0, 2.0])

    def run():
        return "abc"[bool(asked[0] > 0) + bool(asked[1] > 0)] if asked.sum().item() > 0 else "-"

    assert set(ways_of(run)) == {
        *(((n, True, a, b), "abc"[a + b]) for n in (3.0, 300.0) for a in (False, True) for b in (False, True)),
        *(((n, True, a, b), "abc"[a + b]) for n in (0.0, -3.0) for a in (False, True) for b in (False, True)),
        *(((n, False), "-") for n in (3.0, 300.0, 0.0, -3.0)),
    }
    assert len([*ways_of(run, 3)]) == 3


def test_ways_have_an_end_and_those_that_fail_are_left_out():
    def run():
        return [bool(torch.zeros(()) > i) for i in range(-10, 0)]

    assert len([*ways_of(run)]) == MOST

    def failing():
        assert torch.ones(()) > 0
        return 1

    assert [*ways_of(failing)] == [((True,), 1)]
    with pytest.raises(AssertionError), Going([False]):
        failing()
    with pytest.raises(ZeroDivisionError):
        next(ways_of(lambda: 1 // 0))


def test_numbers_that_are_none_have_another_answer():
    assert [given for _, given in ways_of(torch.tensor(float("nan")).item)][1] == 0
    assert [given for _, given in ways_of(torch.tensor(0).item)] == [*range(8)]
    assert [given for _, given in ways_of(torch.tensor(3).item)] == [3, 0, -3, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_numbers_of_items_are_numbers(dtype):
    x = torch.tensor([3, 4], dtype=dtype)
    with Going() as going:
        a, b = x[0].item(), x.tolist()[1]
        assert isinstance(a, type(b))
        assert type(a) is not type(a + 0j)
        numbers = a + b, 1 + a, a - b, 10 - a, a * b, a / b, a // b, b % a, a**2, -a, abs(-a), round(a), a * 0.5
        assert [float(n) for n in numbers] == [7, 4, -1, 7, 12, 0.75, 0, 1, 9, -3, 3, 3, 1.5]
        assert {a: 1}[3] == 1
        assert torch.equal(x * a, x * 3)
        assert torch.equal(torch.full((2,), a), torch.full((2,), 3, dtype=torch.full((2,), x[0].item()).dtype))
    asked = len(going.way)
    with going:
        assert [n > 0 for n in numbers] == [n > 0 for n in map(float, numbers)]
    assert len(going.way) == asked + sum(type(n) not in {int, float} for n in numbers)
    assert all(type(answer) in {bool, int, float} for answer in going.way)


def test_what_is_drawn_of_random_numbers_of_python_is_as_it_was():
    random.seed(3)
    before = random.getstate()
    remove_(made(_by_python_alike), HALF, X)
    assert random.getstate() == before


def test_shapes_are_no_questions():
    with Going() as going:
        x = torch.ones(2, 3)
        assert x.dim() == len(x.shape) == len(x)
        assert x.size(1)
        assert x.is_contiguous()
    assert going.way == ()
