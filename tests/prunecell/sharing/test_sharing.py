"""Weights that share values keep sharing them while they train."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from prunecell import Cubic, Lowest, Pruner, PruneSpec
from prunecell.archive import inspect, load, save
from prunecell.errors import OptionError, OptionTypeError, StateError, UnfinishedWarning
from prunecell.quantization import IntSpec, Quantizer
from prunecell.sharing import share_
from prunecell.structured import RemoveSpec, remove_

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


def n_values(weight):
    return len(weight[weight != 0].unique())


def prune_(model, sparsity=0.5):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            keep = torch.rand(parameter.shape) >= sparsity
            parameter.data = torch.where(keep, parameter.data, 0.0)


def test_matrices_share_values_and_the_rest_does_not(task):
    before = copy.deepcopy(task.model)
    sharing = share_(task.model, bits=3)
    for (name, old), new in zip(before.named_parameters(), task.model.parameters(), strict=True):
        if old.dim() > 1:
            assert name in sharing.names
            assert n_values(new) <= 8
            assert (new - old).square().mean() < 0.1 * old.var()
        else:
            assert torch.equal(new, old)


def test_the_parameter_stays_the_parameter(task):
    before = dict(task.model.named_parameters())
    share_(task.model, bits=2)
    assert all(before[name] is parameter for name, parameter in task.model.named_parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sum_gradients", [False, True])
def test_training_keeps_the_values_shared_and_the_zeros_zero(task, optimizer, sum_gradients):
    prune_(task.model)
    zeros = {name: p == 0 for name, p in task.model.named_parameters() if p.dim() > 1}
    optimizer = OPTIMIZERS[optimizer](task.model.parameters())
    task.train(optimizer, steps=2)  # moments that differ within a cluster
    for name, parameter in task.model.named_parameters():
        if name in zeros:
            parameter.data[zeros[name]] = 0.0
    sharing = share_(task.model, bits=3, optimizer=optimizer, sum_gradients=sum_gradients)
    start = {name: sharing.values(name) for name in sharing.names}
    task.train(optimizer, steps=5)
    for name, parameter in task.model.named_parameters():
        if name in zeros:
            assert n_values(parameter) <= 8
            assert not parameter[zeros[name]].any()
            assert not parameter[zeros[name]].signbit().any()
            assert set(parameter[~zeros[name]].unique().tolist()) <= {0.0, *sharing.values(name).tolist()}
    assert any(not torch.equal(start[name], sharing.values(name)) for name in sharing.names)


@pytest.mark.parametrize("sum_gradients", [False, True])
def test_a_step_of_sgd_moves_each_value_by_its_gradient(sum_gradients):
    torch.manual_seed(0)
    net = nn.Linear(20, 10, bias=False).double()
    net.weight.data[0] = 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sharing = share_(net, bits=2, optimizer=optimizer, sum_gradients=sum_gradients)
    before = net.weight.detach().clone()
    net(torch.randn(30, 20).double()).square().mean().backward()
    gradient = net.weight.grad.clone()
    optimizer.step()
    for value in sharing.values("weight"):
        members = net.weight == value
        reduced = gradient[members].sum() if sum_gradients else gradient[members].mean()
        assert torch.allclose(net.weight[members], before[members] - 0.1 * reduced)
    assert not net.weight[0].any()


def test_training_with_shared_values_learns():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    x = torch.randn(200, 16)
    y = (x[:, 0] > x[:, 1]).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    share_(net, bits=4, optimizer=optimizer)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_a_shared_model_is_stored_as_a_codebook_without_loss(tmp_path):
    net = nn.Linear(200, 100)
    prune_(net, 0.9)
    save(net, tmp_path / "free.pcell")
    share_(net, bits=5)
    save(net, tmp_path / "shared.pcell")
    assert torch.equal(load(tmp_path / "shared.pcell")["weight"], net.weight)
    assert {row.encoding for row in inspect(tmp_path / "shared.pcell") if row.name == "weight"} == {"gaps8 codebook"}
    assert (tmp_path / "shared.pcell").stat().st_size < 0.5 * (tmp_path / "free.pcell").stat().st_size


def test_a_run_goes_on_with_the_same_bits(task):
    optimizer = OPTIMIZERS["sgd"](task.model.parameters())
    sharing = share_(task.model, bits=3, optimizer=optimizer)
    task.train(optimizer, steps=3)
    saved = copy.deepcopy([task.model.state_dict(), optimizer.state_dict(), sharing.state_dict()])
    task.train(optimizer, steps=3)

    other = task.make()
    optimizer = OPTIMIZERS["sgd"](other.parameters())
    again = share_(other, bits=3, optimizer=optimizer)
    other.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    task.train(optimizer, steps=3, model=other)
    for one, two in zip(task.model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_finalize_lets_go(mlp):
    optimizer = OPTIMIZERS["sgd"](mlp.model.parameters())
    sharing = share_(mlp.model, bits=2, optimizer=optimizer)
    sharing.finalize()
    assert n_values(mlp.model[0].weight) <= 4
    mlp.train(optimizer, steps=1)
    assert n_values(mlp.model[0].weight) > 4


def test_eight_bits_and_zeros_are_257_values():
    torch.manual_seed(0)
    net = nn.Linear(300, 100, bias=False)
    net.weight.data.view(-1)[:1000] = 0
    net.weight.data.view(-1)[1000:] = torch.linspace(0.01, 1, 29000)
    share_(net, bits=8)
    assert n_values(net.weight) > 200
    assert not net.weight.view(-1)[:1000].any()
    assert net.weight.view(-1)[1000:].all()


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's: it has no hooks of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self, closure=None):
        return self.optimizer.step(closure)


@pytest.mark.parametrize("sum_gradients", [False, True])
def test_what_wraps_an_optimizer_reduces_gradients_once(mlp, sum_gradients):
    models, options = (mlp.model, copy.deepcopy(mlp.model)), {"bits": 2, "sum_gradients": sum_gradients}
    for model, wrap in zip(models, (lambda o: o, Wrapper), strict=True):
        optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.01))
        sharing = share_(model, optimizer=optimizer, **options)
        with pytest.raises(OptionError, match="is attached already"):
            sharing.attach(optimizer)
        mlp.train(optimizer, steps=3, model=model)
        assert n_values(model[0].weight) <= 4
    assert all(torch.equal(p, q) for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_an_optimizer_that_fails_or_is_of_another_model(mlp):
    optimizer = OPTIMIZERS["sgd"](mlp.model.parameters())
    sharing = share_(mlp.model, bits=2, optimizer=optimizer)
    with pytest.raises(OptionError, match="holds none of the shared weights"):
        sharing.attach(OPTIMIZERS["sgd"](mlp.make().parameters()))

    def closure():
        mlp.model[0].weight.data += torch.rand(32, 12)
        raise MemoryError

    with pytest.raises(MemoryError):
        optimizer.step(closure)
    assert n_values(mlp.model[0].weight) <= 4


@pytest.mark.parametrize("revives", [False, True])
@pytest.mark.parametrize("pruner_first", [False, True])
def test_a_pruner_goes_on_pruning_what_is_shared(mlp, revives, pruner_first):
    optimizer = OPTIMIZERS["adamw"](mlp.model.parameters())
    spec = PruneSpec(schedule=Cubic(sparsity=0.75, steps=5), filler=Lowest(revives=revives))
    make = {
        "pruner": lambda: Pruner(mlp.model, spec, optimizer=optimizer),
        "sharing": lambda: share_(mlp.model, bits=3, optimizer=optimizer),
    }
    made = {name: make[name]() for name in sorted(make, reverse=not pruner_first)}
    for _ in range(8):
        mlp.train(optimizer, steps=1)
        for name, mask in made["pruner"].masks.items():
            weight = mlp.model.get_parameter(name).detach()
            assert not weight[~mask].view(torch.int32).any()
            assert n_values(weight) <= 8
        made["pruner"].step(16)
    assert made["pruner"].sparsity == pytest.approx(0.75, abs=0.01)


def test_some_parameters_by_name(mlp):
    before = mlp.model[2].weight.detach().clone()
    sharing = share_(mlp.model, bits=1, names=["0.weight", "0.bias"])
    assert sharing.names == ("0.weight", "0.bias")
    assert n_values(mlp.model[0].bias) <= 2
    assert torch.equal(mlp.model[2].weight, before)


def test_a_weight_of_zeros_stays_so():
    net = nn.Linear(4, 3)
    net.weight.data.zero_()
    sharing = share_(net, bits=2)
    assert not net.weight.any()
    assert not len(sharing.values("weight"))


def test_what_is_illegal_is_named(mlp):
    for bits in (0, 9):
        with pytest.raises(OptionError, match=f"bits={bits} is illegal"):
            share_(mlp.model, bits=bits)
    for bits in (2.5, [4], None, True, "4"):
        with pytest.raises(
            OptionTypeError, match=f"bits={re.escape(repr(bits))} is illegal: it must be a whole number"
        ):
            share_(mlp.model, bits=bits)
    with pytest.raises(OptionError, match=r"no parameter '0\.weigth'; did you mean '0\.weight'"):
        share_(mlp.model, names=["0.weigth"])
    with pytest.raises(OptionTypeError, match=r"it must be a torch\.optim\.Optimizer"):
        share_(mlp.model).attach("sgd")
    with pytest.raises(OptionError, match="parameter 'x' is not shared"):
        share_(mlp.model).values("x")
    mlp.model[0].weight.data[0, 0] = np.nan
    with pytest.raises(OptionError, match=r"'0\.weight' cannot be shared: it holds inf or NaN"):
        share_(mlp.model)


def test_a_state_that_does_not_fit_is_refused_and_nothing_changed(mlp):
    sharing = share_(mlp.model, bits=2)
    state = sharing.state_dict()
    before = mlp.model[0].weight.detach().clone()
    clusters = state["clusters"]
    bad = [
        ({}, "version=None of the sharing's state is unknown: it must be 1"),
        ({"version": 1, "clusters": {}}, "it lacks '0.weight', '2.weight'"),
        ({"version": 1, "clusters": [3]}, r"clusters=\[3\] of the sharing's state is illegal: it must be a mapping"),
        ({"version": 1, "clusters": {**clusters, "2.weight": clusters["2.weight"].to("meta")}}, "with values"),
        ({"version": 1, "clusters": {**clusters, "2.weight": clusters["2.weight"].to_sparse()}}, "a dense tensor"),
        (None, "the sharing's state is a NoneType: it must be a mapping"),
        ({"version": 1, "clusters": {**clusters, "2.weight": clusters["0.weight"]}}, "the clusters of '2.weight'"),
        ({"version": 1, "clusters": {**clusters, "2.weight": clusters["2.weight"].float()}}, "must be integers"),
        ({"version": 1, "clusters": {**clusters, "2.weight": clusters["2.weight"].short() - 9}}, r"in \[0, 256\]"),
    ]
    for wrong, fact in bad:
        with pytest.raises(StateError, match=fact):
            sharing.load_state_dict(wrong)
    assert torch.equal(mlp.model[0].weight, before)


class Mixed(nn.Module):
    """Weights, and what a Pruner leaves alone: an embedding, a tied head, a norm, gains of a weight norm, a bias."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.fc = nn.Linear(8, 8)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.norm = nn.LayerNorm([8, 1])
        self.head = nn.Linear(8, 9)
        self.head.weight = self.embed.weight
        self.register_parameter("counts", nn.Parameter(torch.ones(3, 3, dtype=torch.int64), requires_grad=False))
        self.register_parameter("empty", nn.Parameter(torch.ones(0, 3)))

    def forward(self, x):
        return self.head(self.norm(self.normed(self.fc(self.embed(x)))[..., None])[..., 0])


