"""The bias of a sparse layer may become what that of a dense one may become."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from prunecell.errors import OptionError
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.layers import SparseLinear

pytestmark = pytest.mark.usefixtures("everything_wins", "level")


class Negated(nn.Module):
    def forward(self, bias):
        return -bias


def pruned(layer):
    prune.l1_unstructured(layer, "bias", amount=0.5)
    return layer.bias_orig


def parametrized(layer):
    parametrize.register_parametrization(layer, "bias", Negated())
    return layer.parametrizations.bias.original


def attribute(layer):
    bias = layer.bias.detach().clone()
    del layer.bias
    layer.bias = bias
    return bias


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6)), (5, 16)),
    "linear, one sample": (lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6)), (1, 16)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3)), (2, 8, 9, 9)),
}


def both(name):
    make, shape = MODELS[name]
    dense, x = make().eval(), torch.randn(shape)
    for weight in dense.parameters():
        weight.requires_grad_(requires_grad=False)
        if weight.ndim > 1:
            weight.mul_(torch.rand_like(weight) < 0.3)
    return dense, compact_(copy.deepcopy(dense)), x


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("change", [pruned, parametrized, attribute])
@pytest.mark.parametrize("name", MODELS)
def test_a_bias_that_is_made_of_another_is_asked_for_in_every_call(name, change, number):
    dense, sparse, x = both(name)
    torch.testing.assert_close(sparse(x), dense(x))  # what was made for calls then serves no longer
    of_each = [change(model[number]) for model in (dense, sparse)]
    for _ in range(3):
        torch.testing.assert_close(sparse[number](dense[:number](x)), dense[number](dense[:number](x)))
        torch.testing.assert_close(sparse(x), dense(x))
        for model, bias in zip((dense, sparse), of_each, strict=True):
            bias.mul_(2)
            if change is pruned:
                assert "bias" in vars(model[number])


@pytest.mark.parametrize("make", [lambda: nn.Linear(16, 8), lambda: nn.Conv2d(8, 8, 3)])
def test_a_bias_that_does_not_lie_in_a_row_is_copied(make):
    dense = make()
    for weight in dense.parameters():
        weight.requires_grad_(requires_grad=False)
    dense.weight.mul_(torch.rand_like(dense.weight) < 0.3)
    dense.bias = nn.Parameter(torch.randn(16)[::2], requires_grad=False)
    x = torch.randn((2, 16) if isinstance(dense, nn.Linear) else (2, 8, 5, 5))
    expected = dense(x)
    torch.testing.assert_close(compact_(nn.Sequential(dense))(x), expected)


@pytest.mark.parametrize(
    ("bias", "fact"),
    [
        (torch.zeros(1), r"bias must be 8 numbers in a row, not of shape \(1,\)"),
        (torch.zeros(16)[::2], r"bias must be 8 numbers in a row, not with a stride of 2: call bias.contiguous\(\)"),
    ],
)
def test_a_bias_that_no_kernel_reads_is_refused(bias, fact):
    layer = SparseLinear(compress(torch.randn(8, 16)), torch.randn(8))
    layer.bias.data = bias
    with pytest.raises(OptionError, match=fact):
        layer(torch.randn(2, 16))
