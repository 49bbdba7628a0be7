"""What a report says of the whole model is what can be counted in it."""

import json

import pytest
import torch
from torch import nn

from prunecell import IntSpec, Pruner, PruneSpec, Quantizer, Static
from prunecell.report import Report, WeightFacts


def tied():
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30, bias=False))
    model[2].weight = model[0].weight
    return model


def part_of_a_model():
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.LazyLinear(3))


def with_integers():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.int8), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("model", "plan", "n_parameters", "n_pruned"),
    [
        (nn.Linear(8, 8), ["*"], 72, 32),
        (tied(), ["*"], 30 * 8 + 72, 32),
        (tied(), ["0.weight"], 30 * 8 + 72, 120),
        (part_of_a_model(), ["2.*"], 72 + 16 + 72, 32),
        (with_integers(), ["*"], 144, 32),
    ],
    ids=["linear", "tied", "tied, named", "lazy", "integers"],
)
def test_the_sparsity_of_the_model_is_what_can_be_counted(model, plan, n_parameters, n_pruned):
    report = Pruner(model, {key: PruneSpec(schedule=Static(sparsity=0.5)) for key in plan}).report()
    assert report.n_parameters == n_parameters
    assert report.model_sparsity == n_pruned / n_parameters
    assert report.sparsity == 0.5
    assert json.loads(report.to_json())["model_sparsity"] == report.model_sparsity
    assert json.loads(report.to_json())["n_parameters"] == n_parameters


def test_it_stands_in_the_text_beside_that_of_the_prunable_part():
    facts = WeightFacts(
        name="fc.weight", shape=(10, 10), n_weights=100, n_kept=10, target_sparsity=0.9, filler="f", schedule="s",
        bytes_dense=400,
    )  # fmt: skip
    report = Report(weights=(facts,), n_parameters=1000, skipped=(("fc.bias", "a bias"),))
    assert "90.00%" in str(report)
    assert report.notes()[0] == "whole model: 9.00% sparse, 90 of 1,000 parameters"


def test_weights_that_are_not_connected_are_told():
    facts = WeightFacts(
        name="conv2.weight", shape=(16, 6, 5, 5), n_weights=1500, n_kept=10, target_sparsity=0.9, filler="f",
        schedule="s", bytes_dense=9600,
    )  # fmt: skip
    notes = Report(weights=(facts,), n_parameters=1516).notes()
    assert notes[1:] == ["not connected, so not counted as weights: 900 of conv2.weight"]


KEEPERS = {
    "pruned": lambda model: Pruner(model, PruneSpec(schedule=Static(sparsity=0.5))),
    "quantized": lambda model: Quantizer(model, IntSpec(bits=2)),
}


@pytest.mark.parametrize("done", KEEPERS)
def test_a_report_says_what_was_done_and_nothing_of_what_was_not(done):
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    report = KEEPERS[done](model).report()
    (other,) = KEEPERS.keys() - {done}
    assert f"not {done} (a bias): 0.bias" in report.notes()
    assert other not in str(report)
    assert json.loads(report.to_json())["done"] == done
    n_zeros = int((model[0].weight == 0).sum())
    assert n_zeros
    assert report.notes()[0].endswith(f"sparse, {n_zeros} of 88 parameters")
    assert [weight.target_sparsity for weight in report.weights] == [0.5 if done == "pruned" else None]


def test_an_empty_report_divides_by_nothing():
    assert Report(weights=(), n_parameters=0).model_sparsity == 0
