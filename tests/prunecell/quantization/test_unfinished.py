"""A Quantizer that lets go says what was not reached, once, and nothing where nothing was missed."""

import copy
import re

import pytest
import torch
from torch import nn

from prunecell import IntSpec, Quantizer, RateSpec
from prunecell.errors import OptionError, UnfinishedWarning

SPECS = {
    "20 steps": RateSpec(lam=1e-4, steps=20),
    "80 samples": RateSpec(lam=1e-4, samples=80),
    "2 epochs": RateSpec(lam=1e-4, epochs=2),
}


def trained(spec, n_steps, told=lambda _: True):
    """A Quantizer after steps of 4 samples, 10 an epoch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    quantizer = Quantizer(model, spec, epoch_size=40)
    optimizer = torch.optim.Adam(quantizer.param_groups(lr=1e-3))
    quantizer.attach(optimizer)
    for step in range(n_steps):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        if told(step):
            quantizer.step(4)
    return quantizer


def warned(quantizer):
    with pytest.warns(UnfinishedWarning) as caught:
        quantizer.finalize()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    quantizer.finalize()
    return str(caught[0].message)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("n_steps", [16, 20, 25])
def test_where_zeros_are_fixed_nothing_was_missed(spec, n_steps):
    trained(spec, n_steps).finalize()


@pytest.mark.parametrize("whole", SPECS)
@pytest.mark.parametrize(("n_steps", "now", "price"), [(4, "4 16 0.4", 50), (12, "12 48 1.2", 100)])
def test_before_that_it_is_told_where_the_training_stands(whole, n_steps, now, price):
    stands = dict(zip(SPECS, now.split(), strict=True))[whole]
    told = warned(trained(SPECS[whole], n_steps))
    assert f"stands at {stands} of {whole}, the price of a bit at {price}%, and zeros" in told
    assert told.endswith("train on, or give the spec a shorter training")
    trained(SPECS[whole], n_steps).finalize(early=True)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize(
    ("n_steps", "told", "message"),
    [
        (0, lambda _: True, r"quantizer\.step\(n_samples\) was never called: call it after each"),
        (30, lambda _: False, r"quantizer\.step\(n_samples\) was never called in 30 steps of the optimizer"),
        (30, lambda n: not n % 10, r"quantizer\.step\(n_samples\) was called 3 times in 30 steps of the optimizer"),
    ],
    ids=["untrained", "never", "seldom"],
)
def test_steps_that_it_was_not_told_of_are_counted(spec, n_steps, told, message):
    assert re.search(message, warned(trained(spec, n_steps, told)))


def _loaded(quantizer):
    fresh = trained(SPECS["20 steps"], 0)
    fresh.load_state_dict(quantizer.state_dict())
    return fresh


@pytest.mark.parametrize("way", [_loaded, copy.deepcopy])
def test_what_was_told_before_a_run_went_on_is_known(way):
    quantizer = way(trained(SPECS["20 steps"], 12))
    assert re.search("stands at 12 of 20 steps, .*: train on, or give the spec a shorter training$", warned(quantizer))


def test_few_bits_wait_for_nothing():
    trained(IntSpec(bits=4), 0).finalize()
    trained(IntSpec(bits=4), 120, lambda _: False).finalize()


def test_an_epoch_size_in_batches_and_samples_that_are_steps_are_seen():
    quantizer = trained(RateSpec(lam=1e-6, epochs=2), 0)
    with pytest.raises(OptionError, match=r"a step of 100 samples is more than epoch_size=40: epoch_size counts"):
        quantizer.step(100)
    assert quantizer.state_dict()["steps"] == 0
    quantizer.attach(torch.optim.SGD(quantizer.parameters(), lr=0.0))
    for _ in range(20):
        quantizer.step(1)
    assert warned(quantizer).endswith("20 samples in 20 steps: give the samples of the batch, len(x)")
