"""Who rewrites a weight around an optimizer's steps is alone in that, and units do not move behind anybody's back."""

import copy
import gc
import itertools
import pickle

import pytest
import torch
from torch import nn

from prunecell import IntSpec, Pruner, PruneSpec, Quantizer, RateSpec, Static, load_model, save, share_
from prunecell.errors import OptionError
from prunecell.graph import fold_batchnorm_, sort_units_
from prunecell.structured import RemoveSpec, remove_

pytestmark = pytest.mark.filterwarnings("ignore::prunecell.errors.UnfinishedWarning")  # they let go halfway


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    model[0].weight.data[:8, 1:] = 0  # which are to be sorted
    return model


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


HOLDERS = {
    "rate": lambda model: Quantizer(model, RateSpec(lam=1e-6, steps=9), optimizer=optimizer_of(model)),
    "int": lambda model: Quantizer(model, IntSpec(bits=4)),
    "sharing": lambda model: share_(model, bits=4, optimizer=optimizer_of(model)),
}
MOVERS = {
    "sort": lambda model: sort_units_(model, example=torch.zeros(2, 8)),
    "fold": lambda model: fold_batchnorm_(model, example=torch.zeros(2, 8)),
    "remove": lambda model: remove_(model, RemoveSpec(sparsity=0.5), torch.zeros(2, 8)),
    "load": lambda model: load_model("small.pcell", model),
}


def refused(model, act):
    """What a refusal says; it changes nothing."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError) as caught:
        act(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(HOLDERS, repeat=2)))
def test_one_holder_is_all_that_a_weight_can_have(first, second):
    model = network()
    holder = HOLDERS[first](model)
    problem = f"'0.weight' is held by a {type(holder).__name__}, and one holder is all"
    assert problem in refused(model, HOLDERS[second])
    for copied in copy.deepcopy((holder, model)), pickle.loads(pickle.dumps((holder, model))):  # noqa: S301 - its own
        assert problem in refused(copied[1], HOLDERS[second])
    del copied
    holder.finalize()
    HOLDERS[second](model)


@pytest.mark.parametrize("first", HOLDERS)
def test_a_holder_that_is_gone_holds_nothing(first):
    model = network()
    HOLDERS[first](model)
    gc.collect()
    HOLDERS["int"](model)


def test_a_sharing_that_watches_no_optimizer_holds_its_weights_until_it_is_finalized_or_gone():
    model = network()
    sharing = share_(model, bits=4)
    assert "is held by a Sharing" in refused(model, HOLDERS["int"])
    sharing.finalize()
    HOLDERS["int"](model).finalize()
    share_(model, bits=4)  # nobody has it
    HOLDERS["int"](model).finalize()


@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("holder", [*HOLDERS, "pruner"])
def test_units_do_not_move_while_somebody_holds_their_weights(holder, mover, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = network()
    remove_(small, RemoveSpec(sparsity=0.5), torch.zeros(2, 8))
    save(small, "small.pcell")
    model = network()
    make = HOLDERS.get(holder, lambda model: Pruner(model, PruneSpec(schedule=Static(sparsity=0.5))))
    held = make(model)
    problem = refused(model, MOVERS[mover])
    told = (
        "it has a hook, as of a Pruner, Quantizer or Sharing",
        "a Pruner that is in use holds it",
        "is held by another",
    )
    assert any(words in problem for words in told)
    held.finalize()
    MOVERS[mover](model)
