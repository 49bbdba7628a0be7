"""Which BatchNorm is behind a layer: proved by the very tensor that goes from one into the other, or refused."""

import copy
import pickle

import pytest
import torch
from torch import nn

from prunecell import Lowest, Pruner, PruneSpec, Static
from prunecell.criteria import norm_scale
from prunecell.errors import OptionError
from prunecell.granularity import Slices

SPEC = PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=norm_scale, granularity=Slices(dims=(0,))))


class Net(nn.Module):
    """A layer `a`, a norm `n` and one more, `m`; `way` says what happens to an input."""

    def __init__(self, way, layer, norm):
        super().__init__()
        self.way, self.a, self.n, self.m = way, layer, norm, copy.deepcopy(norm)
        nn.init.uniform_(self.n.weight, -1, 1)

    def forward(self, x):
        return self.way(self, x)


def run(model, x):
    model(x).sum().backward()


def image():
    return torch.randn(3, 2, 8, 8)


CONV, LINEAR = lambda: nn.Conv2d(2, 6, 3), lambda: nn.Linear(8, 6)
WAYS = {
    "straight": (CONV, nn.BatchNorm2d, image, lambda m, x: m.n(m.a(x))),
    "in groups": (lambda: nn.Conv2d(2, 6, 3, groups=2), nn.BatchNorm2d, image, lambda m, x: m.n(m.a(x))),
    "one dimension": (
        lambda: nn.Conv1d(2, 6, 3),
        nn.BatchNorm1d,
        lambda: torch.randn(3, 2, 8),
        lambda m, x: m.n(m.a(x)),
    ),
    "Linear": (LINEAR, nn.BatchNorm1d, lambda: torch.randn(3, 8), lambda m, x: m.n(m.a(x))),
    "with a ReLU behind": (CONV, nn.BatchNorm2d, image, lambda m, x: torch.relu(m.n(m.a(x)))),
    "the other reads something else": (
        CONV,
        nn.BatchNorm2d,
        image,
        lambda m, x: m.n(m.a(x)) + m.m(m.a.weight.sum() + 0 * m.n(m.a(x))),
    ),
    "through an Identity": (CONV, nn.BatchNorm2d, image, lambda m, x: m.n(nn.Identity()(m.a(x)))),
    "twice with one norm": (CONV, nn.BatchNorm2d, image, lambda m, x: m.n(m.a(x)) + m.n(m.a(-x))),
}
REFUSED = {
    "ReLU between": (
        CONV,
        nn.BatchNorm2d,
        image,
        lambda m, x: m.n(torch.relu(m.a(x))),
        "1 outputs went straight into 0",
    ),
    "ReLU in place": (CONV, nn.BatchNorm2d, image, lambda m, x: m.n(m.a(x).relu_()), "1 outputs went straight into 0"),
    "no norm": (CONV, nn.BatchNorm2d, image, lambda m, x: m.a(x), "1 outputs went straight into 0"),
    "two norms": (
        CONV,
        nn.BatchNorm2d,
        image,
        lambda m, x: m.n(y := m.a(x)) + m.m(y),
        "1 outputs went straight into 2",
    ),
    "once of two": (CONV, nn.BatchNorm2d, image, lambda m, x: m.n(m.a(x)) + m.a(x), "2 outputs went straight into 1"),
    "each with its own": (
        CONV,
        nn.BatchNorm2d,
        image,
        lambda m, x: m.n(m.a(x)) + m.m(m.a(x)),
        "2 outputs went straight into 2",
    ),
    "channels are not features": (
        LINEAR,
        nn.BatchNorm1d,
        lambda: torch.randn(3, 6, 8),
        lambda m, x: m.n(m.a(x)),
        "1 outputs went straight into 0",
    ),
}


@pytest.mark.parametrize("by", ["steps", "batches"])
@pytest.mark.parametrize("name", WAYS)
def test_rows_go_by_the_scale_of_the_norm_that_is_proved_to_be_behind(name, by):
    layer, norm, inputs, way = WAYS[name]
    model = Net(way, layer(), norm(6))
    pruner = Pruner(model, SPEC)
    assert pruner.sparsity == 0
    if by == "steps":
        run(model, inputs())
        pruner.step(3)
    else:
        pruner.calibrate([(inputs(), None)], loss=run)
    lowest = model.n.weight.detach().abs().argsort()[:3]
    assert sorted((~pruner.masks["a.weight"]).flatten(1).all(1).nonzero().flatten().tolist()) == sorted(lowest.tolist())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_is_not_proved_the_weight_is_named(name):
    layer, norm, inputs, way, fact = REFUSED[name]
    model = Net(way, layer(), norm(6))
    before = model.a.weight.clone()
    pruner = Pruner(model, SPEC)
    said = f"the criterion of 'a.weight' needs the scale of the one BatchNorm that reads its layer's output: {fact};"
    with pytest.raises(OptionError, match=said):
        pruner.calibrate([(inputs(), None)], loss=run)
    run(model, inputs())
    with pytest.raises(OptionError, match=said):
        pruner.step(3)
    assert torch.equal(model.a.weight, before)
    assert pruner.sparsity == 0


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(5)), "the model has none with a scale for each of 6 outputs"),
        (nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6, affine=False)), "has none with a scale for each of 6"),
        (
            nn.Sequential(nn.ConvTranspose2d(2, 6, 3), nn.BatchNorm2d(6)),
            "the outputs of its layer: .* not for ConvTran",
        ),
    ],
)
def test_what_can_never_be_is_refused_at_once(model, said):
    with pytest.raises(OptionError, match=said):
        Pruner(model, SPEC)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])  # noqa: S301 - our own
def test_a_copy_in_the_midst_of_a_trial_tries_by_itself(copied):
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6))
    nn.init.uniform_(model[1].weight)
    pruner = Pruner(model, SPEC)
    model(image())  # the layer was run, and its output is remembered
    other, its = copied((model, pruner))
    alone = copied(model)
    for net in (other, alone):
        run(net, image())
    its.step(3)
    assert its.sparsity == 0.5
    assert pruner.sparsity == 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in (other, alone) for m in net.modules())
    assert model[0]._forward_hooks


def test_each_update_tries_anew_because_models_change():
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6))
    nn.init.uniform_(model[1].weight)
    pruner = Pruner(model, SPEC)
    pruner.calibrate([(image(), None)], loss=run)
    model[1] = nn.Identity()  # as folding leaves it
    with pytest.raises(OptionError, match="1 outputs went straight into 0"):
        pruner.calibrate([(image(), None)], loss=run)
