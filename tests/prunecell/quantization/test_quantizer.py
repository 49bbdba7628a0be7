"""Quantized weights stay steps times integers while they train; nothing else of the model or the loop is touched."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from prunecell import Checkpoint, Cubic, IntSpec, Pruner, PruneSpec, Quantizer, RateSpec, Static, fit
from prunecell import Task as Fitted
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.codecs.integers import few_of, integers_in
from prunecell.errors import OptionError, OptionTypeError, PlanError, StateError

SPECS = {
    "rate": RateSpec(lam=1e-3, steps=20),
    "rate, cheap": RateSpec(lam=1e-6, samples=320),
    "int8": IntSpec(bits=8),
    "int4": IntSpec(bits=4),
    "int2": IntSpec(bits=2),
}
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "adam, fused": lambda groups: torch.optim.Adam(groups, fused=True),
    "adam, not foreach": lambda groups: torch.optim.Adam(groups, foreach=False),
}


def begun(model, spec, optimizer="adam", lr=1e-3):
    """A quantizer and the optimizer that learns all of it."""
    quantizer = Quantizer(model, spec)
    made = OPTIMIZERS[optimizer](quantizer.param_groups(lr=lr))
    quantizer.attach(made)
    return quantizer, made


def assert_quantized(quantizer, model):
    """Every weight is exactly its step times an integer that its spec allows, and no zero is negative."""
    parameters = dict(model.named_parameters())
    for name, integers in quantizer.integers.items():
        weight, step = parameters[name].detach(), quantizer.step_sizes[name]
        assert torch.equal(integers, integers.round())
        assert torch.equal(weight, (integers.float() * step).to(weight.dtype))
        assert not (weight.signbit() & (weight == 0)).any()
        spec = quantizer._weights[name].spec
        if isinstance(spec, IntSpec):
            assert integers.abs().max() <= 2 ** (spec.bits - 1) - 1
            assert step.shape in {(), (len(weight), *[1] * (weight.ndim - 1))}
        else:
            assert step.shape == ()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("spec", SPECS)
def test_after_each_step_every_weight_is_a_step_times_an_integer(mlp, spec, optimizer):
    quantizer, solver = begun(mlp.model, SPECS[spec], optimizer)
    before = copy.deepcopy(mlp.model.state_dict())
    for _ in range(22):
        assert_quantized(quantizer, mlp.model)
        mlp.train(solver, quantizer, steps=1)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in mlp.model.state_dict().items())


@pytest.mark.parametrize("spec", SPECS)
def test_the_parameters_keys_and_gradients_are_the_users(task, spec):
    before = dict(task.model.named_parameters())
    quantizer, solver = begun(task.model, SPECS[spec])
    for _ in range(3):
        solver.zero_grad()
        task.loss().backward()
        gradients = {name: (p.grad, p.grad.clone(), p.grad._version) for name, p in task.model.named_parameters()}
        solver.step()
        quantizer.step(16)
        for name, (gradient, values, version) in gradients.items():
            parameter = task.model.get_parameter(name)
            assert parameter is before[name]
            assert parameter.grad is gradient
            assert torch.equal(gradient, values)
            assert gradient._version == version
    assert dict(task.model.named_parameters()).keys() == before.keys()
    assert all(parameter.grad is None for parameter in quantizer.parameters())
    assert_quantized(quantizer, task.model)


def slow_step(weight, latent, log_step, price, lam):
    """The loss's gradient and the price of bits through `step * round(latent)`, by autograd; two leaves."""
    latent, log_step = latent.clone().requires_grad_(), log_step.clone().requires_grad_()
    made = log_step.exp() * (latent + (latent.round() - latent).detach())
    (made * weight.grad).sum().backward()
    return latent.grad + lam * price(latent.detach()), log_step.grad


