"""What a parameter is to a computed weight is found out by trial, which changes nothing and draws nothing."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from prunecell.plan.computed import origin_of


class RowsAndKernels(nn.Module):
    """Each kernel of a convolution is divided by its own norm."""

    def forward(self, x):
        return x / x.norm(dim=(2, 3), keepdim=True)


class Dropped(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class Fussy(nn.Module):
    """Takes weights without a zero only."""

    def forward(self, x):
        if (x == 0).any():
            raise ValueError("a zero")
        return x


def origin(layer, name="original"):
    module = layer.parametrizations.weight
    return origin_of(module, name, getattr(module, name))


def computed(layer, parametrization):
    return parametrize.register_parametrization(layer, "weight", parametrization)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, None])
def test_weight_norm_divides_along_its_dimension(dim):
    found = origin(parametrizations.weight_norm(nn.Conv2d(4, 5, (2, 3)), dim=dim), "original1")
    # -1 is torch's own word for the whole weight
    assert found.normed == (() if dim in {None, -1} else (dim,))
    assert found.reason == ""


def test_the_finest_slices_are_found():
    assert origin(computed(nn.Conv2d(4, 5, 3), RowsAndKernels())).normed == (0, 1)


def test_what_divides_by_nothing_has_no_slices():
    found = origin(computed(nn.Linear(4, 5), Dropped()))
    assert (found.reason, found.normed) == ("", None)


def test_what_refuses_zeros_does_not_stand_for_the_weight():
    assert "no zeros of the weight" in origin(computed(nn.Linear(4, 5), Fussy())).reason


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [parametrizations.spectral_norm, lambda m: computed(m, Dropped())])
def test_a_trial_changes_nothing_and_draws_nothing(make, training):
    layer = make(nn.Linear(4, 5)).train(training)
    before, state = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    origin(layer)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_trial_works_in_every_dtype(dtype):
    assert origin(parametrizations.weight_norm(nn.Linear(4, 5, dtype=dtype)), "original1").normed == (0,)


def test_the_answer_does_not_depend_on_what_was_trained():
    class Update(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.zeros(5, 4))

        def forward(self, x):
            return x + self.up

    layer = computed(nn.Linear(4, 5), Update())
    at_first = origin(layer)
    layer.parametrizations.weight[0].up.data += 1
    assert origin(layer) == at_first
    assert at_first.reason
