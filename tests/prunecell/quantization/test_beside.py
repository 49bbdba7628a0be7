"""What else acts on a quantized weight: Pruners, other Quantizers, dead units."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

from prunecell import Cubic, IntSpec, Lowest, Pruner, PruneSpec, Quantizer, RateSpec, Static
from prunecell.criteria import taylor
from prunecell.errors import OptionError, StateError
from prunecell.fillers import SET, RigL
from prunecell.schedules import Moving

pytestmark = pytest.mark.filterwarnings("ignore::prunecell.errors.UnfinishedWarning")  # they let go halfway

RATE = RateSpec(lam=1e-6, steps=20)
REVIVES = PruneSpec(schedule=Cubic(sparsity=0.5, steps=9), filler=Lowest(revives=True))
COME_BACK = [REVIVES, *(PruneSpec(schedule=Moving(sparsity=0.5, every=3, steps=9), filler=f()) for f in (SET, RigL))]
TAYLOR = PruneSpec(schedule=Cubic(sparsity=0.5, steps=9), filler=Lowest(criterion=taylor))


def test_a_weight_has_one_quantizer_that_is_in_use(mlp):
    first = Quantizer(mlp.model, RATE)
    before = copy.deepcopy(mlp.model.state_dict())
    with pytest.raises(OptionError, match=r"'0\.weight' is held by a Quantizer"):
        Quantizer(mlp.model, IntSpec(bits=2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in mlp.model.state_dict().items())
    first.finalize()
    second = Quantizer(mlp.model, IntSpec(bits=2))
    del second
    gc.collect()
    Quantizer(copy.deepcopy(mlp.model), RATE)
    Quantizer(mlp.model, RATE)


@pytest.mark.parametrize("spec", COME_BACK, ids=repr)
def test_a_pruner_whose_weights_may_come_back_is_refused_before_and_after(mlp, spec):
    pruner = Pruner(mlp.model, spec)
    with pytest.raises(OptionError, match="held by a Pruner whose pruned weights may come back"):
        Quantizer(mlp.model, RATE)
    pruner.finalize()
    quantizer = Quantizer(mlp.model, RATE)
    for other in spec, TAYLOR:
        later = Pruner(mlp.model, other)
        with pytest.raises(StateError, match=r"the Pruner of '0\.weight' was made after the Quantizer"):
            quantizer.step(1)
        later.finalize()
    quantizer.step(1)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda all_: pickle.loads(pickle.dumps(all_))])  # noqa: S301
@pytest.mark.parametrize("names", [("pruner", "quantizer"), ("quantizer", "pruner"), ("quantizer",)])
def test_a_copy_knows_the_pruner_that_was_there_before(mlp, copier, names):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    made = {"pruner": Pruner(mlp.model, TAYLOR, optimizer=solver)}
    made["quantizer"] = Quantizer(mlp.model, RATE, optimizer=solver)
    model, optimizer, *copied = copier((mlp.model, solver, *(made[name] for name in names)))
    quantizer = copied[names.index("quantizer")]
    for _ in range(5):
        mlp.train(optimizer, steps=1, model=model)
        quantizer.step(16)
    if len(names) > 1:
        copied[names.index("pruner")].finalize()
        later = Pruner(model, TAYLOR)
        with pytest.raises(StateError, match="was made after the Quantizer"):
            quantizer.step(1)
        later.finalize()


def test_a_pruner_before_the_quantizer_sees_the_gradients_of_the_loss(mlp):
    kept = []
    for quantized in False, True:
        model = copy.deepcopy(mlp.model)
        frozen = torch.optim.SGD(model.parameters(), lr=0.0)
        pruner = Pruner(model, TAYLOR, optimizer=frozen)
        quantizer = Quantizer(model, {"0.weight": RATE}, optimizer=frozen)
        if not quantized:
            quantizer.finalize()
        for _ in range(10):
            mlp.train(frozen, pruner, steps=1, model=model)
            if quantized:
                quantizer.step(16)
        kept.append(pruner.masks)
    assert all(torch.equal(mask, kept[1][name]) for name, mask in kept[0].items())


def test_dead_units_go_when_zeros_are_fixed():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    quantizer = Quantizer(net, RateSpec(lam=1e-9, steps=10))
    for _ in range(7):
        quantizer.step(1)
    with torch.no_grad():
        net[2].weight[:, 2] = 0  # never read
        net[0].weight[5] = 0
        net[0].bias[5] = -1  # always zero
    x = torch.randn(50, 6)
    before = net(x)
    quantizer.step(1)
    for dead in 2, 5:
        assert not net[0].weight[dead].any()
        assert not net[0].bias[dead].any()
        assert not net[2].weight[:, dead].any()
        assert not quantizer._weights["0.weight"].latent[dead].any()
    assert torch.equal(net(x), before)
    assert net[0].weight.any(1).sum() == 6


def test_a_model_that_cannot_be_traced_keeps_its_dead_units():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else self.fc(-x)

    quantizer = Quantizer(Branches(), RateSpec(lam=1e-9, steps=10))
    for _ in range(10):
        quantizer.step(1)
    assert quantizer.finalize().n_weights == 20


def test_a_schedule_of_a_pruner_goes_on(mlp):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5)), optimizer=solver)
    quantizer = Quantizer(mlp.model, IntSpec(bits=4), optimizer=solver)
    mlp.train(solver, pruner, steps=3)
    pruner.finalize()
    mlp.train(solver, quantizer, steps=3)
    assert quantizer.report().sparsity >= 0.5
