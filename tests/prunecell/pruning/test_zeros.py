"""The law of zeros: after every step of an attached optimizer every pruned weight is +0.0, and the kept train as ever.

Tables of modules, of ways to come by a gradient, of ways to change it and of optimizers; each step is compared with one
of a dense twin whose gradients and weights are masked by hand.
"""

import copy
import functools
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.func import grad as func_grad

from prunecell import Lowest, Pruner, PruneSpec, Static

MOST = PruneSpec(schedule=Static(sparsity=0.75))


def tied():
    model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12))
    model[2].weight = model[0].weight
    return model


def channels_last():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).to(memory_format=torch.channels_last)


def thawed():
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4))
    model[0].requires_grad_(requires_grad=False)
    return model


class Raw(nn.Module):
    """A matrix that no module of torch owns, used through a transpose."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 6))

    def forward(self, x):
        return x @ self.weight


MODULES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)), (8, 12)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()), (4, 3, 5, 5)),
    "depthwise": (lambda: nn.Conv1d(6, 12, 3, groups=6), (4, 6, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 3, 5, 5)),
    "channels last": (channels_last, (4, 3, 5, 5)),
    "gru": (lambda: Last(nn.GRU(6, 8, batch_first=True)), (4, 5, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (3, 5, 8)),
    "bilinear": (lambda: Twice(nn.Bilinear(4, 4, 6)), (5, 4)),
    "tied": (tied, (8, 12)),
    "frozen": (thawed, (8, 12)),
    "raw": (Raw, (8, 12)),
    "bfloat16": (lambda: nn.Linear(12, 16).bfloat16(), (8, 12)),
    "double": (lambda: nn.Linear(12, 16).double(), (8, 12)),
}


class Last(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0][:, -1]


class Twice(Last):
    def forward(self, x):
        return self.inner(x, x)


# ---- ways to come by a gradient --------------------------------------------------------------------------------------


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def backward(model, x):
    model(x).float().square().mean().backward()


def in_parts(model, x):
    for half in x.chunk(2):
        (model(half).float().square().mean() / 2).backward()


def assigned(model, x):
    parameters = trained(model)
    for p, g in zip(parameters, torch.autograd.grad(model(x).float().square().mean(), parameters), strict=True):
        p.grad = g


def added(model, x):
    backward(model, x)
    parameters = trained(model)
    for p, g in zip(parameters, torch.autograd.grad(model(x).float().square().mean(), parameters), strict=True):
        p.grad += g


def copied(model, x):
    backward(model, x)
    for p in trained(model):
        p.grad = p.grad.detach().clone()
        p.grad.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))


def through_data(model, x):
    backward(model, x)
    for p in trained(model):
        p.grad.data = torch.linspace(-1, 1, p.numel()).view(p.shape).to(p.dtype)


def expanded(model, x):
    backward(model, x)
    for p in trained(model):
        p.grad = torch.ones((), dtype=p.dtype).expand_as(p)


def functional(model, x):
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    found = func_grad(lambda p: functional_call(model, p, x).float().square().mean())(parameters)
    for name, g in found.items():
        model.get_parameter(name).grad = g


BY_BACKWARD = (backward, in_parts)
"""After these every gradient is masked at once, before anyone clips it; after the others, before the step."""
WAYS = (backward, in_parts, assigned, added, copied, through_data, expanded, functional)

# ---- ways to change it before the step -------------------------------------------------------------------------------


def nothing(_):
    pass


def clipped(parameters):
    nn.utils.clip_grad_norm_(parameters, 0.01)


def noisy(parameters):
    torch.manual_seed(7)
    for p in parameters:
        p.grad.add_(torch.randn_like(p), alpha=0.1)


def noisy_data(parameters):
    torch.manual_seed(7)
    for p in parameters:
        p.grad.data += 0.1 * torch.randn_like(p)


# ---- optimizers ------------------------------------------------------------------------------------------------------


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, with decay: the step is a sign."""

    def __init__(self, parameters, lr=0.01):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.mul_(1 - group["lr"] * 0.1).sub_((0.9 * m + 0.1 * p.grad).sign(), alpha=group["lr"])
                    m.mul_(0.99).add_(p.grad, alpha=0.01)
        return loss