@pytest.mark.parametrize("frozen", [False, True])
def test_a_latent_moves_by_the_gradient_of_its_loss_and_of_its_bits(frozen):
    torch.manual_seed(0)
    net = nn.Linear(20, 10).double()
    quantizer = Quantizer(net, RateSpec(lam=0.01, steps=10))
    solver = torch.optim.SGD([net.weight, *quantizer.parameters()], lr=0.1)
    quantizer.attach(solver)
    for n in range(9 if frozen else 3):
        weight = quantizer._weights["weight"]
        net.zero_grad()
        net(torch.randn(30, 20).double()).square().mean().backward()
        latent, log_step = weight.latent.clone(), weight.log_step.detach().clone()
        price = quantizer._groups[0].price(quantizer._clock)
        assert price.lam == pytest.approx(0.01 * min(1, n / 4))
        inner, of_step = slow_step(
            net.weight, latent, log_step, lambda x, w=weight: w.rule.prices.slope(x, only_growth=w.fixed), price.lam
        )
        solver.step()
        moved = latent - 0.1 * torch.where((latent == 0) & weight.fixed, 0.0, inner)
        assert torch.allclose(weight.latent, moved)
        assert torch.allclose(weight.log_step, log_step - 0.1 * of_step.float(), atol=1e-6)
        quantizer.step(30)
    assert weight.fixed == frozen


def test_bits_get_fewer_under_a_price_and_zeros_stay_at_the_end(task):
    cheap = copy.deepcopy(task.model)
    sizes = {}
    for model, lam in ((task.model, 0.02), (cheap, 1e-9)):
        quantizer, solver = begun(model, RateSpec(lam=lam, steps=60))
        task.train(solver, quantizer, steps=48, model=model)
        zeros = {name: integers == 0 for name, integers in quantizer.integers.items()}
        task.train(solver, quantizer, steps=12, model=model)
        assert all(not integers[zeros[name]].any() for name, integers in quantizer.integers.items())
        sizes[lam] = quantizer.n_bytes
    assert sizes[0.02] < sizes[1e-9]


@pytest.mark.parametrize("spec", ["int8", "int4", "int2"])
def test_few_bits_keep_masks_and_learn(task, spec):
    pruner = Pruner(task.model, PruneSpec(schedule=Static(sparsity=0.5)))
    masks = pruner.masks
    pruner.finalize()
    quantizer, solver = begun(task.model, SPECS[spec], lr=1e-2)
    before = task.loss().item()
    task.train(solver, quantizer, steps=20)
    assert all(not task.model.get_parameter(name)[~mask].any() for name, mask in masks.items())
    assert task.loss().item() < before
    assert_quantized(quantizer, task.model)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_first_steps_of_few_bits_are_at_least_as_good_as_those_of_the_largest_weight(bits):
    torch.manual_seed(0)
    net = nn.Conv2d(8, 16, 3)
    weight = net.weight.detach().clone()
    Quantizer(net, IntSpec(bits=bits))
    step = weight.abs().amax((1, 2, 3), keepdim=True) / (2 ** (bits - 1) - 1)
    error = ((weight / step).round() * step - weight).square().sum((1, 2, 3))
    assert ((net.weight - weight).square().sum((1, 2, 3)) <= error * 1.0001).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("spec", SPECS)
def test_every_floating_point_type(spec, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 3)).to(dtype)
    if dtype == torch.float16 and isinstance(SPECS[spec], RateSpec):
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(PlanError, match=r"'0\.weight' cannot be learned in float16, .* by \.float\(\)"):
            Quantizer(net, SPECS[spec])
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
        return
    quantizer, solver = begun(net, SPECS[spec], "sgd")
    for _ in range(20):
        net(torch.randn(7, 12, dtype=dtype)).float().square().mean().backward()
        solver.step()
        quantizer.step(7)
        assert_quantized(quantizer, net)
        assert all(parameter.isfinite().all() for parameter in net.parameters())
    kind = element_type(dtype)
    if dtype.itemsize > 2:  # of 16 bits, few words may have no step, because each is rounded to eight bits or eleven
        for name in ("0.weight", "1.weight"):
            weight = net.get_parameter(name).detach()
            words = words_of(weight)
            assert integers_in(words, few_of(words), kind, tuple(weight.shape)), f"the archive finds none in {name}"


FAR = [(torch.float32, 3e38), (torch.float64, 1e60), (torch.float64, 1e-60)]


