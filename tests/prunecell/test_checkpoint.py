"""A checkpoint gives back all that a run needs, or nothing at all."""

import copy
import math
import random

import pytest
import torch
from torch import nn

from prunecell import Cubic, Gradual, IterNonStruct, Lowest, Pruner, PruneSpec
from prunecell.checkpoint import Checkpoint
from prunecell.errors import FormatError, PrunecellError
from prunecell.training import Progress, Task, fit

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
        pruner=Pruner(model, SPECS[spec], optimizer=made),
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
@pytest.mark.parametrize(("spec", "optimizer", "how_many"), [("keeps", "SGD", 100), ("revives", "Adam", 100)])
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
