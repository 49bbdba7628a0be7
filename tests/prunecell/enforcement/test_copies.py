"""A copy of a Pruner or of a sharing goes on by itself, whatever holds it, whoever copies, and in whatever order."""

import copy
import gc
import io
import itertools
import pickle
import pickletools
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from prunecell import Cubic, Lowest, Pruner, PruneSpec, share_
from prunecell.criteria import BlockFisher, movement, taylor, wanda
from prunecell.described import shown
from prunecell.enforcement.levels import levels_of
from prunecell.errors import OptionError, OptionTypeError

pytestmark = pytest.mark.filterwarnings("ignore::prunecell.errors.UnfinishedWarning")  # they let go halfway


def by_torch(parts):
    file = io.BytesIO()
    torch.save(parts, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def with_memo(parts):
    KEPT.append({})
    return copy.deepcopy(parts, KEPT[-1])


def with_unpickler(parts):
    KEPT.append(pickle.Unpickler(io.BytesIO(pickle.dumps(parts))))  # noqa: S301
    return KEPT[-1].load()


KEPT = []
"""Copiers that are not gone when the copy is made."""
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),  # noqa: S301
    "torch": by_torch,
}
MORE_COPIES = {
    "optimized pickle": lambda x: pickle.loads(pickletools.optimize(pickle.dumps(x))),  # noqa: S301
    "pickle in Python": lambda x: pickle._loads(pickle._dumps(x)),
    "deepcopy, its memo kept": with_memo,
    "unpickler, kept": with_unpickler,
}


# ---- what is held ----------------------------------------------------------------------------------------------------


def pruner(**filler):
    spec = PruneSpec(filler=Lowest(**filler), schedule=Cubic(sparsity=0.75, steps=4))
    return lambda model, optimizer: Pruner(model, spec, optimizer=optimizer)


HELD = {
    "sharing": lambda model, optimizer: share_(model, bits=2, optimizer=optimizer),
    "reviving": pruner(revives=True),
    "wanda": pruner(criterion=wanda),
}


def holds(model, held):
    """Whether the weights are what they are held at."""
    if isinstance(held, Pruner):
        pairs = [(model.get_parameter(name).detach(), mask) for name, mask in held.masks.items()]
        return not any(weight[~mask].view(torch.int32).any() for weight, mask in pairs)
    return all(len(model.get_parameter(name).unique()) <= 4 for name in held.names)


# ---- what holds it ---------------------------------------------------------------------------------------------------


class Plain:
    """A wrapper that is no Optimizer and changes the weights after the inner step."""

    def __init__(self, inner):
        self.inner = inner

    param_groups = property(lambda self: self.inner.param_groups)

    def zero_grad(self):
        self.inner.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.inner.step(closure)
        for p in (p for group in self.param_groups for p in group["params"]):
            p.add_(torch.rand_like(p), alpha=0.01)
        return loss


class Delegating(Plain):
    """Asks what it wraps for all that it has not; of one without attributes that would never end."""

    param_groups = property(lambda self: self.__getattr__("param_groups"))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


class WithoutConstructor(Plain, torch.optim.Optimizer):
    """As Accelerate's: a subclass of Optimizer that never calls its constructor."""

    state = property(lambda self: self.inner.state)

    def __getstate__(self):
        return dict(vars(self))

    def __setstate__(self, state):
        vars(self).update(state)


class Whole(torch.optim.AdamW):
    """An optimizer that is copied with all its attributes, hooks included."""

    def __getstate__(self):
        return dict(vars(self))


class Trainer:
    """Holds all of them, and is none."""


@dataclass
class Trained:
    """The same, compared by its fields."""

    model: nn.Module
    optimizer: object
    held: object


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def wrapper(wrap):
    """A wrapper of an optimizer that holds model and Pruner."""

    def make(model, hold):
        holder = wrap(model)
        holder.model = model
        holder.held = hold(model, holder)
        return holder, lambda it: (it.model, it, it.held)

    return make


def around(model, hold):
    """What is wrapped holds the Pruner that watches the wrapper."""
    holder = Plain(Plain(adam(model)))
    holder.inner.model, holder.inner.held = model, hold(model, holder)
    return holder.inner, lambda it: (it.model, it, it.held)


def attributes(of):
    """A module, or an object, that holds optimizer and Pruner."""

    def make(model, hold):
        holder = of(model)
        holder.all, holder.optimizer = [model], adam(model)
        holder.held = hold(model, holder.optimizer)
        return holder, lambda it: (it.all[0], it.optimizer, it.held)

    return make


