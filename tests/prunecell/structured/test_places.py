"""Units go only where the model is the same when they change places, so no column of others goes with them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell.structured import RemoveSpec, remove_
from prunecell.structured.coupled import Twin
from prunecell.structured.places import Place, distance, mixed_, tensors_of
from prunecell.structured.resizing import resize_

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions and a last layer, with a forward that is given."""

    def __init__(self, forward, second=None, n_columns=8):
        super().__init__()
        self.way = forward
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), second or nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.scale = nn.Linear(n_columns, 3), nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        return self.last(self.way(self, x))


def shuffled(x):
    return x.view(len(x), 2, 4, 6, 6).transpose(1, 2).reshape(x.shape)


def pooled(x):
    return torch.relu(x).mean((2, 3))


WHY = "the model computes something else when they change places"
SCALES = torch.linspace(1, 2, 8).view(8, 1, 1)
TANGLED = {
    "shuffle": lambda: Net(lambda m, x: pooled(m.b(shuffled(m.a(x))))),
    "torch's shuffle": lambda: Net(lambda m, x: pooled(m.b(F.channel_shuffle(m.a(x), 2)))),
    "flip": lambda: Net(lambda m, x: pooled(m.b(m.a(x).flip(1)))),
    "roll": lambda: Net(lambda m, x: pooled(m.b(m.a(x).roll(3, 1)))),
    "order": lambda: Net(lambda m, x: pooled(m.b(m.a(x)[:, [1, 0, 2, 3, 5, 4, 7, 6]]))),
    "input beside": lambda: Net(lambda m, x: pooled(m.b(torch.cat([x, m.a(x)], 1))), nn.Conv2d(11, 8, 3)),
    "branches": lambda: Net(
        lambda m, x: torch.cat([m.a(x).flatten(1), m.b(x).flatten(1)], 1), nn.Conv2d(3, 4, 3, padding=1), 12 * 36
    ),
    "channels last": lambda: Net(lambda m, x: m.a(x).permute(0, 2, 3, 1).flatten(1), n_columns=8 * 36),
    "stack": lambda: Net(lambda m, x: torch.stack([pooled(m.a(x)), pooled(m.b(m.a(x)))], 1).flatten(1), n_columns=16),
    "neighbours": lambda: Net(
        lambda m, x: F.max_pool1d(pooled(m.b(x)).unsqueeze(1), 3, 1, 1).squeeze(1), nn.Conv2d(3, 8, 3)
    ),
    "running sum": lambda: Net(lambda m, x: pooled(m.b(m.a(x).cumsum(1)))),
    "numbers": lambda: Net(lambda m, x: pooled(m.b(m.a(x) * SCALES))),
    "groups": lambda: Net(lambda m, x: pooled(m.b(F.group_norm(m.a(x), 4)))),
}
STRAIGHT = {
    "chain": lambda: Net(lambda m, x: pooled(m.b(m.a(x)))),
    "columns": lambda: Net(lambda m, x: m.b(m.a(x)).flatten(1), n_columns=8 * 36),
    "scaled": lambda: Net(lambda m, x: pooled(m.b(m.a(x) * m.scale))),
    "added": lambda: Net(lambda m, x: pooled(m.b(y := m.a(x)) + y)),
    "beside": lambda: Net(lambda m, x: torch.cat([pooled(y := m.a(x)), pooled(m.b(y))], 1), n_columns=16),
}


@pytest.mark.parametrize("name", TANGLED | STRAIGHT)
def test_a_smaller_model_is_the_model_with_zeros(name):
    torch.manual_seed(0)
    model = (TANGLED | STRAIGHT)[name]().eval()
    twin = Twin(model, X)
    assert (WHY in twin.left.values()) == (name in TANGLED)
    kept = twin.remove({group.root: torch.randperm(group.n_units)[: group.n_units // 2] for group in twin.groups})
    small = copy.deepcopy(model)
    resize_(small, {leaf: index.shape for leaf, index in kept.items()})
    for leaf, index in kept.items():
        tensors_of(small)[leaf].data.copy_(tensors_of(model)[leaf].flatten()[index])
        stays = torch.zeros(tensors_of(model)[leaf].numel()).index_fill_(0, index.flatten(), 1)
        tensors_of(model)[leaf].data.mul_(stays.view(tensors_of(model)[leaf].shape))
    torch.testing.assert_close(small(X), model(X))


def test_zeros_hide_no_shuffle():
    model = TANGLED["shuffle"]()
    nn.init.zeros_(model.b.weight)
    assert Twin(model, X).left["a"] == WHY


def test_all_tensors_are_as_they_were_after_a_trial():
    weight = torch.arange(12.0).view(3, 4)
    before = weight.clone()
    place = Place(tensor=weight, dim=1, positions=torch.tensor([[0, 1], [2, 3]]))
    with mixed_([([place], torch.tensor([1, 0]))]):
        assert distance([before], [weight]) > 1
        assert distance([before.sum(1)], [weight.sum(1)]) <= 1
    assert torch.equal(weight, before)


class Together(nn.Module):
    """One matrix that is of two layers, whose units are added."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 8, bias=False), nn.Linear(6, 8, bias=False), nn.Linear(8, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.last(torch.relu(self.a(x) + self.b(x.flip(0))))


def test_tied_layers_become_smaller_together():
    model = Together()
    removal = remove_(model, RemoveSpec(sparsity=0.5), torch.randn(2, 6))
    assert list(removal.units.values()) == [(8, 4)]
    assert model.a.weight is model.b.weight
    assert model.a.weight.shape == (4, 6)


def test_units_that_are_followed_in_circles_are_left(monkeypatch):
    """Torch-pruning does not come to an end at the rotary positions of Llama."""
    monkeypatch.setattr("prunecell.structured.coupled._MOST_TURNS", 0)
    twin = Twin(STRAIGHT["chain"](), X)
    assert twin.groups == []
    assert set(twin.left.values()) == {"how they go on is not known"}


def test_what_has_no_gradient_is_overlooked_among_what_is_returned():
    model = Net(lambda m, x: pooled(m.b(m.a(x))))
    model.register_forward_hook(lambda *given: {"logits": given[-1], "cache": object(), "classes": given[-1].argmax(1)})
    assert remove_(model, RemoveSpec(sparsity=0.5), X).units == {"b": (8, 4), "a": (8, 4)}
