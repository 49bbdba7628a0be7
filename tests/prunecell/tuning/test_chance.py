"""A model that is not trained is doubted, one that is trained is not, by accuracy and by loss."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.tuning.chance import doubt
from prunecell.tuning.quality import Allowance, Judge
from prunecell.tuning.search import in_turn
from prunecell.tuning.strategies import OneShot


def judge(batches, **how):
    settings = {"allowance": Allowance(max_drop=1), "metric": pc.evaluate, "loss": F.cross_entropy} | how
    return Judge(validation=lambda: batches, **settings)


def doubted(model, batches, **how):
    one = judge(batches, **how)
    return doubt(one, model, one(model))


def fresh(outputs=4):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, outputs))


@torch.no_grad()
def squares(model, batches):
    return -sum(float((model(x) - y).square().mean()) for x, y in batches)


WAYS = {
    "accuracy": {},
    "loss": {"allowance": Allowance(max_rise=0.1)},
    "metric": {"metric": lambda model, batches: pc.evaluate(model, batches) - 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_trained_model_is_not_doubted_and_an_untrained_one_is(trained, data, way):
    by_class = [*data["validation"]]
    by_class.sort(key=lambda batch: int(batch[1].sum()))
    for batches in (data["validation"], by_class):
        assert doubted(copy.deepcopy(trained), batches, **WAYS[way]) is None
        assert doubted(fresh(), batches, **WAYS[way])


def test_batches_of_one_class_each_say_the_same(trained, data):
    x, y = (torch.cat(part) for part in zip(*data["validation"], strict=True))
    batches = [(x[y == label], y[y == label]) for label in range(4)]
    assert doubted(copy.deepcopy(trained), batches, **WAYS["loss"]) is None
    assert doubted(fresh(), batches, **WAYS["loss"])


@pytest.mark.parametrize(
    ("n_classes", "accuracy", "is_doubted"),
    [
        (2, 0.5, True),
        (2, 0.54, True),
        (2, 0.58, False),
        (10, 0.1, True),
        (10, 0.18, True),
        (10, 0.25, False),
        (1000, 0.001, True),
        (1000, 0.08, False),  # better than chance by far
    ],
)
def test_how_much_better_than_chance_is_enough(n_classes, accuracy, is_doubted):
    labels = torch.arange(20_000) % n_classes
    answers = torch.where(torch.arange(20_000) < accuracy * 20_000, labels, (labels + 1) % n_classes)
    batches = [
        (F.one_hot(part, n_classes).float(), y) for part, y in zip(answers.split(1000), labels.split(1000), strict=True)
    ]
    assert bool(doubted(nn.Identity(), batches)) == is_doubted


def test_a_rare_class_that_is_never_found_is_told():
    labels = torch.tensor([0] * 99 + [1, -100])
    batches = [(F.one_hot(labels.clamp(0) * 0, 2).float(), labels)]
    why = doubted(nn.Identity(), batches)
    assert (
        "accuracy is 99.00%, and always answering the commonest of 2 labels (0) would give 99.00% on the same 100"
        in why
    )


def test_a_regression_is_compared_with_its_mean():
    torch.manual_seed(0)
    x = torch.randn(200, 12)
    batches = [*zip(x.split(50), (x[:, :2] * 3 + 100).split(50), strict=True)]
    how = {"allowance": Allowance(max_rise=0.1), "loss": F.mse_loss}
    why = doubted(fresh(2), batches, **how)
    assert "if it gave all 200 samples the same output, the mean of its own: is the model trained" in why
    exact = nn.Linear(12, 2)
    with torch.no_grad():
        exact.weight.copy_(3 * torch.eye(2, 12))
        exact.bias.fill_(100.1)
    assert doubted(exact, batches, **how) is None
    assert doubted(exact, batches, metric=squares, loss=F.mse_loss) is None


@pytest.mark.parametrize("outputs", [lambda x: [x, x], lambda x: x[:, : 1 + int(x[0, 0] > 0)]], ids=["lists", "shapes"])
def test_outputs_without_a_mean_are_not_doubted(outputs):
    class Odd(nn.Module):
        def forward(self, x):
            return outputs(x)

    batches = [(torch.full((4, 3), 1.0 - 2 * n), torch.zeros(4)) for n in range(2)]
    how = {"allowance": Allowance(max_rise=0.1), "loss": lambda *_: torch.tensor(1.0)}
    assert doubted(Odd(), batches, **how) is None


def deeper(*asked):
    """An engine of the user's own."""

    def even_deeper():
        return in_turn(*asked)

    return even_deeper()


@pytest.mark.parametrize("engine", [in_turn, deeper])
def test_tune_warns_in_the_line_that_calls_it_before_it_begins_and_not_when_it_goes_on(data, tmp_path, engine):
    settings = {"max_drop": 90, "epochs": 1, "strategies": [OneShot()], "folder": tmp_path, "watch": None}
    settings["engine"] = engine
    here = inspect.currentframe().f_lineno + 2
    with pytest.warns(UserWarning, match=r"the dense model's accuracy is .*is the model trained") as told:
        pc.tune(fresh(), **data, **settings)
    assert [(one.filename, one.lineno) for one in told] == [(__file__, here)]
    assert math.isfinite(pc.tune(fresh(), **data, **settings).ratio)
