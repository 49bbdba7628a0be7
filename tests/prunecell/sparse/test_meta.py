"""meta_weights: a model whose parameters take no memory and whose buffers are computed."""

import pytest
import torch
from torch import nn

from prunecell import compact_, meta_weights, save

pytestmark = pytest.mark.usefixtures("everything_wins")


class Rotary(nn.Module):
    """Tied weights, a weight that is registered twice, buffers of each kind, an attribute."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(64, 64)
        self.fc = nn.Linear(64, 64)
        self.head = nn.Linear(64, 64, bias=False)
        self.head.weight = self.embed.weight
        once = nn.Parameter(torch.ones(64), requires_grad=False)
        self.a, self.b = once, once
        self.list = nn.ParameterList([torch.ones(64, 64)])
        self.register_buffer("frequencies", torch.arange(64.0), persistent=False)
        self.attribute = torch.full((64,), 0.5)

    def forward(self, x):
        y = self.fc(self.embed(x)) * self.a + self.b + self.frequencies.cos() + self.attribute
        return self.head(y @ self.list[0])


def test_parameters_take_no_memory_and_everything_else_is_computed():
    with meta_weights():
        empty, norm = Rotary(), nn.BatchNorm1d(8)
    real = Rotary()
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert [(n, p.shape, p.requires_grad) for n, p in empty.named_parameters()] == [
        (n, p.shape, p.requires_grad) for n, p in real.named_parameters()
    ]
    assert empty.head.weight is empty.embed.weight
    assert empty.a is empty.b
    assert torch.equal(empty.frequencies, torch.arange(64.0))
    assert torch.equal(norm.running_var, torch.ones(8))
    assert not any(parameter.is_meta for parameter in Rotary().parameters())


def test_it_ends_where_building_fails():
    with pytest.raises(ZeroDivisionError), meta_weights():
        nn.Linear(2 // 0, 2)
    assert not nn.Linear(2, 2).weight.is_meta


def test_such_a_model_is_loaded_from_a_file(tmp_path):
    torch.manual_seed(0)
    model, x = Rotary(), torch.randint(0, 64, (3, 5))
    nn.init.sparse_(model.fc.weight, 0.9)
    save(model, tmp_path / "model.pcell")
    with meta_weights():
        empty = Rotary()
    small = compact_(empty, tmp_path / "model.pcell")
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), atol=1e-3, rtol=1e-4)
    assert small.head.weight is small.embed.weight
    assert small.a is small.b
    assert not small.a.requires_grad