WRAPPERS = {
    "none": lambda model: model,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled, data parallel": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapper_changes_neither_what_is_shared_nor_its_names(wrap):
    torch.manual_seed(0)
    plain = Mixed()
    wrapped = WRAPPERS[wrap](copy.deepcopy(plain))
    sharing, other = share_(plain, bits=2), share_(wrapped, bits=2)
    half = PruneSpec(schedule=Cubic(sparsity=0.5, steps=2), filler=Lowest())
    assert sharing.names == other.names == tuple(Pruner(Mixed(), half).masks)
    assert "embed.weight" not in sharing.names
    sharing.load_state_dict(other.state_dict())
    other.load_state_dict(sharing.state_dict())
    assert all(torch.equal(sharing.values(name), other.values(name)) for name in sharing.names)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_name_reaches_any_parameter_of_floats_with_and_without_wrappers(wrap):
    wrapped = WRAPPERS[wrap](Mixed())
    for full, parameter in wrapped.named_parameters():
        if not parameter.is_floating_point() or not parameter.numel():
            with pytest.raises(OptionError, match=rf"{full}' cannot be shared: it is (of dtype|empty)"):
                share_(wrapped, names=[full])
            continue
        (plain,) = share_(wrapped, names=[full]).names
        assert share_(wrapped, names=[plain, full]).names == (plain,)
    assert share_(wrapped, names=["head.weight", "embed.weight"]).names == ("embed.weight",)
    with pytest.raises(OptionError, match=r"no parameter 'fc\.weigth'; did you mean 'fc\.weight'"):
        share_(wrapped, names=["fc.weigth"])


def test_what_is_no_model_is_refused():
    with pytest.raises(OptionTypeError, match="model is a dict: it must be a torch"):
        share_({})


def test_nothing_to_share_is_refused(mlp):
    with pytest.raises(OptionError, match="nothing to share in Sequential: names is empty"):
        share_(mlp.model, names=[])
    with pytest.raises(OptionError, match="nothing to share in LayerNorm: no weight is shared by default"):
        share_(nn.LayerNorm(3))


def test_what_is_refused_leaves_the_model_as_it_was(mlp):
    optimizer = OPTIMIZERS["sgd"](mlp.make().parameters())
    before = copy.deepcopy(mlp.model.state_dict())
    for wrong in ({"optimizer": "sgd"}, {"optimizer": optimizer}, {"names": ["0.weight", "x"]}):
        with pytest.raises((OptionError, OptionTypeError)):
            share_(mlp.model, bits=1, **wrong)
    assert all(torch.equal(value, before[name]) for name, value in mlp.model.state_dict().items())
    mlp.model[2].weight.data[0, 0] = np.inf
    with pytest.raises(OptionError, match="it holds inf or NaN"):
        share_(mlp.model, bits=1)
    assert torch.equal(mlp.model[0].weight, before["0.weight"])


# ---- entropy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 5])
def test_a_higher_weight_of_the_entropy_takes_fewer_bits_and_makes_more_error(bits):
    before = nn.init.normal_(nn.Linear(60, 50).weight, generator=torch.Generator().manual_seed(0)).detach()
    taken, errors = [], []
    for entropy in (0, 1, 4, 16, 1e6):
        net = nn.Linear(60, 50)
        net.weight.data.copy_(before)
        share_(net, bits=bits, entropy=entropy)
        _, counts = net.weight.detach().unique(return_counts=True)
        shares = counts / before.numel()
        assert len(counts) <= 1 << bits
        taken.append(float(-(shares * shares.log2()).sum()))
        errors.append(float((net.weight.detach() - before).square().mean()))
    assert taken == sorted(taken, reverse=True)
    assert errors == sorted(errors)
    assert taken[0] > taken[2] > taken[-1]


@pytest.mark.parametrize("entropy", [-1, float("nan"), float("inf")])
def test_entropy_out_of_range_is_refused(mlp, entropy):
    with pytest.raises(OptionError, match=f"entropy={entropy} is illegal: it must be a finite number >= 0"):
        share_(mlp.model, entropy=entropy)


def train_plainly(mlp):
    mlp.train(OPTIMIZERS["sgd"](mlp.model.parameters()), steps=2)


LOSING = {
    "no optimizer": (lambda _: None, train_plainly, "and none is attached"),
    "another optimizer": (lambda mlp: OPTIMIZERS["sgd"]([mlp.model[0].weight]), train_plainly, "one that is not"),
    "zeros that come back": (
        lambda _: None,
        lambda mlp: mlp.model[0].weight.data.masked_fill_(mlp.model[0].weight == 0, 0.5),
        "none is attached",
    ),
}


@pytest.mark.parametrize("way", LOSING)
def test_a_sharing_that_was_lost_says_so_once(mlp, way):
    attached, lose, message = LOSING[way]
    prune_(mlp.model)
    sharing = share_(mlp.model, bits=2, optimizer=attached(mlp))
    lose(mlp)
    with pytest.warns(UnfinishedWarning, match=f"the sharing is lost: .*{message}") as caught:
        sharing.finalize()
    assert caught[0].filename == __file__
    sharing.finalize()
    with pytest.raises(StateError, match="was finalized"):
        sharing.attach(OPTIMIZERS["sgd"](mlp.model.parameters()))


@pytest.mark.parametrize(
    "keep",
    [
        lambda _, __: None,
        lambda mlp, _: mlp.model.bfloat16(),
        lambda mlp, _: prune_(mlp.model),
        lambda mlp, sharing: (train_plainly(mlp), sharing.load_state_dict(sharing.state_dict())),
    ],
    ids=["nothing", "dtype", "pruned", "loaded"],
)
def test_a_sharing_that_is_there_says_nothing(mlp, keep):
    sharing = share_(mlp.model, bits=2)
    keep(mlp, sharing)
    sharing.finalize()


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize(
    "taker",
    [
        lambda model: Quantizer(model, IntSpec(bits=4)),
        share_,
        lambda model: remove_(model, RemoveSpec(sparsity=0.5), torch.zeros(1, model[0].in_features)),
    ],
    ids=["Quantizer", "share_", "remove_"],
)
def test_who_else_wants_the_weights_sees_a_sharing_attached_or_not(mlp, attached, taker):
    optimizer = OPTIMIZERS["sgd"](mlp.model.parameters())
    sharing = share_(mlp.model, bits=2, optimizer=optimizer if attached else None)
    with pytest.raises(OptionError, match=r"held by a Sharing|of a Pruner, Quantizer or Sharing"):
        taker(mlp.model)
    sharing.finalize()
    taker(mlp.model)
