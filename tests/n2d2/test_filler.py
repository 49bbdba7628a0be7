import math

import pytest
import torch

from n2d2.cells import Conv, Fc
from n2d2.error_handler import WrongInputType
from n2d2.filler import FILLERS, Constant, He, Normal, Uniform, Xavier

SHAPE = (50, 20, 5, 5)
FAN = {"FanIn": 20 * 25, "FanOut": 50 * 25, "Average": 35 * 25}


def filled(filler):
    torch.manual_seed(0)
    weight = torch.empty(SHAPE)
    filler(weight)
    return weight


@pytest.mark.parametrize("norm", FAN)
@pytest.mark.parametrize(
    ("kind", "gain", "options"),
    [(He, 2, {}), (Xavier, 1, {}), (Xavier, 1, {"distribution": "Normal"})],
)
def test_variances_are_normalised(kind, gain, options, norm):
    weight = filled(kind(variance_norm=norm, scaling=3.0, **options))
    assert weight.std().item() == pytest.approx(3 * math.sqrt(gain / FAN[norm]), rel=0.02)
    assert abs(weight.mean().item()) < 0.01


def test_simple_fillers():
    assert (filled(Constant(value=0.25)) == 0.25).all()
    assert filled(Normal(mean=1.0, std_dev=0.5)).mean().item() == pytest.approx(1, abs=0.01)
    weight = filled(Uniform(min=-2.0, max=6.0))
    assert weight.min() >= -2
    assert weight.max() <= 6
    assert weight.mean().item() == pytest.approx(2, abs=0.05)
    assert not filled(He(scaling=0)).any()
    mean = filled(He(mean_norm=50.0, scaling=2.0, variance_norm="FanOut")).mean().item()
    assert mean == pytest.approx(2 * 50 / FAN["FanOut"], abs=0.002)
    assert filled(Xavier()).abs().max() <= math.sqrt(3 / FAN["FanIn"])


@pytest.mark.parametrize("name", FILLERS)
def test_every_filler_fills_biases_too(name):
    bias = torch.full((7,), math.nan)
    FILLERS[name]()(bias)
    assert bias.isfinite().all()


def test_cells_are_filled_when_made_and_when_told():
    cell = Conv(1, 4, [3, 3], weights_filler=Constant(value=1.0), bias_filler=Constant(value=2.0))
    assert (cell.weight == 1).all()
    assert (cell.bias == 2).all()
    cell.filler = Constant(value=4.0)
    assert (cell.weight == 1).all()
    cell.refill_weights()
    assert (cell.weight == 4).all()
    assert (cell.bias == 2).all()


def test_only_fillers_are_fillers():
    with pytest.raises(WrongInputType, match="weights_filler='He' is illegal"):
        Fc(2, 2, weights_filler="He")
    with pytest.raises(ValueError, match="variance_norm='FanIm' is illegal; did you mean 'FanIn'"):
        He(variance_norm="FanIm")
