"""A weight's name is that of the plain model, whatever is around it."""

import sys
import unicodedata

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from prunecell import Pruner, PruneSpec, Random, Static, compact_, load, save
from prunecell.errors import NothingSparseWarning
from prunecell.names import METADATA, plain_names, why_illegal

DRAWN = PruneSpec(schedule=Static(sparsity=0.5), filler=Random(), seed=1)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))


WRAPPED = {
    "compiled": lambda: torch.compile(net(), backend="eager"),
    "a compiled part": lambda: nn.Sequential(torch.compile(net()[0], backend="eager"), nn.ReLU(), net()[2]),
    "averaged": lambda: AveragedModel(net()),
    "parallel": lambda: nn.DataParallel(net()),
    "both": lambda: torch.compile(nn.DataParallel(net()), backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_model_draws_the_masks_of_the_plain_one(wrap):
    plain, wrapped = Pruner(net(), DRAWN), Pruner(wrap(), DRAWN)
    assert list(wrapped.masks) == ["0.weight", "2.weight"]
    for name, mask in plain.masks.items():
        assert torch.equal(mask, wrapped.masks[name])
    wrapped.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_model_is_saved_under_the_plain_names(wrap, tmp_path):
    save(wrap(), tmp_path / "net.pcell")
    found = load(tmp_path / "net.pcell")
    assert found.keys() - {"n_averaged"} == net().state_dict().keys()
    x = torch.randn(3, 8)
    if "n_averaged" not in found:
        with pytest.warns(NothingSparseWarning):  # as small as it is
            assert torch.equal(compact_(wrap(), tmp_path / "net.pcell")(x), net()(x))


def test_plans_reach_weights_by_either_name():
    for name in ("0.weight", "_orig_mod.0.weight", "_orig_mod.0.*", "0.*"):
        assert list(Pruner(WRAPPED["compiled"](), {name: DRAWN}).masks) == ["0.weight"]


def test_a_module_of_ones_own_called_module_keeps_its_name():
    own = nn.Module()
    own.module = net()
    assert plain_names(own)["module.0.weight"] == "module.0.weight"


def test_a_parametrized_weight_is_called_by_its_name():
    layer = parametrizations.orthogonal(nn.Linear(4, 4))
    assert plain_names(layer) == {
        "bias": "bias",
        "parametrizations.weight.original": "weight",
        **{name: name for name in plain_names(layer) if ".0." in name},
    }
    normed = parametrizations.weight_norm(nn.Linear(4, 4))
    assert set(plain_names(normed).values()) == {"bias", "weight.original0", "weight.original1"}


def test_two_that_would_be_called_alike_keep_their_names():
    model = nn.Module()
    model.a = nn.DataParallel(nn.Linear(2, 2))
    model.a.register_parameter("weight", nn.Parameter(torch.ones(2, 2)))
    assert {"a.module.weight", "a.weight"} <= set(plain_names(model).values())


# ---- names that a file may hold


def test_every_character_that_is_shown_as_itself_may_be_in_a_name_and_no_other():
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        legal = letter.isprintable() or unicodedata.category(letter) == "Cn"  # what a later Unicode may give a meaning
        assert (why_illegal(f"a{letter}b") is None) == legal, hex(number)


@pytest.mark.parametrize("name", ["", " ", "[/b]", "a.b", "caf\u00e9", "\U0001f600", "[red]x[/red]", "x" * 100_000])
def test_names_that_could_always_be_saved_are_read_back(name, tmp_path):
    save({name: torch.ones(3)}, tmp_path / "net.pcell")
    assert list(load(tmp_path / "net.pcell")) == [name]


def test_the_name_of_the_metadata_is_no_name_of_a_tensor():
    assert why_illegal(METADATA)
