"""Whoever holds what of a quantized model, and however its weights lie in memory, each optimizer moves its own."""

import copy

import pytest
import torch
from torch import nn

from prunecell import Cubic, IntSpec, Lowest, Pruner, PruneSpec, Quantizer, RateSpec
from prunecell.errors import StateError

SPECS = {"rate": RateSpec(lam=1e-5, steps=40), "int4": IntSpec(bits=4)}
ORDERS = {
    "one of all": ["all"],
    "only weights": ["weights"],
    "only steps": ["steps"],
    "weights, then steps": ["weights", "steps"],
    "steps, then weights": ["steps", "weights"],
}


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def solvers_of(model, quantizer, order):
    weights, steps = {"params": [*model.parameters()], "lr": 0.03}, {"params": [*quantizer.parameters()], "lr": 2e-3}
    held = {"all": [weights, steps], "weights": [weights], "steps": [steps]}
    return [torch.optim.Adam(held[name]) for name in order]


def trained(model, spec, order, n_steps=30):
    quantizer = Quantizer(model, spec)
    solvers = solvers_of(model, quantizer, order)
    for solver in solvers:
        quantizer.attach(solver)
    torch.manual_seed(1)
    for _ in range(n_steps):
        x = torch.randn(16, 6).to(model[0].weight)
        model.zero_grad()
        (model(x) - x[:, :3]).square().mean().backward()
        for solver in solvers:
            solver.step()
            for name, integers in quantizer.integers.items():
                made = (integers.float() * quantizer.step_sizes[name]).to(integers.dtype)
                assert torch.equal(model.get_parameter(name).detach(), made)
        quantizer.step(16)
    return quantizer


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("spec", SPECS)
def test_every_order_trains_as_in_float64(level, spec, order):  # noqa: ARG001 - which kernels run
    found, wanted = net(), net().double()
    quantizer = trained(found, SPECS[spec], ORDERS[order])
    twin = trained(wanted, SPECS[spec], ORDERS[order])
    for name, step in twin.step_sizes.items():
        assert torch.allclose(quantizer.step_sizes[name], step, rtol=1e-4)
        far = (quantizer.integers[name] - twin.integers[name]).abs()
        assert far.max() <= 1  # where the latents lie on two sides of a half
        assert far.mean() < 0.02


@pytest.mark.parametrize("spec", SPECS)
def test_an_optimizer_of_the_steps_leaves_the_latents_alone(level, spec):  # noqa: ARG001
    model = net()
    quantizer = Quantizer(model, SPECS[spec])
    latents = {name: entry["latent"] for name, entry in quantizer.state_dict()["weights"].items()}
    (solver,) = solvers_of(model, quantizer, ["steps"])
    quantizer.attach(solver)
    before = quantizer.step_sizes
    model(torch.randn(16, 6)).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    solver.step()
    for name, entry in quantizer.state_dict()["weights"].items():
        assert torch.equal(entry["latent"], latents[name])
        assert torch.equal(model.get_parameter(name).grad, gradients[name])
    assert any(not torch.equal(step, before[name]) for name, step in quantizer.step_sizes.items())


# ---- memory formats

FUSED = {
    "plain": {"fused": False, "foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
KEEPERS = {
    "rate": lambda model: Quantizer(model, RateSpec(lam=1e-5, steps=20)),
    "int4": lambda model: Quantizer(model, IntSpec(bits=4)),
    "zeros stay": lambda model: Pruner(model, PruneSpec(schedule=Cubic(sparsity=0.5, steps=10))),
    "zeros revive": lambda model: Pruner(
        model, PruneSpec(schedule=Cubic(sparsity=0.5, steps=10), filler=Lowest(revives=True))
    ),
}
LYING = ["contiguous", "channels last", "converted later", "resumed", "a gradient that lies otherwise"]


class Lying:
    """A training whose weights lie in memory in one of these ways, and what its optimizer was given."""

    def __init__(self, keeper, solver, way):
        self.way, self.keeper_of, self.settings = way, KEEPERS[keeper], FUSED[solver]
        self._begin()

    def _begin(self):
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
        if self.way not in {"contiguous", "converted later"}:
            self.model.to(memory_format=torch.channels_last)
        self.keeper = self.keeper_of(self.model)
        if self.way == "converted later":
            self.model.to(memory_format=torch.channels_last)
        groups = self.keeper.param_groups(lr=1e-3) if isinstance(self.keeper, Quantizer) else self.model.parameters()
        self.solver = torch.optim.AdamW(groups, lr=1e-3, **self.settings)
        self.keeper.attach(self.solver)
        self.solver.register_step_pre_hook(self._look)

    def _look(self, *_):
        for parameter in self.model.parameters():
            given = [parameter.grad, *self.solver.state[parameter].values()]
            assert all(tensor.stride() == parameter.stride() for tensor in given if tensor.ndim)

    def _resume(self):
        states = [copy.deepcopy(part.state_dict()) for part in (self.model, self.solver, self.keeper)]
        self._begin()
        for part, state in zip((self.model, self.solver, self.keeper), states, strict=True):
            part.load_state_dict(state)

    def train(self):
        generator = torch.Generator().manual_seed(2)
        for step in range(20):
            if step == 10 and self.way == "resumed":
                self._resume()
            self.solver.zero_grad()
            x = torch.randn(2, 3, 8, 8, generator=generator)
            self.model(x).square().mean().backward()
            if self.way.startswith("a gradient") and isinstance(self.keeper, Quantizer):
                for parameter in self.model.parameters():
                    parameter.grad = parameter.grad.clone(memory_format=torch.contiguous_format)
            self.solver.step()
            self.keeper.step(2)
        return self.model


@pytest.mark.parametrize("way", LYING)
@pytest.mark.parametrize("solver", FUSED)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_what_an_optimizer_is_given_lies_as_the_parameter_does(keeper, solver, way):
    found, wanted = Lying(keeper, solver, way).train(), Lying(keeper, "plain", "contiguous").train()
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


# ---- a training that diverges


@pytest.mark.parametrize("scale", [1e10, 1e20, 1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("spec", SPECS)
def test_steps_that_diverge_are_told_and_the_one_before_is_kept(spec, scale):
    model = net()
    quantizer = Quantizer(model, SPECS[spec])
    solver = torch.optim.SGD([{"params": [*quantizer.parameters()]}], lr=1.0)
    quantizer.attach(solver)
    weights = copy.deepcopy(model.state_dict())
    (model(torch.randn(16, 6)).square().mean() * scale).backward()
    before = quantizer.step_sizes
    with pytest.raises(StateError, match=r"^the training diverged: 0\.weight, .* a step size of zero, inf or NaN"):
        solver.step()
    for name, step in quantizer.step_sizes.items():
        assert (step > 0).all()
        assert step.isfinite().all()
        same = model.get_parameter(name).detach() == weights[name]
        assert same[(step == before[name]).expand_as(same)].all()
    assert all(bool(log_step.isfinite().all()) for log_step in quantizer.parameters())


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_weights_that_are_no_numbers_are_told_before_they_have_a_price(number):
    model = net()
    quantizer = Quantizer(model, RateSpec(lam=1e-5, steps=10))
    quantizer.step(1)
    before = quantizer._clock
    with torch.no_grad():
        model[2].weight[1, 1] = number
    with pytest.raises(StateError, match=r"^the training diverged: 2\.weight has inf or NaN; go back to a checkpoint"):
        quantizer.step(1)
    assert quantizer._clock == before
