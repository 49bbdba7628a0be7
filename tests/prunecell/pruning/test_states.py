"""States of a Pruner, a sharing, a Quantizer: any value anywhere is refused and changes nothing, or it goes on."""

import copy
import re

import pytest
import torch
from torch import nn

from prunecell import IntSpec, Lowest, Pruner, PruneSpec, Quantizer, RateSpec, Static
from prunecell.errors import StateError
from prunecell.sharing import share_


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2))


def pruner(model):
    spec = PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(revives=True))
    return Pruner(model, spec, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))


def sharing(model):
    return share_(model, bits=2)


def quantizer(model):
    return Quantizer(model, {"0.*": RateSpec(lam=1e-6, steps=9), "*": IntSpec(bits=4)})


PARTS = {"pruner": pruner, "sharing": sharing, "quantizer": quantizer}


def flat(value):
    if isinstance(value, dict):
        return {key: flat(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [flat(one) for one in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("name", PARTS)
def test_one_wrong_value_anywhere_is_refused_in_few_words_and_changes_nothing(name, mutants, state_refusal):
    model = net()
    part = PARTS[name](model)
    state = copy.deepcopy(part.state_dict())
    before = flat([state, dict(model.state_dict())])
    n_refused = n_taken = 0
    for changed in mutants(state):
        if message := state_refusal(part, changed):
            n_refused += 1
            assert len(message) < 2000, message[:300]
            assert flat([part.state_dict(), dict(model.state_dict())]) == before, message
        else:
            n_taken += 1
            assert flat(part.state_dict()) == flat(changed)
            model = net()
            part = PARTS[name](model)
    assert n_refused > 100
    assert n_taken < 80


@pytest.mark.parametrize("name", PARTS)
def test_a_state_of_another_version_or_of_other_parameters_says_so(name):
    part = PARTS[name](net())
    state = part.state_dict()
    for version in (None, 0, 3.0, "2", 7):
        with pytest.raises(StateError, match=rf"version={version!r} of the {name}'s state is unknown: it must be \d"):
            part.load_state_dict({"version": version, "unknown": 1})
    field = "clusters" if name == "sharing" else "weights"
    first, *_ = state[field]
    state[field] = {("x" if key == first else key): value for key, value in state[field].items()}
    fact = f"the {name}'s state is of other parameters: it lacks '{first}', and it has 'x', which is not here"
    with pytest.raises(StateError, match=fact):
        part.load_state_dict(state)


def half(_):
    return 0.5


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (Static(sparsity=0.5), Static(sparsity=0.9), "was Static(sparsity=0.5), now Static(sparsity=0.9)"),
        (half, Static(sparsity=0.9), "was half, now Static(sparsity=0.9)"),
        (lambda _: 0.5, lambda _: 0.6, "was {'function': "),  # they look the same as they are written
    ],
)
def test_another_spec_is_told_as_it_is_written(then, now, told):
    state = Pruner(net(), PruneSpec(schedule=then)).state_dict()
    with pytest.raises(StateError) as caught:
        Pruner(net(), PruneSpec(schedule=now)).load_state_dict(state)
    assert told in str(caught.value)
    assert "prunecell.schedules" not in str(caught.value)


def test_pruners_and_sharings_print_what_they_hold():
    model = net()
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    assert re.fullmatch(r"<Pruner of \d weights, 5\d\.\d\d% pruned at step 0>", repr(pruner))
    pruner.finalize()
    assert repr(pruner).endswith(", finalized>")
    assert re.match(r"<Sharing with so many values in each weight: '\S+': \d", repr(share_(model, bits=2)))
