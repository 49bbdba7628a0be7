"""Optimizers as they come: in wrappers, in hooks, compiled, failing, with states of another life; zeros stay in all."""

import contextlib
import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prunecell import Cubic, Lowest, Pruner, PruneSpec, Random, Static, share_
from prunecell.enforcement.levels import levels_of
from prunecell.errors import OptionError, OptionTypeError

pytestmark = pytest.mark.filterwarnings("ignore::prunecell.errors.UnfinishedWarning")  # they let go halfway

STILL = PruneSpec(schedule=Static(sparsity=0.75))
REVIVING = PruneSpec(filler=Lowest(revives=True), schedule=Cubic(sparsity=0.75, steps=4))
SPECS = pytest.mark.parametrize("spec", [STILL, REVIVING], ids=["still", "reviving"])


class Plain:
    """A wrapper that is no Optimizer and changes the weights after the inner step, as Lookahead does."""

    def __init__(self, inner):
        self.inner = inner
        self.slow = [p.detach().clone() for g in inner.param_groups for p in g["params"]]

    @property
    def param_groups(self):
        return self.inner.param_groups

    def zero_grad(self):
        self.inner.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.inner.step(closure)
        for slow, p in zip(self.slow, (p for g in self.param_groups for p in g["params"]), strict=True):
            slow.lerp_(p, 0.5)
            p.copy_(slow)
        return loss