def circle(model, hold):
    """A trainer that its model knows."""
    holder, find = attributes(lambda _: Trainer())(model, hold)
    model[0].trainer = holder
    return holder, find


def many(model, hold):
    """A list in which everything is, itself too."""
    holder = [model, Plain(adam(model))]
    holder += [hold(model, holder[1]), holder]
    holder[1].all = holder
    return holder, lambda it: it[:3]


def fields(model, hold):
    optimizer = Plain(adam(model))
    return Trained(model, optimizer, hold(model, optimizer)), lambda it: (it.model, it.optimizer, it.held)


HOLDERS = {
    "wrapper": wrapper(lambda m: Plain(adam(m))),
    "wrapper that delegates": wrapper(lambda m: Delegating(adam(m))),
    "wrapper of two": wrapper(lambda m: Plain(Plain(adam(m)))),
    "subclass without constructor": wrapper(lambda m: WithoutConstructor(adam(m))),
    "subclass with all attributes": wrapper(lambda m: Whole(m.parameters(), lr=0.01)),
    "what is wrapped": around,
    "trainer": attributes(lambda _: Trainer()),
    "model": attributes(lambda m: m),
    "layer": attributes(lambda m: m[0]),
    "circle": circle,
    "dataclass": fields,
    "list": many,
}
ORDERS = [(0,), (0, 1), (1, 0), (3, 2, 1, 0)]
"""What is copied together, of holder, model, optimizer and what is held."""


def step(mlp, model, optimizer, *, by_hand):
    optimizer.zero_grad()
    loss = mlp.loss(model)
    if by_hand:
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
    else:
        loss.backward()
    optimizer.step()


def go_on(mlp, model, optimizer, held, *, by_hand=(True, False, False)):
    for how in by_hand:
        step(mlp, model, optimizer, by_hand=how)
        assert holds(model, held)
        if isinstance(held, Pruner):
            held.step(16)
            assert holds(model, held)


def traces(model, optimizer):
    """All that hooks could leave behind."""
    levels = levels_of(optimizer)
    return [
        *(level for level in levels if "step" in vars(level)),
        *(hook for p in model.parameters() for hook in (p._post_accumulate_grad_hooks or {}).values()),
        *(hook for module in model.modules() for hook in module._forward_pre_hooks.values()),
    ]


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_its_pruner_is_copied_in_any_order(mlp, name, kind, copied):
    holder, find = HOLDERS[name](mlp.model, HELD[kind])
    parts = find(holder)
    go_on(mlp, *parts, by_hand=[False])
    before = copy.deepcopy(mlp.model.state_dict())
    for order in ORDERS:
        ordered = [(holder, *parts)[index] for index in order]
        others = find(COPIES[copied](ordered)[order.index(0)])
        go_on(mlp, *others, by_hand=[True, False])
        others[2].finalize()
        step(mlp, *others[:2], by_hand=False)
        assert not holds(others[0], others[2])
        assert traces(*others[:2]) == []
    assert all(torch.equal(before[key], value) for key, value in mlp.model.state_dict().items())
    go_on(mlp, *parts, by_hand=[False])
    parts[2].finalize()
    others = find(COPIES[copied](holder))
    step(mlp, *others[:2], by_hand=False)
    assert not holds(others[0], others[2])
    others[2].finalize()


@pytest.mark.parametrize("copied", MORE_COPIES)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("name", ["wrapper of two", "layer", "list"])
def test_whoever_copies(mlp, name, kind, copied):
    holder, find = HOLDERS[name](mlp.model, HELD[kind])
    go_on(mlp, *find(holder), by_hand=[False])
    for use in ("trained", "copied", "attached"):
        other = MORE_COPIES[copied](holder)
        parts = find(copy.deepcopy(other) if use == "copied" else other)
        if use == "attached":
            with pytest.raises(OptionError, match="is attached already"):
                parts[2].attach(parts[1])
        go_on(mlp, *parts, by_hand=[False, True])


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("criterion", [wanda, taylor, movement, BlockFisher(n_gradients=2)], ids=shown)
@pytest.mark.parametrize("name", ["trainer", "model", "layer"])
def test_a_copy_collects_what_the_first_collects(mlp, name, criterion, copied):
    holder, find = HOLDERS[name](mlp.model, pruner(criterion=criterion))
    parts = find(holder)
    go_on(mlp, *parts, by_hand=[False, False])
    others = find(COPIES[copied](holder))
    n_hooks = [[len(module._forward_pre_hooks) for module in model.modules()] for model in (parts[0], others[0])]
    assert n_hooks[0] == n_hooks[1]
    assert sum(n_hooks[0]) == (2 if criterion is wanda else 0)
    for its in (parts, others):
        go_on(mlp, *its, by_hand=[False, False])
    assert all(torch.equal(mask, others[2].masks[key]) for key, mask in parts[2].masks.items())