@pytest.mark.parametrize(("dtype", "size"), FAR)
@pytest.mark.parametrize("spec", SPECS)
def test_weights_that_no_step_in_float32_reaches_are_refused(spec, dtype, size):
    net = nn.Linear(3, 2, bias=False).to(dtype)
    net.weight.data = torch.tensor([[size, 0, 0], [0, -size / 2, 0]], dtype=dtype)
    before = net.weight.detach().clone()
    try:
        quantizer, _ = begun(net, SPECS[spec], "sgd")
    except OptionError as error:
        assert "too large or too small for a step in float32" in str(error)  # noqa: PT017 - some are right
        assert torch.equal(net.weight, before)
    else:
        assert_quantized(quantizer, net)
        assert net.weight.isfinite().all() and net.weight.any()  # noqa: PT018 - one thing


def resumed(task, spec, n_before, n_after, via):
    """Two models: one trained at one go, one that went on from states."""
    torch.manual_seed(0)
    quantizer, solver = begun(task.model, spec)
    task.train(solver, quantizer, steps=n_before)
    saved = via([task.model.state_dict(), solver.state_dict(), quantizer.state_dict()])
    task.train(solver, quantizer, steps=n_after)
    other = task.make()
    again, solver = begun(other, spec)
    other.load_state_dict(saved[0])
    solver.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    task.train(solver, again, steps=n_after, model=other)
    return other


@pytest.mark.filterwarnings("ignore:the price did not bring:RuntimeWarning")  # in so few steps
@pytest.mark.parametrize("spec", [*SPECS, "to a size"])
@pytest.mark.parametrize("n_before", [0, 7, 18])
def test_a_run_goes_on_with_the_same_bits(task, spec, n_before, tmp_path):
    def by_file(states):
        torch.save(states, tmp_path / "states.pt")
        return torch.load(tmp_path / "states.pt", weights_only=True)

    other = resumed(task, SPECS.get(spec, RateSpec(target_bytes=900, steps=20)), n_before, 7, by_file)
    for one, two in zip(task.model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301
def test_copies_go_on_by_themselves(mlp, spec, copied):
    quantizer, solver = begun(mlp.model, SPECS[spec])
    mlp.train(solver, quantizer, steps=3)
    model, solver2, quantizer2 = copied([mlp.model, solver, quantizer])
    mlp.train(solver2, quantizer2, steps=17, model=model)
    assert_quantized(quantizer2, model)
    mlp.train(solver, quantizer, steps=17)
    for one, two in zip(mlp.model.parameters(), model.parameters(), strict=True):
        assert one is not two
        assert torch.equal(one, two)


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_that_fails_leaves_rounded_weights_and_the_users_gradients(mlp, spec):
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            raise MemoryError

    quantizer = Quantizer(mlp.model, SPECS[spec])
    solver = Failing(quantizer.param_groups(lr=0.1))
    quantizer.attach(solver)
    mlp.loss().backward()
    gradients = {name: p.grad.clone() for name, p in mlp.model.named_parameters()}
    with pytest.raises(MemoryError):
        solver.step()
    assert_quantized(quantizer, mlp.model)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in mlp.model.named_parameters())


@pytest.mark.parametrize("spec", SPECS)
def test_a_closure_sees_the_rounded_model(mlp, spec):
    quantizer = Quantizer(mlp.model, SPECS[spec])
    solver = torch.optim.LBFGS([*mlp.model.parameters(), *quantizer.parameters()], lr=0.1, max_iter=4)
    quantizer.attach(solver)
    n_seen = 0

    def closure():
        nonlocal n_seen
        n_seen += 1
        assert_quantized(quantizer, mlp.model)
        solver.zero_grad()
        loss = mlp.loss()
        loss.backward()
        return loss

    for _ in range(3):
        solver.step(closure)
        assert_quantized(quantizer, mlp.model)
        quantizer.step(16)
    assert n_seen > 3