class Shift(Lion):
    """An optimizer that moves every weight, frozen ones and those without a gradient too."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"])


class Adaptive(torch.optim.Optimizer):
    """Adam with a step size for a tensor, a row or an element, from a reduction of the second moments.

    As Adam-mini (Zhang et al. 2024), LAMB (You et al. 2019) and others have it. The moments' names are torch's.
    """

    def __init__(self, parameters, reduction, second="exp_avg_sq"):
        super().__init__(parameters, {"lr": 0.01})
        self.reduction, self.second = reduction, second

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure else None
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            mean = state.setdefault("exp_avg", torch.zeros_like(p))
            square = state.setdefault(self.second, torch.zeros_like(p))
            mean.lerp_(p.grad, 0.1)
            square.mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)
            p.sub_(self.reduction(mean, square, p), alpha=0.01)
        return loss


def trust_ratio(mean, square, p):
    update = mean / (square.sqrt() + 1e-6)
    return update * (p.norm() / update.norm().clamp(min=1e-6))


REDUCTIONS = {
    "mean": lambda mean, square, _: mean / (square.mean().sqrt() + 1e-8),
    "max": lambda mean, square, _: mean / (square.amax(-1, keepdim=True).sqrt() + 1e-8),
    "norm": lambda mean, square, _: mean / square.norm().clamp(min=1.0),
    "median": lambda mean, square, _: mean / (square.median().sqrt() + 1e-3),
    "count": lambda mean, square, _: mean / square.count_nonzero(),
    "trust": trust_ratio,
}


class MeanAdam(torch.optim.Adam):
    """A subclass of torch's own that uses its moments otherwise; so does a class of the same name."""

    @torch.no_grad()
    def step(self, closure=None):
        scale = {p: float(s["exp_avg_sq"].mean()) for p, s in self.state.items()}
        loss = super().step(closure)
        for p, factor in scale.items():
            p.mul_(1 - min(factor, 0.5))
        return loss


def renamed(parameters):
    return type("AdamW", (MeanAdam,), {})(parameters, lr=0.01)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, all": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sgd, foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, maximize=True, foreach=True),
    "sgd, fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adam, foreach": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, maximize=True, foreach=True),
    "adam, capturable": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), foreach=False),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01, weight_decay=0.1),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, weight_decay=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1, weight_decay=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01, weight_decay=0.1),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "lion": Lion,
    "shift": Shift,
}


@dataclass
class Twin:
    """A dense model, masked by hand."""

    model: nn.Module
    solver: torch.optim.Optimizer
    masks: dict

    def step(self, way, change, x):
        self.solver.zero_grad()
        way(self.model, x)
        if way in BY_BACKWARD:
            self.mask_gradients_()
        change(trained(self.model))
        self.mask_gradients_()
        self.solver.step()
        for name, mask in self.masks.items():
            self.model.get_parameter(name).data.masked_fill_(~mask, 0)

    def mask_gradients_(self):
        for name, mask in self.masks.items():
            p = self.model.get_parameter(name)
            p.grad = None if p.grad is None else torch.where(mask, p.grad, 0)


def zeros_hold(model, pruner):
    """Every pruned weight is +0.0, bit for bit, and as many are zero as are claimed."""
    n_zeros = n_weights = 0
    for name, mask in pruner.masks.items():
        weight = model.get_parameter(name).detach()
        assert not weight[~mask].view(torch.uint8).any(), name
        n_zeros, n_weights = n_zeros + int((weight == 0).sum()), n_weights + weight.numel()
    assert n_zeros / n_weights == pytest.approx(pruner.sparsity)


def check_steps(make, shape, way, change, solver, n_steps=3):
    torch.manual_seed(3)
    model = make()
    optimizer = OPTIMIZERS[solver](model.parameters())
    pruner = Pruner(model, MOST, optimizer=optimizer)
    masks = pruner.masks
    other = copy.deepcopy(model)
    twin = Twin(other, OPTIMIZERS[solver](other.parameters()), masks)
    for step in range(n_steps):
        if step == 1:  # layers thaw in the middle
            model.requires_grad_(requires_grad=True)
            other.requires_grad_(requires_grad=True)
        x = torch.randn(shape, dtype=next(model.parameters()).dtype)
        optimizer.zero_grad()
        way(model, x)
        if way in BY_BACKWARD:
            gradients = {name: model.get_parameter(name).grad for name in masks}
            assert not any(g[~masks[name]].any() for name, g in gradients.items() if g is not None)
        change(trained(model))
        optimizer.step()
        zeros_hold(model, pruner)
        twin.step(way, change, x)
        for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q), (name, step)
        pruner.step(8)
        zeros_hold(model, pruner)


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("module", MODULES)
def test_modules_and_ways_to_come_by_a_gradient(module, way):
    if way is functional and module == "tied":
        pytest.skip("torch.func gives a tied weight one of its two names")
    check_steps(*MODULES[module], way, nothing, "adam")


