"""The default plan: every sparsity can be had, small layers stay dense, and no layer dies."""

import pytest
import torch
from torch import nn

from prunecell import Pruner, default_plan
from prunecell.errors import OptionError, PlanError
from prunecell.schedules import Static
from prunecell.tuning.defaults import RATES, fastest, plan_of
from prunecell.tuning.loaders import Stream
from prunecell.tuning.pasted import as_text

NETS = {
    "one small layer": lambda: nn.Linear(8, 4),
    "mlp": lambda: nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 200), nn.Linear(200, 4)
    ),
    "attention": lambda: nn.TransformerEncoderLayer(16, 2, 64),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.97, 0.99, 1.0])
def test_every_sparsity_can_be_had(net, sparsity):
    torch.manual_seed(0)
    model = NETS[net]()
    report = Pruner(model, plan_of(model, sparsity, Static(sparsity=sparsity))).finalize()
    for weight in report.weights:
        assert weight.n_kept or sparsity > 0.9
    assert report.sparsity == pytest.approx(sparsity, abs=2 / report.n_weights)


def test_small_layers_stay_dense_and_no_layer_dies():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 400), nn.Linear(400, 400))
    with torch.no_grad():
        model[1].weight.mul_(1e-6)
    plan = default_plan(model, sparsity=0.95, epochs=3)
    assert list(plan) == ["0.weight", "*"]
    assert plan["0.weight"] is None
    pruner = Pruner(model, plan_of(model, 0.95, Static(sparsity=0.95)))
    assert all(weight.n_kept >= 0.005 * weight.n_weights for weight in pruner.finalize().weights)


def test_a_plan_as_text_is_the_plan():
    model = NETS["cnn"]()
    plan = default_plan(model, sparsity=0.8, epochs=3)
    names = {}
    exec(as_text(plan), names)  # noqa: S102 - our own words
    assert names["plan"] == plan
    spec = plan["*"]
    exec(as_text(spec), names)  # noqa: S102
    assert names["plan"] == spec
    exec(as_text({nn.Linear: spec, "0.weight": None}), names)  # noqa: S102
    assert names["plan"] == {nn.Linear: spec, "0.weight": None}


def test_what_is_wrong_is_refused():
    model = NETS["mlp"]()
    with pytest.raises(OptionError, match=r"sparsity=90 is illegal.*90 % is 0\.9"):
        default_plan(model, sparsity=90)
    with pytest.raises(OptionError, match="epochs=0 is illegal"):
        default_plan(model, epochs=0)
    with pytest.raises(PlanError, match="nothing to prune in ReLU"):
        default_plan(nn.ReLU())


def test_the_learning_rate_that_mends_fastest_is_taken(trained, data):
    """Against rates that do nothing or ruin everything; the model is not changed."""
    train = Stream(loader=data["train"], seed=0, device=torch.device("cpu"))
    before = [parameter.clone() for parameter in trained.parameters()]

    def sgd(rate):
        return lambda parameters: torch.optim.SGD(parameters, lr=rate)

    rates = {rate: sgd(rate) for rate in (1e-9, 0.5, 1e4)}
    assert fastest(trained, train, nn.functional.cross_entropy, rates, sparsity=0.9, seed=0) == 0.5
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
    assert sorted(RATES) == list(RATES)