# ---- what is not copied, and what cannot be --------------------------------------------------------------------------


class Losing(Plain):
    """A copy of it wraps nothing."""

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "inner"}


class Uncopied:
    """Neither deepcopy nor pickle takes it."""

    def __reduce__(self):
        raise NotImplementedError


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("order", [(0,), (0, 1), (1, 0)], ids=str)
def test_a_wrapper_that_loses_what_it_wraps_is_refused_before_anything_is_trained(mlp, order, kind, copied):
    holder, find = wrapper(lambda m: Losing(adam(m)))(mlp.model, HELD[kind])
    parts = holder, mlp.model
    model, _, held = find(COPIES[copied]([parts[i] for i in order])[order.index(0)])
    for _ in range(2):
        with pytest.raises(OptionTypeError, match="optimizer is a Losing"):
            mlp.loss(model).backward()
    with pytest.raises(OptionTypeError, match="optimizer is a Losing"):
        held.attach(adam(model))
    go_on(mlp, *find(holder))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.filterwarnings("error")
def test_a_copy_that_fails_says_why_and_leaves_the_first_alone(mlp, kind, copied):
    holder, find = wrapper(lambda m: Delegating(adam(m)))(mlp.model, HELD[kind])
    holder.more = Uncopied()
    with pytest.raises(NotImplementedError):
        COPIES[copied](holder)
    go_on(mlp, *find(holder))


def test_what_a_wrapper_that_is_gone_had_wrapped_is_watched_in_a_copy(mlp):
    cases = []
    for hold in HELD.values():
        model = mlp.make()
        inner = [torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9) for layer in (model[0], model[2])]
        outer = Plain(inner[0])
        outer.other = inner[1]
        cases.append((model, inner, hold(model, outer)))
    del outer
    gc.collect()
    for case, copied in itertools.product(cases, COPIES.values()):
        model, inner, held = copied(case)
        for _ in range(3):
            mlp.loss(model).backward()
            for optimizer in inner:
                optimizer.step()
            assert holds(model, held)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", HELD)
def test_a_copy_without_its_optimizer_goes_on_with_another(mlp, kind, copied):
    held = HELD[kind](mlp.model, optimizer := adam(mlp.model))
    go_on(mlp, mlp.model, optimizer, held)
    model, other = COPIES[copied]((mlp.model, held))
    stranger = adam(model)
    if isinstance(other, Pruner):
        step(mlp, model, stranger, by_hand=True)
        other.step(16)
        assert holds(model, other)
    other.attach(stranger)
    go_on(mlp, model, stranger, other)


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_copy_goes_at_once_and_keeps_no_weight(mlp):
    for wrap in (adam, lambda m: Plain(adam(m)), lambda m: WithoutConstructor(adam(m))):
        for copied, hold in itertools.product(COPIES.values(), HELD.values()):
            optimizer = wrap(first := mlp.make())
            model, optimizer, held = copied((first, optimizer, hold(first, optimizer)))
            go_on(mlp, model, optimizer, held)
            held.finalize()
            gone, weight = weakref.ref(held), weakref.ref(model[0].weight)
            del held
            assert gone() is None
            optimizer.zero_grad()
            del optimizer, model[0]
            assert weight() is None


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_copy_without_what_is_held_is_plain_and_keeps_nothing_of_the_first(mlp):
    for hold in HELD.values():
        model = mlp.make()
        optimizer = Plain(adam(model))
        held = hold(model, optimizer)
        other, alone = copy.deepcopy((model, optimizer))
        step(mlp, other, alone, by_hand=False)
        assert traces(other, alone) == []
        weight = weakref.ref(model[0].weight)
        held.finalize()
        del model, optimizer, held
        assert weight() is None


def test_a_shallow_copy_takes_nothing_from_the_first(mlp):
    held = HELD["reviving"](mlp.model, optimizer := adam(mlp.model))
    copy.copy(held)
    with pytest.raises(OptionError, match="is held by another Pruner"):
        HELD["wanda"](mlp.model, optimizer)