@pytest.mark.parametrize("spec", SPECS)
def test_the_parts_may_have_optimizers_of_their_own(mlp, spec):
    quantizer = Quantizer(mlp.model, SPECS[spec])
    solvers = [torch.optim.Adam(list(of), lr=1e-2) for of in (mlp.model.parameters(), quantizer.parameters())]
    for solver in solvers:
        quantizer.attach(solver)
    before = quantizer.step_sizes
    for _ in range(20):
        mlp.model.zero_grad()
        mlp.loss().backward()
        for solver in solvers:
            solver.step()
            assert_quantized(quantizer, mlp.model)
        quantizer.step(16)
    assert all(not torch.equal(step, before[name]) for name, step in quantizer.step_sizes.items())


def test_steps_that_no_optimizer_holds_stay(mlp):
    quantizer = Quantizer(mlp.model, SPECS["rate"])
    solver = torch.optim.Adam(mlp.model.parameters(), lr=0.03)
    quantizer.attach(solver)
    before = quantizer.step_sizes
    mlp.train(solver, quantizer, steps=20)
    assert all(torch.equal(step, before[name]) for name, step in quantizer.step_sizes.items())
    assert_quantized(quantizer, mlp.model)


def test_accumulation_and_clipping_see_the_users_gradients(mlp):
    other = copy.deepcopy(mlp.model)
    results = []
    for model, parts in ((mlp.model, 1), (other, 4)):
        quantizer, solver = begun(model.double(), SPECS["rate"])
        norms = []
        for _ in range(5):
            solver.zero_grad()
            for x, y in zip(mlp.x.double().chunk(parts), mlp.y.chunk(parts), strict=True):
                (nn.functional.cross_entropy(model(x), y) / parts).backward()
            norms.append(float(nn.utils.clip_grad_norm_((p for g in solver.param_groups for p in g["params"]), 0.1)))
            solver.step()
            quantizer.step(16)
        results.append((norms, [p.detach() for p in model.parameters()]))
    (norms, weights), (norms2, weights2) = results
    assert norms == pytest.approx(norms2)
    assert all(torch.allclose(a, b) for a, b in zip(weights, weights2, strict=True))


@pytest.mark.parametrize("fused", [False, True])
def test_scaled_gradients_come_to_the_same(mlp, fused):
    other = copy.deepcopy(mlp.model)
    for model, scaler in ((mlp.model, None), (other, torch.amp.GradScaler("cpu", init_scale=2.0**10))):
        quantizer = Quantizer(model, SPECS["rate"])
        solver = torch.optim.Adam(quantizer.param_groups(lr=1e-3), fused=fused)
        quantizer.attach(solver)
        for _ in range(8):
            solver.zero_grad()
            loss = mlp.loss(model)
            (loss if scaler is None else scaler.scale(loss)).backward()
            if scaler is None:
                solver.step()
            else:
                scaler.step(solver)
                scaler.update()
            quantizer.step(16)
    for one, two in zip(mlp.model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-4)


@pytest.mark.parametrize("spec", SPECS)
def test_a_pruner_beside_keeps_its_zeros(task, spec):
    pruner = Pruner(task.model, PruneSpec(schedule=Cubic(sparsity=0.8, steps=10)))
    quantizer, solver = begun(task.model, SPECS[spec])
    pruner.attach(solver)
    for _ in range(20):
        solver.zero_grad()
        task.loss().backward()
        solver.step()
        pruner.step(16)
        quantizer.step(16)
        for name, mask in pruner.masks.items():
            assert not task.model.get_parameter(name)[~mask].view(torch.int32).any()
        assert_quantized(quantizer, task.model)
    assert quantizer.sparsity > 0.5


def test_weights_from_elsewhere_are_taken_over(mlp):
    quantizer, solver = begun(mlp.model, SPECS["rate"])
    other = {name: torch.randn_like(tensor) for name, tensor in mlp.model.state_dict().items()}
    mlp.model.load_state_dict(other)
    mlp.train(solver, quantizer, steps=1)
    assert_quantized(quantizer, mlp.model)
    for name, step in quantizer.step_sizes.items():
        assert (quantizer._weights[name].latent * step - other[name]).abs().max() < 0.2