@pytest.mark.parametrize(
    ("way", "change"), [(backward, clipped), (backward, noisy), (assigned, noisy_data)], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_optimizers_and_ways_to_change_a_gradient(solver, way, change):
    check_steps(*MODULES["mlp"], way, change, solver)


OWN = {
    **{
        f"{name} of {second}": functools.partial(Adaptive, reduction=reduction, second=second)
        for name, reduction in REDUCTIONS.items()
        for second in ("exp_avg_sq", "max_exp_avg_sq", "square_avg")
    },
    "subclass": lambda p: MeanAdam(p, lr=0.01, amsgrad=True),
    "same name": renamed,
}


@pytest.mark.parametrize("solver", OWN)
def test_optimizers_that_use_moments_of_many_weights_for_each(solver, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, solver, OWN[solver])
    monkeypatch.setattr("prunecell.pruning.pruner.REST_EVERY", 3)
    check_steps(*MODULES["mlp"], backward, nothing, solver, n_steps=6)


@pytest.mark.parametrize("value", [torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_zeros_survive_gradients_that_are_not_finite(solver, value):
    torch.manual_seed(0)
    model = MODULES["mlp"][0]()
    optimizer = OPTIMIZERS[solver](model.parameters())
    pruner = Pruner(model, MOST, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        backward(model, torch.randn(8, 12))
        for p in model.parameters():
            p.grad.mul_(value)  # 0 * inf is NaN
        optimizer.step()
        for name, mask in pruner.masks.items():
            assert not model.get_parameter(name).detach()[~mask].view(torch.int32).any()
        pruner.step(8)


@pytest.mark.parametrize("spec", [MOST, PruneSpec(schedule=lambda _: 0.75, filler=Lowest(revives=True))], ids=repr)
def test_one_element_that_was_written_to_is_found_in_the_next_step(spec):
    torch.manual_seed(0)
    model = nn.Linear(600, 600)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, spec, optimizer=optimizer)
    place = tuple((~pruner.masks["weight"]).nonzero()[1234].tolist())
    for write in ("weight", "gradient"):
        optimizer.zero_grad()
        backward(model, torch.randn(4, 600))
        (model.weight if write == "weight" else model.weight.grad).data[place] = 3.0
        optimizer.step()
        assert not model.weight[place]
        zeros_hold(model, pruner)


# ---- writes between the optimizer's step and the pruner's ------------------------------------------------------------


class Writes:
    """Ways to write to all weights of a model after a step."""

    def __init__(self, model):
        self.dense = {name: value.clone() for name, value in model.state_dict().items()}
        self.slow = [p.detach().clone() for p in model.parameters()]
        self.stranger = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def noise(self, model):
        for p in model.parameters():
            p.add_(torch.randn_like(p))

    def noise_in_data(self, model):
        for p in model.parameters():
            p.data += 1

    def in_numpy(self, model):
        for p in model.parameters():
            p.detach().numpy()[:] += 1

    def negative_zeros(self, model):
        for p in model.parameters():
            p.copy_(torch.where(p == 0, -0.0, p))

    def nan(self, model):
        for p in model.parameters():
            p.masked_fill_(p == 0, torch.nan)

    def slow_weights(self, model):
        for p, slow in zip(model.parameters(), self.slow, strict=True):
            slow.lerp_(p, 0.5)
            p.copy_(slow)

    def checkpoint(self, model):
        model.load_state_dict(self.dense)

    def vector(self, model):
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()) + 1, model.parameters())

    def new_data(self, model):
        for p in model.parameters():
            p.data = torch.randn_like(p)

    def another_optimizer(self, model):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        self.stranger.step()

    def a_step_that_runs_no_hooks(self, model):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        torch.optim.SGD.step.__wrapped__(self.stranger)


WRITES = [name for name in vars(Writes) if not name.startswith("_")]
REVIVES = PruneSpec(schedule=lambda _: 0.75, filler=Lowest(revives=True))


@pytest.mark.parametrize("spec", [MOST, REVIVES], ids=["still", "reviving"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("n_steps", [0, 1, 2])
def test_the_pruners_step_zeroes_what_was_written_after_an_optimizers(spec, write, n_steps):
    torch.manual_seed(0)
    model = MODULES["mlp"][0]()
    writes = Writes(model)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    pruner = Pruner(model, spec, optimizer=optimizer)
    for _ in range(3):
        for _ in range(n_steps):
            optimizer.zero_grad()
            backward(model, torch.randn(8, 12))
            optimizer.step()
        with torch.no_grad():
            getattr(writes, write)(model)
        pruner.step(8)
        for name, mask in pruner.masks.items():
            assert not model.get_parameter(name).detach()[~mask].view(torch.int32).any(), name
