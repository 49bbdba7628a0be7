"""A checkpoint gives back all that a run needs, or nothing at all."""

import copy
import math
import random
import re

import pytest
import torch
from torch import nn

from prunecell import Cubic, Gradual, IterNonStruct, Lowest, Pruner, PruneSpec
from prunecell.errors import FormatError, PrunecellError
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task, fit
from prunecell.training.progress import Progress

SPECS = {
    "keeps": PruneSpec(filler=IterNonStruct(), schedule=Gradual(sparsity=0.8, start=0.2, gamma=0.1, every_samples=24)),
    "revives": PruneSpec(filler=Lowest(revives=True), schedule=Cubic(sparsity=0.8, steps=9)),
}
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True),
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "Adamax": torch.optim.Adamax,
    "Rprop": torch.optim.Rprop,
    "LBFGS": torch.optim.LBFGS,
}


def task(spec="keeps", optimizer="SGD"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 3))
    made = OPTIMIZERS[optimizer](model.parameters())
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    batches = [(x, x[:, :3].argmax(1))] * 3
    return Task(
        model=model,
        optimizer=made,
        train=lambda _: batches,
        validation=lambda: batches[:1],
        keeper=Pruner(model, SPECS[spec], optimizer=made),
    )


def flat(value):
    """Numbers and text of a state, comparable to the bit; the seconds that something took are left out."""
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items() if key != "seconds"}
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.contiguous().view(-1).view(torch.uint8).tolist()
    return repr(value)


def all_of(trained):
    parts = {name: copy.deepcopy(part.state_dict()) for name, part in trained.parts().items()}
    return flat(parts | {"random": torch.get_rng_state()})


