"""The passes around a step, compiled and in torch, beside what they mean, element by element."""

import itertools
import math

import numpy as np
import pytest
import torch

from prunecell.quantization.passes import Pass
from prunecell.quantization.rules import BitPrice, IntRule, RateRule

SHAPES = [
    (1, 1),
    (3, 5),
    (7, 1100),
    (33, 16),
    (4, 3, 3, 3),
    (2, 300, 5),
    (2, 5, 2, 2, 2),
    (9,),
    (1,),
    (),
]
RULES = {"rate": lambda: RateRule(image=None), "int4": lambda: IntRule(largest=7), "int8": lambda: IntRule(largest=127)}


def made(shape, rule, *, fixed, dtype=torch.float32):
    """A weight that is a step times integers, with some latents that are exactly zero or large, and a gradient."""
    torch.manual_seed(0)
    weight = torch.randn(shape).to(dtype)
    step = rule.first_step(weight)
    latent = rule.latent_of(weight, step)
    latent[torch.rand(shape) < 0.2] = 0.0
    latent[torch.rand(shape) < 0.1] *= 50
    latent[torch.rand(shape) < 0.1] *= -1e9
    passed = Pass(weight=weight.clone(), latent=latent, step=step, rule=rule, fixed=fixed)
    passed.write_()
    if isinstance(rule, RateRule):
        rule.take_prices(rule.prices_of(rule.integers_of(latent.clamp(-9, 9), step)))
    return passed, torch.randn(shape).to(dtype)


def one_price(bits, prices, size, price):
    """Bits that one weight costs, a step away from where it is; `bits` are those of the first step from zero."""
    if price.lam == 0:
        return 0.0
    if prices is None:
        return 1.5 / size if size >= 1 else 0.0 if price.only_growth else 4.0
    if size >= 1 or price.only_growth:
        return prices.growth if size >= 1 else 0.0
    return min(max(bits, prices.low), prices.high)


def bits_of_one(prices, shape):
    """The bits of the first step from zero, element by element."""
    if prices is None:
        return np.zeros(shape)
    kernels = 0.0 if prices.kernels is None else prices.kernels
    return (prices.rows + prices.columns + kernels).double().reshape(shape).numpy()


def enter_slowly(passed, gradient, price):
    """What `enter_` returns, in double precision."""
    inner, of_step = np.zeros(gradient.shape), np.zeros(passed.step.shape)
    prices = getattr(passed.rule, "prices", None)
    bits_of, latents, gradients = bits_of_one(prices, gradient.shape), passed.latent.numpy(), gradient.numpy()
    steps = passed.step.expand(passed.weight.shape).numpy()
    for place in itertools.product(*map(range, gradient.shape)):
        latent, step, g = float(latents[place]), float(steps[place]), float(gradients[place])
        if isinstance(passed.rule, RateRule):
            bits = one_price(float(bits_of[place]), prices, abs(latent), price)
            bits = math.copysign(bits, latent) if latent else 0.0
            value, moves = g * step + price.lam * bits, g * step * round(latent)
        else:
            scaled = latent / step
            outside = abs(scaled) >= passed.rule.largest + 0.5
            integer = math.copysign(passed.rule.largest, scaled) if outside else round(scaled)
            value, moves = (0.0, g * step * integer) if outside else (g, g * step * (integer - scaled))
        inner[place] = 0.0 if passed.fixed and latent == 0 else value
        of_step[(place[0],) + (0,) * (of_step.ndim - 1) if of_step.ndim else ()] += moves
    return torch.tensor(inner), torch.tensor(of_step)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_before_a_step(level, shape, rule):  # noqa: ARG001 - which kernels run
    for fixed, price in itertools.product(
        (False, True),
        [BitPrice(lam=lam, only_growth=only) for lam in (0.0, 0.1, -0.1) for only in (False, True)],
    ):
        passed, gradient = made(shape, RULES[rule](), fixed=fixed)
        latent, kept = passed.latent.clone(), gradient.clone()
        wanted, wanted_of_step = enter_slowly(passed, gradient, price)
        inner, of_step = passed.enter_(gradient, price)
        assert torch.allclose(inner.double(), wanted, rtol=1e-5, atol=1e-6)
        assert torch.allclose(of_step.double(), wanted_of_step, rtol=1e-4, atol=1e-4 * float(latent.abs().sum()))
        assert of_step.shape == passed.step.shape
        assert torch.equal(passed.weight, latent)
        assert torch.equal(passed.latent, latent) or not fixed  # else its memory may be the gradient's until it is back
        assert torch.equal(gradient, kept)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_after_a_step(level, shape, rule):  # noqa: ARG001
    for fixed in False, True:
        passed, gradient = made(shape, RULES[rule](), fixed=fixed)
        before = passed.latent.clone()
        passed.weight.copy_(before + 0.3 * gradient)
        wanted = torch.where((before == 0) & fixed, 0.0, passed.weight)
        passed.leave_()
        assert torch.equal(passed.latent, wanted)
        scaled = wanted if isinstance(passed.rule, RateRule) else wanted / passed.step
        limit = math.inf if isinstance(passed.rule, RateRule) else passed.rule.largest
        assert torch.equal(passed.weight, scaled.round().clamp(-limit, limit) * passed.step)
        assert not (passed.weight.signbit() & (passed.weight == 0)).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_that_others_wrote_have_new_latents(level, shape, rule):  # noqa: ARG001
    passed, gradient = made(shape, RULES[rule](), fixed=False)
    before, written = passed.latent.clone(), passed.weight.clone()
    other = torch.rand(shape) < 0.1
    passed.weight[other] = 0.7
    changed = passed.weight != written
    passed.enter_(gradient, BitPrice(lam=0.0, only_growth=False))
    wanted = torch.full(shape, 0.7) if isinstance(passed.rule, IntRule) else torch.full(shape, 0.7) / passed.step
    assert torch.equal(passed.weight, torch.where(changed, wanted, before))
    passed.leave_()
    assert torch.equal(passed.latent, torch.where(changed, wanted, before))