def test_tied_weights_are_one():
    torch.manual_seed(0)
    embed, head = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False)
    head.weight = embed.weight
    net = nn.Sequential(embed, head)
    quantizer, solver = begun(net, SPECS["rate"])
    assert list(quantizer.integers) == ["0.weight"]
    for _ in range(20):
        nn.functional.cross_entropy(net(torch.arange(7)), torch.arange(7)).backward()
        solver.step()
        quantizer.step(7)
    assert net[0].weight is net[1].weight
    assert_quantized(quantizer, net)


def test_frozen_weights_and_others_without_a_gradient_rest(mlp):
    quantizer, solver = begun(mlp.model, RateSpec(lam=0.1, steps=20))
    mlp.model[0].weight.requires_grad = False
    before = mlp.model[0].weight.detach().clone(), quantizer._weights["0.weight"].latent.clone()
    mlp.train(solver, quantizer, steps=10)
    assert torch.equal(mlp.model[0].weight, before[0])
    assert torch.equal(quantizer._weights["0.weight"].latent, before[1])


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adam, fused"])
def test_bits_have_their_price_whatever_is_made_of_the_loss(mlp, optimizer, maximize):
    """The same steps, to the bit, whether the loss is made smaller or its negative larger."""
    trained = []
    for sign in (1, -1) if maximize else (1, 1):
        model = copy.deepcopy(mlp.model)
        quantizer = Quantizer(model, RateSpec(lam=1e-2, steps=30))
        solver = OPTIMIZERS[optimizer](quantizer.param_groups(lr=1e-3))
        for group in solver.param_groups:
            group["maximize"] = sign < 0
        quantizer.attach(solver)
        for _ in range(30):
            solver.zero_grad()
            (sign * nn.functional.cross_entropy(model(mlp.x), mlp.y)).backward()
            solver.step()
            quantizer.step(16)
        trained.append(model.state_dict())
    assert quantizer.sparsity > 0.1
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


class Wrapper(torch.optim.Optimizer):
    """An optimizer that goes on after the one that it wraps, or fails there."""

    def __init__(self, inner, after):
        self.inner, self.after = inner, after
        super().__init__(inner.param_groups, {})

    def step(self, closure=None):
        result = self.inner.step(closure)
        self.after(self)
        return result


def pulled(wrapper):
    """Slow weights, as Lookahead has them."""
    for group in wrapper.param_groups:
        for parameter in group["params"]:
            parameter.data.mul_(0.99)


def failing(_wrapper):
    raise RuntimeError("after the inner step")


def test_a_wrapper_that_goes_on_moves_latents(mlp):
    quantizer = Quantizer(mlp.model, RateSpec(lam=1e-6, steps=20))
    solver = Wrapper(torch.optim.Adam(quantizer.param_groups(lr=1e-3)), pulled)
    quantizer.attach(solver)
    for _ in range(10):
        mlp.train(solver, quantizer, steps=1)
        assert_quantized(quantizer, mlp.model)
    assert any((latent.latent != latent.integers).any() for latent in quantizer._weights.values())


def test_a_wrapper_that_fails_leaves_rounded_weights_and_goes_on(mlp):
    quantizer = Quantizer(mlp.model, RateSpec(lam=1e-6, steps=20))
    solver = Wrapper(torch.optim.Adam(quantizer.param_groups(lr=1e-3)), failing)
    quantizer.attach(solver)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="after the inner step"):
            mlp.train(solver, steps=1)
        assert_quantized(quantizer, mlp.model)
        quantizer.step(16)
    solver.after = pulled
    mlp.train(solver, quantizer, steps=2)
    assert_quantized(quantizer, mlp.model)


def test_a_copy_that_a_closure_makes_goes_on(mlp):
    quantizer = Quantizer(mlp.model, RateSpec(lam=1e-6, steps=20))
    solver = torch.optim.LBFGS(mlp.model.parameters(), lr=1e-3, max_iter=2)
    quantizer.attach(solver)
    copies = []

    def closure():
        solver.zero_grad()
        loss = mlp.loss()
        loss.backward()
        if not copies:
            copies.append(copy.deepcopy((mlp.model, quantizer, torch.optim.SGD(mlp.model.parameters(), lr=0.1))))
        return loss

    solver.step(closure)
    model, copied, plain = copies[0]
    copied.attach(plain)
    mlp.train(plain, copied, steps=3, model=model)
    assert_quantized(copied, model)