def places(value, path=()):
    """Every place in a state: (path, value)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield (*path, key), item
        yield from places(item, (*path, key))


def replaced(value, path, new):
    """A copy of a state with another value at one place; the place is taken out where that is MISSING."""
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is MISSING:
        del changed[path[0]]
    else:
        changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed if isinstance(value, dict | list) else tuple(changed)


MISSING = object()
VALUES = [
    MISSING,
    None,
    True,
    -1,
    0,
    7,
    1 << 40,
    1 << 80,
    0.5,
    -0.5,
    1e300,
    math.nan,
    math.inf,
    "",
    "x",
    [],
    [0],
    [[]],
    {},
    {"more": 1},
    (),
    torch.zeros(()),
    torch.full((3,), math.nan),
    torch.zeros(0, dtype=torch.int64),
    torch.ones(2, 2, dtype=torch.bool),
    torch.zeros(4, dtype=torch.complex64),
    torch.zeros(3, dtype=torch.uint8),
    torch.eye(3).to_sparse(),
    torch.ones(5, device="meta"),
]


def mutants(state, how_many, seed):
    """Copies of a state with one value changed, drawn evenly over its places."""
    drawn, where = random.Random(seed), list(places(state))  # noqa: S311 - the same every time
    order = [where[number % len(where)] for number in range(drawn.randrange(len(where)), len(where) + how_many)]
    for path, value in order[:how_many]:
        new = drawn.choice(VALUES)
        if isinstance(value, torch.Tensor) and drawn.random() < 0.5:
            new = changed_tensor(value, drawn)
        yield path, replaced(state, path, new)


def changed_tensor(tensor, drawn):
    return drawn.choice(
        [
            lambda: tensor.double() if tensor.is_floating_point() else tensor.float(),
            lambda: tensor[None],
            lambda: tensor.flatten()[:-1],
            lambda: torch.full_like(tensor, 255 if tensor.dtype == torch.uint8 else -3),
            lambda: tensor.flatten()[:1].expand(7),
            lambda: torch.cat([tensor.flatten(), tensor.flatten()]),
        ]
    )()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("spec", "optimizer", "how_many"), [("keeps", "SGD", 70), ("revives", "Adam", 70)])
def test_any_value_in_any_place_is_refused_and_changes_nothing_or_lets_the_run_go_on(
    tmp_path, spec, optimizer, how_many
):
    path = tmp_path / "run"
    fit(task(spec, optimizer), 1, checkpoint=Checkpoint(path=path))
    good = torch.load(path, weights_only=True)
    refused = 0
    for place, state in mutants(good, how_many, seed=1):
        torch.save(state, path)
        resumed = task(spec, optimizer)
        torch.manual_seed(5)
        before = all_of(resumed)
        try:
            Checkpoint(path=path).load(resumed.parts() | {"progress": Progress()})
        except FormatError as error:
            refused += 1
            assert str(error).startswith(f"{path} is "), place  # noqa: PT017 - it may as well be taken
            assert all_of(resumed) == before, place
            continue
        try:
            fit(task(spec, optimizer), 2, checkpoint=Checkpoint(path=path))
        except PrunecellError:
            pass
        except Exception as error:
            raise AssertionError(f"{place}: {type(error).__name__}: {error}") from error
    assert refused > how_many / 2


def saved(path, **choice):
    fit(task(**choice), 1, checkpoint=Checkpoint(path=path))
    return torch.load(path, weights_only=True)


NAMED = {
    "steps below zero": (("progress", "steps"), -1, "steps=-1 of the progress is illegal: it must be a whole number"),
    "an unknown field": (("progress", "more"), 1, "the progress has unknown fields: 'more'"),
    "an unknown field of an epoch": (("progress", "epochs", 0, "more"), 1, "epoch 1 has unknown fields: 'more'"),
    "a field that is missing": (("progress", "epochs", 0, "loss"), MISSING, "epoch 1 lacks loss"),
    "a generator of three bytes": (("random",), torch.zeros(3, dtype=torch.uint8), "random does not fit: "),
    "weights that are NaN": (("keeper", "weights"), math.nan, "keeper does not fit: "),
    "a model that is a tensor": (("model",), torch.ones(3), "model does not fit: "),
    "a model of another dtype": (("model", "0.weight"), torch.ones(5, 6).double(), "0.weight is torch.float64"),
    "a rate that is text": (("optimizer", "param_groups", 0, "lr"), "x", "optimizer does not fit: "),
    "a momentum of another shape": (("optimizer", "state", 0, "momentum_buffer"), torch.ones(7), "optimizer does not"),
    "other parameters": (("optimizer", "param_groups", 0, "params"), [0], "its parameters are not those"),
    "a part that is missing": (("keeper",), MISSING, "is of another run: it holds"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_does_not_fit_is_named_and_nothing_is_changed(tmp_path, name):
    place, new, fact = NAMED[name]
    path = tmp_path / "run"
    torch.save(replaced_or_added(saved(path), place, new), path)
    resumed, progress = task(), Progress()
    torch.manual_seed(5)
    before = all_of(resumed)
    with pytest.raises(FormatError, match=re.escape(fact)):
        Checkpoint(path=path).load(resumed.parts() | {"progress": progress})
    assert all_of(resumed) == before
    assert progress == Progress()


def replaced_or_added(state, place, new):
    inside = state
    for key in place[:-1]:
        inside = inside[key]
    if new is MISSING:
        del inside[place[-1]]
    else:
        inside[place[-1]] = new
    return state


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_to_the_same_bits(tmp_path, optimizer):
    whole, path = task(optimizer=optimizer), tmp_path / "run"
    with_closure(whole, optimizer)
    fit(whole, 2)
    for epochs in (1, 2):
        resumed = with_closure(task(optimizer=optimizer), optimizer)
        fit(resumed, epochs, checkpoint=Checkpoint(path=path))
    assert flat(resumed.model.state_dict()) == flat(whole.model.state_dict())
    assert flat(resumed.optimizer.state_dict()) == flat(whole.optimizer.state_dict())


def with_closure(made, optimizer):
    """LBFGS steps with a closure only, which `fit` has not: it steps on the gradients that are there."""
    if optimizer == "LBFGS":
        step = made.optimizer.step
        made.optimizer.step = lambda: step(lambda: torch.zeros((), requires_grad=True).sum())
    return made


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "LBFGS"])
def test_every_optimizer_refuses_moments_of_another_shape(tmp_path, optimizer):
    path = tmp_path / "run"
    state = saved(path, optimizer=optimizer)
    moments = [key for key, value in state["optimizer"]["state"][0].items() if getattr(value, "shape", None) == (5, 6)]
    assert moments
    for moment in moments:
        torch.save(replaced(state, ("optimizer", "state", 0, moment), torch.ones(7, 7)), path)
        with pytest.raises(FormatError, match="optimizer does not fit"):
            fit(task(optimizer=optimizer), 2, checkpoint=Checkpoint(path=path))


def test_an_optimizer_that_holds_other_things_is_not_rehearsed(tmp_path):
    class Ahead(torch.optim.SGD):
        def __init__(self, parameters):
            super().__init__(parameters, lr=0.1, momentum=0.9)
            self.others = [p for group in self.param_groups for p in group["params"]]

        def step(self, closure=None):
            for parameter in self.others:
                parameter.data += 1
            return super().step(closure)

    model = nn.Linear(2, 2)
    parts = {"model": model, "optimizer": Ahead(model.parameters())}
    Checkpoint(path=tmp_path / "run").save(parts)
    before = flat(model.state_dict())
    assert Checkpoint(path=tmp_path / "run").load(parts)
    assert flat(model.state_dict()) == before
