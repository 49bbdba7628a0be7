"""Sensitivity: each layer alone, and the plan that follows from it."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from prunecell import Cubic, Pruner, PruneSpec, Static, sensitivity
from prunecell.errors import OptionError, OptionTypeError, PlanError
from prunecell.report.picture import new_figure
from prunecell.training.accuracy import evaluate
from prunecell.tuning.layers import LADDER


@pytest.fixture(scope="module")
def found(trained, data):
    return sensitivity(trained, data["validation"])


def test_each_weight_alone_is_pruned_by_magnitude(trained, data, found):
    """Against a slow twin."""
    for name in ("0.weight", "2.weight"):
        for at, sparsity in enumerate(LADDER):
            twin = copy.deepcopy(trained)
            weight = twin.get_parameter(name)
            order = weight.detach().abs().flatten().argsort()
            with torch.no_grad():
                weight.flatten()[order[: int(np.ceil(sparsity * weight.numel() - 1e-9))]] = 0
                loss = sum(float(nn.functional.cross_entropy(twin(x), y)) for x, y in data["validation"])
            assert found.losses[name][at] == pytest.approx(loss / len(data["validation"]), rel=1e-4)


def test_the_model_is_not_changed(trained, data):
    model = copy.deepcopy(trained).train()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        pruner = Pruner(model, {"0.weight": PruneSpec(schedule=Static(sparsity=0.0))})  # it may be in use
    sensitivity(model, data["validation"], sparsities=(0.9,))
    pruner.finalize()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.6, 0.9, 0.99])
def test_a_plan_has_the_sparsity_that_was_asked_for(trained, found, sparsity):
    plan = found.plan(sparsity)
    if sparsity:
        pruner = Pruner(copy.deepcopy(trained), plan)
        total = pruner.finalize()
        n = sum(found.n_weights.values())
        assert (total.n_weights - total.n_kept) / n == pytest.approx(sparsity, abs=0.01)
    else:
        assert set(plan.values()) == {None}


def test_a_plan_is_better_than_one_sparsity_for_all(trained, data, found):
    accuracies = []
    for plan in (found.plan(0.8), PruneSpec(schedule=Static(sparsity=0.8))):
        twin = copy.deepcopy(trained)
        Pruner(twin, plan).finalize()
        accuracies.append(evaluate(twin, data["validation"]))
    assert accuracies[0] >= accuracies[1]


def test_a_plan_takes_a_schedule(found):
    plan = found.plan(0.5, schedule=lambda sparsity: Cubic(sparsity=sparsity, steps=10))
    assert all(isinstance(spec.schedule, Cubic) for spec in plan.values() if spec)


def test_it_prints_as_a_table_and_draws_a_picture(found, tmp_path, monkeypatch):
    monkeypatch.setattr("prunecell.tuning.layers.can_draw", lambda: True)
    text = str(found)
    assert text.splitlines()[0].split()[:4] == ["weight", "weights", "0.5", "0.7"]
    assert "768" in text
    found.draw(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match="must not have the ending"):
        found.draw(tmp_path / "layers.pcell")
    with pytest.raises(OptionError, match=r"a picture is a PNG file: let its name end in \.png, not in '\.xyz'"):
        found.draw(tmp_path / "layers.xyz")


def test_what_is_wrong_is_refused(trained, data, found):
    batches = data["validation"]
    for ladder in ((), (0.5, 0.5), (0.9, 0.5), (0.5, 1.5)):
        with pytest.raises(OptionError, match="sparsities="):
            sensitivity(trained, batches, sparsities=ladder)
    with pytest.raises(OptionError, match="batches is a generator, which can be gone through only once"):
        sensitivity(trained, (batch for batch in batches))
    with pytest.raises(PlanError, match="nothing to prune in ReLU"):
        sensitivity(nn.ReLU(), batches)
    with pytest.raises(OptionTypeError, match="model is an int"):
        sensitivity(3, batches)
    with pytest.raises(OptionError, match=r"sparsity=0.999 is illegal: the ladder ends at 0.99"):
        found.plan(0.999)
    with pytest.raises(OptionError, match=r"sparsity=90 is illegal.*90 % is 0.9"):
        found.plan(90)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 100.0])
def test_the_losses_of_its_picture_are_plain_numbers(found, tmp_path, monkeypatch, scale):
    figures = []
    monkeypatch.setattr("prunecell.tuning.layers.can_draw", lambda: True)
    monkeypatch.setattr(
        "prunecell.tuning.layers.new_figure", lambda *size: figures.append(new_figure(*size)) or figures[0]
    )
    losses = {name: tuple(scale * loss for loss in of) for name, of in found.losses.items()}
    replace(found, loss=scale * found.loss, losses=losses).draw(tmp_path / "a.png")
    axis = figures[0].axes[0].yaxis
    told = [label.get_text() for label in (*axis.get_majorticklabels(), *axis.get_minorticklabels())]
    assert any(told)
    assert all(re.fullmatch(r"[\d.,]*", text) for text in told)
