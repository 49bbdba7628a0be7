"""Laws of smaller layers: shapes explain them, or are refused by name; nothing is changed then."""

import copy

import pytest
import torch
from torch import nn

from prunecell import Pruner, PruneSpec, Static, load_model, save
from prunecell.errors import FormatError, OptionError, OptionTypeError, StateError
from prunecell.structured.resizing import resize_

LAYERS = {
    "linear": lambda n: nn.Linear(n, n + 1),
    "without bias": lambda n: nn.Linear(n, n + 1, bias=False),
    "convolution": lambda n: nn.Conv2d(n, n + 1, 3),
    "one dimension": lambda n: nn.Conv1d(n, n + 1, 3, bias=False),
    "transposed": lambda n: nn.ConvTranspose2d(n, n + 1, 3),
    "transposed with groups": lambda n: nn.ConvTranspose2d(2 * n, 4 * n, 3, groups=2),
    "depthwise": lambda n: nn.Conv2d(n, n, 3, groups=n),
    "groups": lambda n: nn.Conv2d(2 * n, 4 * n, 3, groups=2),
    "batch norm": nn.BatchNorm2d,
    "without gains": lambda n: nn.BatchNorm1d(n, affine=False),
    "layer norm": nn.LayerNorm,
    "rms norm": nn.RMSNorm,
    "group norm": lambda n: nn.GroupNorm(2, 2 * n),
    "prelu": nn.PReLU,
    "embedding": lambda n: nn.Embedding(7, n),
    "attention": lambda n: nn.MultiheadAttention(4 * n, 4),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_made_as_small_as_its_file(kind, tmp_path):
    small, model = LAYERS[kind](3), LAYERS[kind](6)
    save(small, tmp_path / "small.pcell")
    assert load_model(tmp_path / "small.pcell", model) is model
    assert repr(model) == repr(small)
    numbers = {name: value for name, value in vars(small).items() if not name.startswith("_")}
    assert {name: vars(model)[name] for name in numbers} == numbers
    for name, tensor in small.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_what_has_its_size_stays_the_same_parameter(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    save(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2)), tmp_path / "small.pcell")
    before = list(model.parameters())
    model[0].weight.requires_grad_(requires_grad=False)
    load_model(tmp_path / "small.pcell", nn.DataParallel(model))
    assert [a is b for a, b in zip(before, model.parameters(), strict=True)] == [False, False, False, True]
    assert not model[0].weight.requires_grad


def test_tied_weights_stay_tied(tmp_path):
    def net(n):
        model = nn.Sequential(nn.Embedding(7, n), nn.Linear(n, 7, bias=False))
        model[1].weight = model[0].weight
        return model

    save(net(3), tmp_path / "small.pcell")
    model = load_model(tmp_path / "small.pcell", net(6))
    assert model[1].weight is model[0].weight
    assert model[1].in_features == 3


REFUSED = {
    "larger": (nn.Linear(2, 2), nn.Linear(3, 2), r"weight is of shape \(2, 2\), which cannot become \(2, 3\)"),
    "another kernel": (nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1), r"its kernels are of \(3, 3\), not of \(1, 1\)"),
    "other dimensions": (nn.Conv2d(2, 2, 3), nn.Conv1d(2, 2, 3), "cannot become"),
    "fewer words": (nn.Embedding(7, 2), nn.Embedding(5, 2), "it has 7 embeddings, not 5"),
    "no whole groups": (nn.GroupNorm(2, 4), nn.GroupNorm(1, 3), "3 channels cannot be split in 2 groups"),
    "no whole heads": (nn.MultiheadAttention(8, 4), nn.MultiheadAttention(6, 2), "is not that of 4 heads"),
    "recurrent": (nn.LSTM(4, 4), nn.LSTM(3, 3), "recurrent layers have no smaller form here"),
    "parametrized": (
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
        nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)),
        "a parametrization computes the weight from it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shapes_that_no_smaller_layer_has_are_refused(case, tmp_path):
    layer, small, message = REFUSED[case]
    model = nn.Sequential(nn.Linear(4, 4), layer)
    save(nn.Sequential(nn.Linear(2, 4), small), tmp_path / "small.pcell")
    before = copy.deepcopy(model)
    with pytest.raises(StateError, match=f"the shapes cannot be those of a smaller Sequential: 1.*: .*{message}"):
        load_model(tmp_path / "small.pcell", model)
    assert repr(model) == repr(before)
    for a, b in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b)


def test_tensors_of_a_layer_that_do_not_fit_each_other_are_refused():
    model = nn.Linear(4, 4)
    with pytest.raises(StateError, match="Linear: its tensors are of 3, 4 outputs"):
        resize_(model, {"weight": torch.Size([3, 4])})
    assert model.out_features == len(model.weight) == 4


def test_other_names_are_refused(tmp_path):
    save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "other.pcell")
    with pytest.raises(StateError, match="is of other parameters: it lacks 'weight', 'bias', and it has '0"):
        load_model(tmp_path / "other.pcell", nn.Linear(2, 2))
    with pytest.raises(OptionTypeError, match="model is a type"):
        load_model(tmp_path / "other.pcell", nn.Linear)
    (tmp_path / "other.pcell").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        load_model(tmp_path / "other.pcell", nn.Linear(2, 2))


def test_a_model_that_cannot_hold_the_file_is_refused(tmp_path):
    save(nn.Linear(2, 3), tmp_path / "small.pcell")
    with pytest.raises(StateError, match="model is on the meta device"):
        load_model(tmp_path / "small.pcell", nn.Linear(4, 3, device="meta"))
    model = nn.Linear(4, 3)
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    with pytest.raises(OptionError, match="'weight' cannot be made smaller: it has a hook, as of a Pruner"):
        load_model(tmp_path / "small.pcell", model)
    assert model.weight.shape == (3, 4)
    pruner.finalize()


class Tied(nn.Module):
    """Two layers, of one weight or of two."""

    def __init__(self, width, *, tied):
        super().__init__()
        self.there, self.back = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        if tied:
            self.back.weight = self.there.weight


@pytest.mark.parametrize("width", [4, 3])
def test_two_weights_where_the_model_has_one_are_refused_if_they_differ(tmp_path, width):
    stored, model = Tied(width, tied=False), Tied(4, tied=True)
    save(stored, tmp_path / "two.pcell")
    before = model.there.weight.clone()
    with pytest.raises(StateError, match=r"^'there\.weight' and 'back\.weight' are one tensor of the model, and two"):
        load_model(tmp_path / "two.pcell", model)
    assert torch.equal(model.there.weight, before)
    with torch.no_grad():
        stored.back.weight.copy_(stored.there.weight)
    save(stored, tmp_path / "two.pcell")
    load_model(tmp_path / "two.pcell", model)
    assert model.back.weight is model.there.weight
    assert torch.equal(model.back.weight, stored.back.weight)