class Subclass(torch.optim.Optimizer):
    """As Accelerate's: a subclass that never calls the constructor, so it has no hooks of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getstate__(self):
        return dict(vars(self))

    def __setstate__(self, state):
        vars(self).update(state)

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)

    def zero_grad(self, set_to_none=True):  # noqa: FBT002 - torch's
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.optimizer.step(closure)


class Lookahead(torch.optim.Optimizer):
    """With hooks of its own, and something to do after the inner step."""

    def __init__(self, optimizer):
        self.optim = optimizer
        super().__init__(optimizer.param_groups, {})
        self.param_groups = optimizer.param_groups
        for p in (p for g in self.param_groups for p in g["params"]):
            self.state[p]["slow"] = p.detach().clone()

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.optim.step(closure)
        for p in (p for g in self.param_groups for p in g["params"]):
            p.copy_(self.state[p]["slow"].lerp_(p, 0.5))
        return loss


class Schedulefree(torch.optim.Optimizer):
    """The weights are an interpolation of `z`, which the solver moves, and of its average."""

    def __init__(self, parameters, lr=0.05):
        super().__init__(parameters, {"lr": lr, "k": 0})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            group["k"] += 1
            for p in (p for p in group["params"] if p.grad is not None):
                z = self.state[p].setdefault("z", p.detach().clone())
                p.lerp_(z, 1 / group["k"])
                z.sub_(p.grad, alpha=group["lr"])
        return loss


class Lightninglike:
    """Takes the class and the attributes of what it wraps, but not its step."""

    def __init__(self, optimizer):
        self.__dict__ = {k: v for k, v in vars(optimizer).items() if k != "step"}
        self.__class__ = type("Lightning" + type(optimizer).__name__, (type(self), type(optimizer)), {})
        self._optimizer = optimizer

    def step(self, closure=None):
        return self._optimizer.step(closure)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1)


WRAPPERS = {
    "no wrapper": adam,
    "plain": lambda p: Plain(adam(p)),
    "subclass": lambda p: Subclass(adam(p)),
    "subclass of lookahead": lambda p: Subclass(Lookahead(adam(p))),
    "lookahead": lambda p: Lookahead(adam(p)),
    "plain of plain": lambda p: Plain(Plain(torch.optim.SGD(p, lr=0.1, momentum=0.9))),
    "lightninglike": lambda p: Lightninglike(adam(p)),
    "schedulefree": Schedulefree,
    "subclass of schedulefree": lambda p: Subclass(Schedulefree(p)),
}


def dead(model, pruner):
    """How many pruned weights are not +0.0."""
    return sum(
        int(model.get_parameter(name).detach()[~mask].view(torch.int32).count_nonzero())
        for name, mask in pruner.masks.items()
    )


def train(mlp, optimizer, pruner, steps=6, model=None):
    model = mlp.model if model is None else model
    for _ in range(steps):
        optimizer.zero_grad()
        mlp.loss(model).backward()
        optimizer.step()
        assert dead(model, pruner) == 0
        pruner.step(16)
        assert dead(model, pruner) == 0


@SPECS
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("trained", [0, 2])
def test_wrappers(mlp, wrapper, spec, trained):
    optimizer = WRAPPERS[wrapper](mlp.model.parameters())
    for _ in range(trained):  # a state that is not at rest when the weights are pruned
        optimizer.zero_grad()
        mlp.loss().backward()
        optimizer.step()
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    train(mlp, optimizer, pruner)
    assert pruner.sparsity == pytest.approx(0.75, abs=0.01)
    assert all(mlp.model.get_parameter(name).detach()[mask].any() for name, mask in pruner.masks.items())
    levels = levels_of(optimizer)
    assert all("step" in vars(level) for level in levels)
    pruner.finalize()
    assert not any("step" in vars(level) for level in levels)
    assert not any(getattr(level, "_optimizer_step_post_hooks", None) for level in levels)


def test_accelerate(mlp):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    raw = torch.optim.AdamW(mlp.model.parameters(), lr=0.01)
    model, optimizer, rates = accelerator.prepare(mlp.model, raw, StepLR(raw, 2))
    pruner = Pruner(model, REVIVING, optimizer=optimizer)
    for _ in range(8):
        with accelerator.accumulate(model):
            optimizer.zero_grad()
            accelerator.backward(mlp.loss(model))
            accelerator.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            rates.step()
        assert dead(model, pruner) == 0
        pruner.step(16)
    assert pruner.sparsity >= 0.75
    pruner.finalize()


def test_what_is_wrapped_may_be_attached_first_and_the_wrapper_later(mlp):
    inner = adam(mlp.model.parameters())
    pruner = Pruner(mlp.model, STILL, optimizer=inner)
    outer = Plain(inner)
    pruner.attach(outer)
    train(mlp, outer, pruner)
    for again in (outer, inner):
        with pytest.raises(OptionError, match="is attached already"):
            pruner.attach(again)


@pytest.mark.parametrize("thing", ["sgd", None, 3, object(), nn.Linear(2, 2), [adam(nn.Linear(2, 2).parameters())]])
def test_what_is_no_optimizer_is_refused(mlp, thing):
    pruner = Pruner(mlp.model, STILL)
    expected = r"optimizer is an? \w+: it must be a torch\.optim\.Optimizer, .* attach\(\)"
    with pytest.raises(OptionTypeError, match=expected):
        pruner.attach(thing)


@SPECS
@pytest.mark.parametrize("order", ["schedulers first", "schedulers last"])
def test_schedulers_of_learning_rates(mlp, spec, order):
    optimizer = adam(mlp.model.parameters())
    if order == "schedulers first":
        rates = StepLR(optimizer, 1), LambdaLR(optimizer, lambda _: 0.5)
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    if order == "schedulers last":
        rates = StepLR(optimizer, 1), LambdaLR(optimizer, lambda _: 0.5)
    for _ in range(3):
        train(mlp, optimizer, pruner, steps=1)
        for rate in rates:
            rate.step()
    pruner.finalize()
    train_on = mlp.model[0].weight.clone()
    mlp.train(optimizer, steps=2)
    assert (mlp.model[0].weight != train_on).all()
    assert optimizer._opt_called


# ---- steps that fail -------------------------------------------------------------------------------------------------


class Halfway(torch.optim.SGD):
    """Moves all weights and then fails, when told to."""

    error = None

    def step(self, closure=None):
        for p in (p for g in self.param_groups for p in g["params"]):
            p.data += 0.5
        loss = super().step(closure)
        if self.error:
            raise self.error
        return loss


@SPECS
@pytest.mark.parametrize("wrap", [lambda o: o, Plain, Subclass, Lookahead], ids=["alone", "plain", "subclass", "hooks"])
@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt(), RuntimeError("out of memory")], ids=repr)
def test_a_step_that_fails_leaves_zeros_and_the_next_one_works(mlp, spec, wrap, error):
    inner = Halfway(mlp.model.parameters(), lr=0.1, momentum=0.9)
    optimizer = wrap(inner)
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    train(mlp, optimizer, pruner, steps=2)
    masks = pruner.masks
    inner.error = error
    mlp.loss().backward()
    with pytest.raises(type(error)):
        optimizer.step()
    assert dead(mlp.model, pruner) == 0
    assert all(torch.equal(mask, masks[name]) for name, mask in pruner.masks.items())
    inner.error = None
    train(mlp, optimizer, pruner, steps=3)


@SPECS
def test_a_closure_that_fails_leaves_zeros(mlp, spec):
    optimizer = torch.optim.LBFGS(mlp.model.parameters(), max_iter=3)
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)

    def closure():
        assert dead(mlp.model, pruner) == 0
        if fails:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss = mlp.loss()
        for p, g in zip(mlp.model.parameters(), torch.autograd.grad(loss, mlp.model.parameters()), strict=True):
            p.grad = g
        return loss

    for step in range(6):
        fails = step in (0, 3)
        with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
            optimizer.step(closure)
        assert dead(mlp.model, pruner) == 0
        pruner.step(16)


# ---- ways to train ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["user's hooks first", "ours first"])
def test_an_optimizer_that_steps_in_the_backward_pass(mlp, first):
    solvers = {p: adam([p]) for p in mlp.model.parameters()}

    def step_now(p):
        solvers[p].step()
        solvers[p].zero_grad()

    def hang():
        for p in mlp.model.parameters():
            p.register_post_accumulate_grad_hook(step_now)

    if first == "user's hooks first":
        hang()
    pruner = Pruner(mlp.model, STILL)
    for name in pruner.masks:
        pruner.attach(solvers[mlp.model.get_parameter(name)])
    if first == "ours first":
        hang()
    before = mlp.model[0].weight.detach().clone()
    for _ in range(6):
        mlp.loss().backward()
        assert dead(mlp.model, pruner) == 0
        pruner.step(16)
    assert (mlp.model[0].weight != before)[pruner.masks["0.weight"]].all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SparseAdam(list(p), lr=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ],
    ids=["sgd", "momentum", "sparse adam", "adagrad"],
)
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own, of its own Adagrad
@SPECS
def test_sparse_gradients(kind, make, spec):
    torch.manual_seed(0)
    model = kind(50, 7, sparse=True)
    optimizer = make(model.parameters())
    for steps, pruner in ((2, None), (8, Pruner(model, {"weight": spec}, optimizer=optimizer))):
        for step in range(steps):
            optimizer.zero_grad()
            x = torch.arange(step, step + 9).repeat(2)[None]
            model(x).square().sum().backward()
            if pruner is not None:
                gradient = model.weight.grad
                assert gradient.is_sparse
                assert not gradient.to_dense()[~pruner.masks["weight"]].any()
                assert gradient.to_dense()[pruner.masks["weight"]].any()
            optimizer.step()
            if pruner is not None:
                assert dead(model, pruner) == 0
                pruner.step(4)
                assert dead(model, pruner) == 0


def test_states_and_weights_that_are_loaded_in_the_middle(mlp):
    dense = copy.deepcopy(mlp.model)
    solver = adam(dense.parameters())
    mlp.train(solver, steps=3, model=dense)
    optimizer = adam(mlp.model.parameters())
    pruner = Pruner(mlp.model, STILL, optimizer=optimizer)
    for change in (
        lambda: optimizer.load_state_dict(solver.state_dict()),
        lambda: mlp.model.load_state_dict(dense.state_dict()),
        lambda: setattr(mlp.model[0].weight, "data", torch.randn(32, 12)),
        lambda: mlp.model[0].weight.data.fill_(-0.0),
        lambda: mlp.model[0].weight.data.fill_(torch.nan),
        lambda: mlp.model.float().double().float(),
    ):
        change()
        optimizer.zero_grad()
        mlp.loss().backward()
        optimizer.step()
        assert dead(mlp.model, pruner) == 0
        pruner.step(16)


@SPECS
def test_every_state_that_is_saved_has_the_zeros(mlp, spec):
    optimizer = adam(mlp.model.parameters())
    dense = copy.deepcopy(mlp.model.state_dict())
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    train(mlp, optimizer, pruner, steps=2)

    def saved():
        states = mlp.model.state_dict(), pruner.state_dict()
        return [not states[0][name][~mask].any() for name, mask in pruner.masks.items()]

    optimizer.zero_grad()
    mlp.loss().backward()
    assert all(saved())
    optimizer.step()
    assert all(saved())
    pruner.step(16)
    assert all(saved())
    mlp.model.load_state_dict(dense)
    assert all(saved())


@SPECS
def test_groups_that_are_added_later_and_others_that_no_optimizer_holds(mlp, spec):
    optimizer = adam([mlp.model[0].weight])
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    train(mlp, optimizer, pruner, steps=2)
    optimizer.add_param_group({"params": mlp.model[2].parameters()})
    train(mlp, optimizer, pruner, steps=2)
    stranger = torch.optim.SGD(mlp.model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        mlp.model[0].weight.data += 1
        stranger.step()
        pruner.step(16)
        assert dead(mlp.model, pruner) == 0


@SPECS
def test_averages_of_weights_see_zeros(mlp, spec):
    optimizer = Halfway(mlp.model.parameters(), lr=0.1)
    average = AveragedModel(mlp.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    seen = []
    # hung before the pruner's own hooks
    optimizer.register_step_post_hook(lambda *_: seen.append(mlp.model[0].weight.detach().clone()))
    pruner = Pruner(mlp.model, spec, optimizer=optimizer)
    for _ in range(6):
        mask = pruner.masks["0.weight"]
        train(mlp, optimizer, pruner, steps=1)
        assert not seen[-1][~mask].any()
    average.update_parameters(mlp.model)
    mlp.train(optimizer, steps=1)
    average.update_parameters(mlp.model)
    assert dead(average.module, pruner) == 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch's own
def test_compiled_steps(mlp):
    torch._dynamo.reset()
    optimizer = adam(mlp.model.parameters())
    pruner = Pruner(mlp.model, REVIVING, optimizer=optimizer)
    step = torch.compile(optimizer.step, backend="aot_eager")
    for _ in range(4):
        optimizer.zero_grad()
        mlp.loss().backward()
        step()
        assert dead(mlp.model, pruner) == 0
        pruner.step(16)


# ---- who holds a weight, and for how long ----------------------------------------------------------------------------


def traces(model, optimizer):
    """All that a Pruner could leave behind."""
    hooks = [p for p in model.parameters() if p._post_accumulate_grad_hooks]
    inputs = [m for m in model.modules() if m._forward_pre_hooks]
    around = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    return hooks, inputs, around, "step" in vars(optimizer)


def fails(error):
    def filler(*_):
        raise error

    return filler


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), SystemExit()], ids=repr)
@pytest.mark.parametrize("where", ["filler", "schedule", "allocation", "optimizer"])
def test_a_constructor_that_fails_leaves_nothing_behind(mlp, error, where):
    optimizer = adam(mlp.model.parameters())
    mlp.train(optimizer, steps=2)
    bad = {
        "filler": PruneSpec(schedule=Static(sparsity=0.5), filler=fails(error)),
        "schedule": PruneSpec(schedule=fails(error)),
        "allocation": PruneSpec(schedule=Static(sparsity=0.5), allocation=fails(error)),
        "optimizer": REVIVING,
    }[where]
    if where == "optimizer":
        optimizer.register_step_post_hook = fails(error)
    before = copy.deepcopy((mlp.model.state_dict(), optimizer.state_dict()))
    with pytest.raises(type(error)):
        Pruner(mlp.model, {"0.weight": STILL, "2.weight": bad}, optimizer=optimizer)
    assert traces(mlp.model, optimizer) == ([], [], [], False)
    torch.testing.assert_close((mlp.model.state_dict(), optimizer.state_dict()), before, rtol=0, atol=0)
    vars(optimizer).pop("register_step_post_hook", None)
    Pruner(mlp.model, REVIVING, optimizer=optimizer)


def test_an_optimizer_of_another_model_leaves_nothing_behind(mlp):
    other = adam(mlp.make().parameters())
    with pytest.raises(OptionError, match="holds none of the pruned weights"):
        Pruner(mlp.model, REVIVING, optimizer=other)
    assert traces(mlp.model, other) == ([], [], [], False)


@pytest.mark.parametrize("first", [STILL, REVIVING], ids=["still", "reviving"])
@pytest.mark.parametrize("second", [STILL, REVIVING], ids=["still", "reviving"])
@pytest.mark.parametrize("frozen", [False, True])
def test_two_live_pruners_are_refused_and_one_that_is_gone_is_replaced(mlp, first, second, frozen):
    mlp.model.requires_grad_(requires_grad=not frozen)
    optimizer = adam(mlp.model.parameters())
    pruner = Pruner(mlp.model, first, optimizer=optimizer)
    with pytest.raises(OptionError, match=r"'2\.weight' is held by another Pruner, .*: finalize\(\) that one first"):
        Pruner(mlp.model, {"2.weight": second}, optimizer=optimizer)
    pruner.finalize()
    Pruner(mlp.model, second, optimizer=optimizer).finalize()  # the first exists, and does not count
    pruner = Pruner(mlp.model, first, optimizer=optimizer)
    masks, gone = pruner.masks, weakref.ref(pruner)
    del pruner
    assert gone() is None, "the hooks do not keep it"
    mlp.model.requires_grad_(requires_grad=True)
    mlp.train(optimizer, steps=2)
    assert all(not mlp.model.get_parameter(name).detach()[~mask].any() for name, mask in masks.items()), "but the zeros"
    pruner = Pruner(mlp.model, {"0.weight": second}, optimizer=optimizer)
    train(mlp, optimizer, pruner, steps=6)
    assert not mlp.model[2].weight.detach()[~masks["2.weight"]].any(), "what was not taken over is kept as before"
    Pruner(mlp.model, {"2.weight": second})
    pruner.finalize()
    assert not mlp.model[0].weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_two_pruners_of_different_weights_share_an_optimizer(mlp, order):
    optimizer = adam(mlp.model.parameters())
    pruners = [Pruner(mlp.model, {f"{index}.weight": REVIVING}, optimizer=optimizer) for index in (0, 2)]
    rates = StepLR(optimizer, 100)
    for done in order:
        for _ in range(5):
            mlp.train(optimizer, steps=1)
            rates.step()
            for pruner in (p for p in pruners if not p._finalized):
                assert dead(mlp.model, pruner) == 0
                pruner.step(16)
        pruners[done].finalize()
    before = mlp.model[0].weight.clone()
    mlp.train(optimizer, steps=1)
    assert (mlp.model[0].weight != before).all()
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("is_shared", [False, True], ids=["pruner", "sharing"])
@pytest.mark.usefixtures("no_garbage_collection")
def test_what_was_finalized_goes_at_once_and_keeps_no_weight(mlp, is_shared):
    optimizer = adam(mlp.model.parameters())
    held = share_(mlp.model, 3, optimizer=optimizer) if is_shared else Pruner(mlp.model, STILL, optimizer=optimizer)
    mlp.train(optimizer, steps=1)
    held.finalize()
    gone, weight = weakref.ref(held), weakref.ref(mlp.model[0].weight)
    del held
    assert gone() is None
    optimizer.zero_grad()
    del optimizer, mlp.model[0]
    assert weight() is None, "a large weight would stay until garbage is collected"


def test_a_pruner_does_not_keep_an_optimizer_alive(mlp):
    optimizer = adam(mlp.model.parameters())
    pruner = Pruner(mlp.model, STILL, optimizer=optimizer)
    gone = weakref.ref(optimizer)
    mlp.train(optimizer, pruner, steps=2)
    del optimizer
    gc.collect()
    assert gone() is None
    optimizer = adam(mlp.model.parameters())
    pruner.attach(optimizer)
    train(mlp, optimizer, pruner, steps=2)


def test_random_fillers_keep_their_zeros_too(mlp):
    optimizer = Schedulefree(mlp.model.parameters())
    pruner = Pruner(mlp.model, PruneSpec(schedule=Cubic(sparsity=0.9, steps=5), filler=Random()), optimizer=optimizer)
    train(mlp, optimizer, pruner, steps=8)
    assert pruner.sparsity == pytest.approx(0.9, abs=0.01)