def test_steps_that_nobody_rounds_are_refused(mlp):
    quantizer = Quantizer(mlp.model, RateSpec(lam=1e-6, steps=20))
    mlp.loss().backward()
    with pytest.raises(StateError, match=r"no optimizer is attached to this Quantizer, .*: attach\(\) it"):
        quantizer.step(16)


def test_a_clock_that_stands_still_is_told_once(mlp):
    quantizer, solver = begun(mlp.model, RateSpec(lam=1e-6, steps=20))
    with pytest.warns(RuntimeWarning, match=r"100 steps of an optimizer have ended without Quantizer\.step") as caught:
        mlp.train(solver, steps=250)
    assert len(caught) == 1
    quantizer.step(16)


def test_frozen_weights_are_left_alone_unless_they_are_named(mlp):
    mlp.model[0].weight.requires_grad = False
    spec = RateSpec(lam=1e-6, steps=20)
    quantizer = Quantizer(mlp.model, spec)
    assert "0.weight" not in quantizer.integers
    assert ("0.weight", "frozen: what is not learned can only be rounded") in quantizer.report().skipped
    quantizer.finalize(early=True)
    assert "0.weight" in Quantizer(mlp.model, {"0.weight": spec}).integers


def test_what_is_quantized_by_default():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 8)
            self.attend = nn.MultiheadAttention(8, 2)
            self.conv = nn.Conv1d(8, 4, 3)
            self.norm = nn.BatchNorm1d(4)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.scale = nn.Parameter(torch.ones(4))
            self.counts = nn.Parameter(torch.ones(3, 3, dtype=torch.int64), requires_grad=False)
            self.empty = nn.Parameter(torch.ones(0, 3))

    matrices = ["attend.in_proj_weight", "attend.out_proj.weight", "conv.weight"]
    others = ["embed.weight", "attend.in_proj_bias", "attend.out_proj.bias", "conv.bias", "normed.bias"]
    assert set(Quantizer(Net(), RateSpec(lam=1e-6, steps=1)).integers) == {*matrices, *others}
    assert set(Quantizer(Net(), IntSpec(bits=8)).integers) == {*matrices, "normed.weight.original1"}
    plan = {"*bias": None, nn.BatchNorm1d: IntSpec(bits=8), "*": RateSpec(lam=1e-6, steps=1)}
    quantizer = Quantizer(Net(), plan)
    assert set(quantizer.integers) == {*matrices, "embed.weight", "norm.weight"}
    assert ("conv.bias", "the plan leaves it alone") in quantizer.report().skipped


def test_target_bytes_are_met():
    torch.manual_seed(0)
    x = torch.randn(512, 64)
    y = (x @ torch.randn(64, 4)).argmax(1)
    for target in (600, 1200):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
        quantizer, solver = begun(net, RateSpec(target_bytes=target, steps=400))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(solver, 400)
        for n in range(400):
            at = slice(n % 8 * 64, n % 8 * 64 + 64)
            solver.zero_grad()
            nn.functional.cross_entropy(net(x[at]), y[at]).backward()
            solver.step()
            quantizer.step(64)
            schedule.step()
        assert 0.9 * target <= quantizer.n_bytes <= target


def test_finalize_lets_go(mlp):
    quantizer, solver = begun(mlp.model, SPECS["int4"])
    report = quantizer.finalize()
    assert "IntSpec" in report.weights[0].filler
    assert "estimated" in str(report)
    assert quantizer.finalize() == report
    mlp.train(solver, steps=1)
    steps = quantizer.step_sizes["0.weight"]
    assert not torch.equal((mlp.model[0].weight / steps).round() * steps, mlp.model[0].weight)
    for call in (lambda: quantizer.step(1), lambda: quantizer.attach(solver), lambda: quantizer.load_state_dict({})):
        with pytest.raises(StateError, match="this Quantizer was finalized"):
            call()


