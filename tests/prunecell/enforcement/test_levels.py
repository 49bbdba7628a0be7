"""Where wrappers keep the optimizers that they wrap: each is found, watched, and let go again."""

import functools
import itertools
import types
import weakref
from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from prunecell import Pruner, PruneSpec, Static
from prunecell.enforcement.levels import levels_of
from prunecell.errors import OptionTypeError

STILL = PruneSpec(schedule=Static(sparsity=0.75))
Two = namedtuple("Two", "first second")  # noqa: PYI024 - as users have them


class Slots:
    __slots__ = ("__hidden", "empty", "kept")

    def __init__(self, a, b):
        self.kept, self.__hidden = a, b


@dataclass(slots=True)
class Bag:
    one: object
    more: object = None


class Linked:
    """It holds itself."""

    def __init__(self, *inner):
        self.inner, self.me = list(inner), self
        self.inner.append(self.inner)


HOLDERS = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, (b,)),
    "named tuple": Two,
    "set": lambda a, b: {a, b},
    "frozen set": lambda a, b: [frozenset({a}), {frozenset({b})}],
    "deque": lambda a, b: deque([deque([a]), b]),
    "dict": lambda a, b: {"x": [a], "y": b},
    "dict of a list": lambda a, b: {"x": [a, b]},
    "dict of dicts": lambda a, b: {"x": {"a": a}, 3: {"y": {"z": (b, "b")}}},
    "default dict": lambda a, b: defaultdict(list, x=[a], y=[b]),
    "keys": lambda a, b: OrderedDict({a: 0.1, b: 0.2}),
    "deep": lambda a, b: functools.reduce(lambda inner, _: [{"x": (inner,)}], range(200), [a, b]),
    "named": lambda a, b: types.SimpleNamespace(a=a, rest=[b]),
    "objects": lambda a, b: Linked(types.SimpleNamespace(a=a), {"x": Linked(b)}),
    "slots": Slots,
    "data class": lambda a, b: Bag(a, [Bag(None, b)]),
    "user's dict": lambda a, b: UserDict(a=a, b=UserList([b])),
    "methods": lambda a, b: [a.step, b.step],
    "partial": lambda a, b: [functools.partial(a.step), functools.partial(print, b)],
    "scheduler": lambda a, b: (StepLR(a, 1), StepLR(b, 1)),
    "among others": lambda a, b: [None, "text", torch.ones(3), nn.Linear(2, 2), a, *range(9), print, int, b, types],
}


class Multi:
    """Steps two optimizers, and moves all weights around that."""

    def __init__(self, holder, steps, weights):
        self.holder, self._steps, self._weights = holder, steps, weights

    @torch.no_grad()
    def move(self):
        for weight in self._weights:
            weight.add_(1)

    def step(self):
        self.move()
        for step in self._steps():
            step()
        self.move()


def made(mlp, holder):
    first = torch.optim.SGD(mlp.model[0].parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    second = torch.optim.AdamW(mlp.model[2].parameters(), lr=0.1)
    refs = [weakref.ref(first), weakref.ref(second)]
    outer = Multi(HOLDERS[holder](first, second), lambda: [ref().step for ref in refs], list(mlp.model.parameters()))
    return first, second, outer


def check_zeros(model, pruner):
    for name, mask in pruner.masks.items():
        assert not model.get_parameter(name).detach()[~mask].view(torch.int32).any(), name


@pytest.mark.parametrize("holder", HOLDERS)
def test_wherever_a_wrapper_keeps_optimizers_each_is_watched(mlp, holder):
    first, second, outer = made(mlp, holder)
    levels = levels_of(outer)
    assert levels[0] is outer
    assert {id(level) for level in levels} == {id(outer), id(first), id(second)}
    assert len(levels) == 3
    pruner = Pruner(mlp.model, STILL, optimizer=outer)
    for step in (outer.step, first.step, second.step, outer.step):
        mlp.model.zero_grad()
        mlp.loss().backward()
        for weight in mlp.model.parameters():
            weight.grad.data += 1
        step()
        held = {"0.weight": first, "2.weight": second}
        for name, mask in pruner.masks.items():
            if step in (outer.step, held[name].step):
                assert not mlp.model.get_parameter(name).detach()[~mask].any(), name
        pruner.step(8)
        check_zeros(mlp.model, pruner)
    pruner.finalize()
    assert all("holder" in vars(level) or not level._optimizer_step_post_hooks for level in levels)


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_only_holds_optimizers_is_refused_and_told_to_attach_them(mlp, holder):
    first, second, _ = made(mlp, holder)
    pruner = Pruner(mlp.model, STILL)
    with pytest.raises(OptionTypeError, match=r"attach\(\) each of the 2 that it holds \(AdamW, SGD\)"):
        pruner.attach(HOLDERS[holder](first, second))
    assert not any("step" in vars(each) and not hasattr(each.step, "_wrapped_by_lr_sched") for each in (first, second))
    pruner.attach(first)
    pruner.attach(second)


def test_what_steps_and_shows_no_optimizer_is_told_to_attach_those_inside(mlp):
    first, second, outer = made(mlp, "list")
    outer.holder = lambda: (first, second)
    with pytest.raises(OptionTypeError, match=r"a Multi: .*where it wraps optimizers, attach\(\) the inner ones"):
        Pruner(mlp.model, STILL, optimizer=outer)


def test_the_optimizers_of_other_networks_that_a_trainer_knows_are_not_taken(mlp):
    other = nn.Linear(12, 12)
    first, second = torch.optim.SGD(mlp.model.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)
    first.trainer = second.trainer = types.SimpleNamespace(optimizers=[first, second])
    assert levels_of(first) == [first]
    pruner = Pruner(mlp.model, STILL, optimizer=first)
    Pruner(other, STILL, optimizer=second)
    pruner.finalize()


def test_a_proxy_of_what_is_gone_and_endless_attributes_do_no_harm(mlp):
    class Gone:
        pass

    class Endless:
        def __init__(self):
            self.next = map(Endless, ())

        def __getattr__(self, name):
            return Endless()

    inner = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    inner.proxy, inner.endless, inner.numbers = weakref.proxy(Gone()), Endless(), list(range(100_000))
    assert levels_of(inner) == [inner]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("scheduled", [False, True])
def test_pruners_that_share_an_optimizer_leave_nothing_in_whatever_order_they_end(order, scheduled):
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if scheduled:
        StepLR(optimizer, 1)
    before = vars(optimizer).get("step")
    pruners = [Pruner(model, {f"{index}.weight": STILL}, optimizer=optimizer) for index in range(3)]
    for n_done, done in enumerate(order, start=1):
        pruners[done].finalize()
        model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
        for index in order[n_done:]:
            check_zeros(model, pruners[index])
    assert vars(optimizer).get("step") is before
    assert not optimizer._optimizer_step_post_hooks