def test_fit_takes_a_quantizer_and_resumes_with_the_same_bits(mlp, tmp_path):
    def task():
        torch.manual_seed(3)
        model = mlp.make()
        quantizer = Quantizer(model, RateSpec(lam=1e-3, epochs=4), epoch_size=64)
        solver = torch.optim.Adam(quantizer.param_groups(lr=1e-3))
        quantizer.attach(solver)
        return Fitted(model=model, optimizer=solver, keeper=quantizer, train=lambda _: [(mlp.x, mlp.y)] * 4)

    whole, halves = task(), task()
    progress = fit(whole, 4)
    assert progress.epochs[-1].sparsity > 0
    assert progress.epochs[-1].target_sparsity is None
    checkpoint = Checkpoint(path=tmp_path / "run.pt")
    fit(halves, 2, checkpoint=checkpoint)
    again = task()
    fit(again, 4, checkpoint=checkpoint)
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert_quantized(again.keeper, again.model)


def test_what_is_illegal_is_named(mlp):
    spec = RateSpec(lam=1e-6, steps=10)
    before = copy.deepcopy(mlp.model.state_dict())
    wrong = [
        (lambda: RateSpec(steps=3), OptionError, "give lam, target_bytes or both"),
        (lambda: RateSpec(lam=0, steps=3), OptionError, "lam=0 is illegal"),
        (lambda: RateSpec(lam=1e-6), OptionError, "exactly one of epochs, steps, samples to RateSpec, not none"),
        (lambda: RateSpec(lam=1e-6, steps=3, epochs=1), OptionError, "not epochs, steps"),
        (lambda: RateSpec(3e-6, 20), OptionTypeError, r"by name: RateSpec\(lam=3e-06, epochs=20\)"),
        (lambda: IntSpec(bits=1), OptionError, "bits=1 is illegal"),
        (lambda: IntSpec(bits=9), OptionError, r"bits=9 is illegal: it must be a whole number in \[2, 8\]"),
        (lambda: Quantizer(mlp.model, {"0.weigth": spec}), PlanError, "did you mean '0.weight'"),
        (lambda: Quantizer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5))), OptionTypeError, "must be a RateSpec"),
        (
            lambda: Quantizer(mlp.model, {"*": Static(sparsity=0.5)}),
            OptionTypeError,
            "a RateSpec or an IntSpec or None",
        ),
        (lambda: Quantizer(nn.ReLU(), spec), PlanError, "nothing to quantize in ReLU"),
        (lambda: Quantizer(mlp.model, RateSpec(lam=1e-6, epochs=1)), OptionError, "epoch_size=None is illegal"),
        (lambda: Quantizer(mlp.model, spec, optimizer="sgd"), OptionTypeError, "must be a torch.optim.Optimizer"),
        (lambda: Quantizer(mlp.model, spec).step(0), OptionError, "n_samples=0 is illegal"),
        (lambda: Quantizer(mlp.model, spec).param_groups(lr=-1), OptionError, "lr=-1 is illegal"),
        (lambda: Quantizer(mlp.model, spec).lam("x"), OptionError, "name='x' is illegal"),
        (lambda: Quantizer(nn.Embedding(9, 3, sparse=True), spec), PlanError, "sparse=False"),
    ]
    for call, kind, fact in wrong[:-6]:
        with pytest.raises(kind, match=fact):
            call()
    for name, tensor in mlp.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    for call, kind, fact in wrong[-6:]:
        with pytest.raises(kind, match=fact):
            call()
    mlp.model[0].weight.data[0, 0] = math.nan
    with pytest.raises(OptionError, match=r"'0\.weight' cannot be quantized: it holds inf or NaN"):
        Quantizer(mlp.model, spec)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 0.02])
def test_biases_may_begin_far_below_their_first_step(scale):
    net = nn.Linear(5, 4)
    with torch.no_grad():
        net.bias.copy_(scale * torch.arange(4.0))
    quantizer = Quantizer(net, RateSpec(lam=1e-6, steps=5))
    assert not net.bias.any() or scale == 0.02
    assert net.weight.any()
    quantizer.finalize(early=True)
