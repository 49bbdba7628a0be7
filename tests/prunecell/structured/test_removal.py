"""Laws of removal: what contributes nothing goes without a trace, and what stays is what it was."""

import copy
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from prunecell import Lowest, Pruner, PruneSpec, Static, global_ranking, save
from prunecell.criteria import taylor
from prunecell.errors import OptionError, OptionTypeError, PlanError, StateError
from prunecell.sparse import compact_
from prunecell.structured import RemoveSpec, remove_
from prunecell.structured.coupled import Twin
from prunecell.structured.resizing import load_model


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


def cnn():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.PReLU(8), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(8, 6, 2), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(54, 4)),
    )


class Residual(nn.Module):
    """A ResNet: a block with and one without a convolution in its shortcut, and channels that are concatenated."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.a1, self.a2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.b1, self.b2 = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.short = nn.Conv2d(8, 16, 1, 2)
        self.last = nn.Linear(24, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.a2(torch.relu(self.a1(x))))
        y = torch.relu(self.short(x) + self.norm(self.b2(torch.relu(self.b1(x)))))
        return self.last(torch.cat([y.mean((2, 3)), x.mean((2, 3))], 1))


class Gated(nn.Module):
    """Halves of the channels that are multiplied, and channels that are scaled by what they tell together."""

    def __init__(self):
        super().__init__()
        self.gates, self.conv = nn.Conv2d(1, 16, 3), nn.Conv2d(8, 8, 3)
        self.down, self.up, self.last = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        a, b = self.gates(x).chunk(2, 1)
        x = torch.relu(self.conv(a * torch.sigmoid(b)))
        return self.last((x * self.up(torch.relu(self.down(x.mean((2, 3)))))[:, :, None, None]).mean((2, 3)))


class Heads(nn.Module):
    """Attention made of linear layers, one for all or three."""

    def __init__(self, kind):
        super().__init__()
        self.num_heads, self.kind = 4, kind
        if kind == "three":
            self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        else:
            self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x):
        if self.kind == "unbind":
            q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            parts = (self.q(x), self.k(x), self.v(x)) if self.kind == "three" else self.qkv(x).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """A block as in a vision transformer, with a class token and positions; the rows of an image are its tokens."""

    def __init__(self, attention):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 9, 16))
        self.norm, self.attention = nn.LayerNorm(16), attention
        self.up, self.down, self.last = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x.squeeze(1))], 1) + self.positions
        y = self.norm(x)
        packed = isinstance(self.attention, nn.MultiheadAttention)
        x = x + (self.attention(y, y, y, need_weights=False)[0] if packed else self.attention(y))
        return self.last((x + self.down(torch.relu(self.up(x))))[:, 0])


MODELS = {
    "mlp": mlp,
    "cnn": cnn,
    "residual": Residual,
    "gated": Gated,
    "three linear layers": lambda: Transformer(Heads("three")),
    "chunks of one": lambda: Transformer(Heads("chunk")),
    "parts of one": lambda: Transformer(Heads("unbind")),
    "torch's attention": lambda: Transformer(nn.MultiheadAttention(16, 4, batch_first=True)),
}
N_GROUPS = {
    "mlp": 2,
    "cnn": 2,
    "residual": 4,
    "gated": 3,
    "three linear layers": 3,
    "chunks of one": 3,
    "parts of one": 3,
    "torch's attention": 2,
}
every_model = pytest.mark.parametrize("name", MODELS)
X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def made(name):
    torch.manual_seed(0)
    return MODELS[name]()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@every_model
def test_the_groups_that_are_found(name):
    twin = Twin(made(name), X)
    assert len(twin.groups) == N_GROUPS[name]
    assert list(twin.left.values()) == ["the model returns them"]


@every_model
def test_units_without_weights_go_first_and_without_a_trace(name):
    """Whoever normalizes over units sees that some are missing, so there the residual stream is left alone."""
    model = made(name).eval()
    residual = {"embed.*": None} if isinstance(model, Transformer) else {"6.*": None} if name == "cnn" else {}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(-1, 1)
    for group in Twin(model, X).groups:
        if group.root in {"down", "6"} and residual:
            continue
        n, whole = group.n_units, group.n_units // group.n_blocks if group.whole else 1
        gone = torch.randperm(n // whole)[: n // whole // 2].repeat_interleave(whole) * whole
        gone += torch.arange(whole).repeat(len(gone) // whole)
        for weight, pairs in group.rows.items():
            rows = pairs[torch.isin(pairs[:, 1], gone), 0]
            layer = model.get_submodule(weight.removesuffix(".weight"))
            transposed = isinstance(layer, nn.ConvTranspose2d)
            (layer.weight.data.transpose(0, 1) if transposed else layer.weight.data)[rows] = 0.0
            if layer.bias is not None:
                layer.bias.data[rows] = 0.0
    before = model(X)
    removal = remove_(model, {**residual, "*": RemoveSpec(sparsity=0.5)}, X)
    assert all(after == units // 2 for units, after in removal.units.values())
    torch.testing.assert_close(model(X), before)


@every_model
@pytest.mark.parametrize("allocation", [None, global_ranking])
def test_a_goal_of_flops_is_kept_and_nearly_reached(name, allocation):
    model, dense = made(name), made(name)
    spec = RemoveSpec(flops=0.6) if allocation is None else RemoveSpec(flops=0.6, allocation=allocation)
    removal = remove_(model, spec, X)
    counted = {}
    for which, net in (("before", dense), ("after", model)):
        with FlopCounterMode(display=False) as counter:
            net.eval()(X)
        counts = counter.get_flop_counts()["Global"]
        weights = {op: n for op, n in counts.items() if "attention" not in str(op) and "bmm" not in str(op)}
        counted[which] = sum(weights.values()) // len(X)
    assert removal.flops == (counted["before"], counted["after"])
    assert 0.25 < removal.flops[1] / removal.flops[0] <= 0.6
    assert removal.n_parameters == tuple(sum(p.numel() for p in net.parameters()) for net in (dense, model))


@every_model
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_goes_on_with_the_moments_of_what_stays(name, optimizer):
    model = made(name)
    made_of = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    optimizer = optimizer(model.parameters(), lr=0.01, **made_of)
    model(X).square().sum().backward()
    optimizer.step()
    for parameter in model.parameters():
        for value in optimizer.state[parameter].values():
            if value.shape == parameter.shape:
                value.copy_(parameter.detach())
    remove_(model, RemoveSpec(sparsity=0.5), X, optimizer=optimizer)
    parameters = list(model.parameters())
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in parameters]
    assert set(optimizer.state) == set(parameters)
    for parameter in parameters:
        moments = [value for value in optimizer.state[parameter].values() if value.numel() > 1 or parameter.ndim == 0]
        assert all(torch.equal(value, parameter) for value in moments)
    before = [p.clone() for p in parameters]
    optimizer.zero_grad()
    model.train()(X).square().sum().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@every_model
def test_the_smaller_model_is_rebuilt_from_a_file_and_is_pruned_as_any_other(name, tmp_path):
    model = made(name)
    remove_(model, RemoveSpec(sparsity=0.5), X)
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest()))
    model.train()(X)
    pruner.finalize()
    assert pruner.sparsity >= 0.5
    save(model, tmp_path / "small.pcell")
    again = load_model(tmp_path / "small.pcell", MODELS[name]())
    assert repr(again) == repr(model)
    assert same(model, again)
    assert torch.equal(model.eval()(X), again.eval()(X))


def test_a_whole_head_goes_and_the_number_of_heads_with_it():
    model = made("three linear layers")
    remove_(model, {"attention.[qkv].*": RemoveSpec(sparsity=0.3)}, X)
    assert model.attention.num_heads == 2
    assert model.attention.q.weight.shape == (8, 16)
    assert model.attention.out.weight.shape == (16, 8)


def test_a_criterion_may_need_batches():
    model = made("residual")
    spec = RemoveSpec(sparsity=0.5, criterion=taylor)
    with pytest.raises(OptionError, match="give batches and loss"):
        remove_(model, spec, X)
    assert same(model, made("residual"))
    batches = [(X, torch.tensor([0, 1, 2, 0, 1]))]
    by_taylor = copy.deepcopy(model)
    remove_(by_taylor, spec, X, batches=batches, loss=F.cross_entropy)
    remove_(model, RemoveSpec(sparsity=0.5), X)
    assert not same(model, by_taylor)


def test_sizes_are_multiples_of_what_is_asked_for():
    model = made("residual")
    removal = remove_(model, RemoveSpec(sparsity=0.6, multiple_of=4), X)
    assert set(removal.units.values()) == {(8, 4), (16, 8)}


def test_training_mode_and_frozen_parameters_stay():
    model = made("residual")
    model.a1.eval().requires_grad_(requires_grad=False)
    remove_(model, RemoveSpec(sparsity=0.5), X)
    assert model.training
    assert not model.a1.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["a1.weight", "a1.bias"]


def test_the_report_says_what_went_and_what_stayed():
    model = made("mlp")
    text = str(remove_(model, {"3.*": None, "*": RemoveSpec(sparsity=0.5)}, X))
    assert "1         12          6" in text
    assert "left (the plan leaves them alone): '3'" in text
    assert "left (the model returns them): '5'" in text
    assert "parameters: 911 before, 473 after" in text


# ---- what is refused, before anything is changed ---------------------------------------------------------------------


class Fixed(nn.Module):
    """A view of a written number of columns."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 4, 3), nn.Linear(144, 2)

    def forward(self, x):
        return self.last(torch.relu(self.conv(x)).view(-1, 144))


class Tied(nn.Module):
    """One matrix that is of two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x))))).mean((1, 2))


class TwoForHeads(nn.Module):
    """Queries in one layer, keys and values in another."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.q, self.kv, self.out = 2, nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 2)

    def forward(self, x):
        parts = (self.q(x.squeeze(1)), *self.kv(x.squeeze(1)).chunk(2, -1))
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Classes(nn.Module):
    """A model whose outputs have no gradient, so that nothing can be followed from them."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x).argmax(1)


class NormedTogether(nn.Module):
    """Channels of two convolutions in the same groups of a norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 16)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        return self.last(self.norm(torch.cat([self.a(x), self.b(x)], 1)).mean((2, 3)))


def _grouped():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 2))


def _parametrized():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 5))
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(5, 2))


class InTraining(nn.Module):
    """A model that does something more in training, where its units are of a size that does not follow."""

    def __init__(self, more):
        super().__init__()
        self.norm, self.a, self.b = nn.BatchNorm1d(64), nn.Linear(64, 16), nn.Linear(16, 4)
        self.head, self.noise, self.more = nn.Linear(16, 2), nn.Parameter(torch.zeros(16)), more
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x):
        x = torch.relu(self.a(self.norm(x.flatten(1))))
        return self.more(self, F.dropout(x, training=self.training)) if self.training else self.b(x)


def _head(m, x):
    return m.b(x), m.head(x)


def _noise(m, x):
    return m.b(x + m.noise)


def _mean(m, x):
    m.mean = 0.9 * m.mean + 0.1 * x.detach().mean(0)
    return m.b(x)


def _kept_mean(m, x):
    m.mean = x.detach().mean(0)
    return m.b(x)


def _targets(m, x):
    assert m.targets is not None, "training needs targets"
    return m.b(x)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: object = None


class Holder:
    def __init__(self, hidden):
        self.hidden, self.itself = hidden, self


class Slotted:
    __slots__ = ("hidden", "other")

    def __init__(self, hidden):
        self.hidden = hidden


class Returning(nn.Module):
    """A model that returns its hidden units in something."""

    def __init__(self, shown):
        super().__init__()
        self.a, self.b, self.c, self.shown = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 2), shown

    def forward(self, x):
        hidden = self.a(x.flatten(1)).relu()
        return self.shown(self.c(self.b(hidden).relu()), hidden)


def _with_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 5)), nn.ReLU(), nn.Linear(5, 2))
    model(X)
    return model


def _one_memory():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    model[3].weight.data = model[1].weight.data.t()
    return model


HALF = RemoveSpec(sparsity=0.5)
IN_TRAINING = "because something reads its units in training only, cannot be run with example in training"
REFUSED = {
    "a written size": (Fixed, HALF, OptionError, "the smaller model, because a size .* cannot be run"),
    "tied": (Tied, HALF, OptionError, "a: the model computes something else when they change places"),
    "groups": (_grouped, HALF, OptionError, "'1' has groups of channels"),
    "parametrized": (_parametrized, HALF, OptionError, "the weight of '1' is computed"),
    "no gradient": (Classes, HALF, OptionError, "no unit of Classes can be removed: what it returns has no gradient"),
    "normed together": (NormedTogether, HALF, OptionError, "8 units cannot go from 4 blocks alike"),
    "queries apart": (TwoForHeads, HALF, OptionError, "how the heads of the model are made is not known"),
    "no hidden units": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), HALF, OptionError, "no unit of Seq"),
    "out of reach": (mlp, RemoveSpec(flops=0.001), OptionError, "flops=0.001 cannot be reached: 0.0"),
    "all is left alone": (mlp, {"1.*": None, "3.*": None, "5.*": HALF}, OptionError, "no unit of Sequential can be"),
    "a key of nothing": (mlp, {"9.*": HALF}, PlanError, "plan key '9.*' fits no parameter"),
    "two specs": (mlp, {"1.*": HALF, "*": RemoveSpec(flops=0.5)}, OptionError, "the plan has 2 specs"),
    "another head in training": (lambda: InTraining(_head), HALF, OptionError, "change places, in training"),
    "a parameter in training": (lambda: InTraining(_noise), HALF, OptionError, "change places, in training"),
    "a buffer in training": (lambda: InTraining(_mean), HALF, OptionError, IN_TRAINING),
    "a buffer of units": (lambda: InTraining(_kept_mean), HALF, OptionError, "mean of the smaller model has another"),
    "no training": (
        lambda: InTraining(_targets),
        HALF,
        OptionError,
        "the model cannot be run with example in training",
    ),
    "old weight norm": (
        _with_weight_norm,
        HALF,
        OptionError,
        r"the model cannot be copied \(torch\.nn\.utils\.weight_norm",
    ),
    "one memory": (_one_memory, HALF, OptionError, "'1.weight' and '3.weight' are different tensors in the"),
    "no spec": (mlp, {"*": PruneSpec(schedule=Static(sparsity=0.5))}, OptionTypeError, "plan is a dict"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(case):
    make, plan, error, message = REFUSED[case]
    model = make()
    before, random_before = make(), torch.get_rng_state()
    before.load_state_dict(model.state_dict())
    with pytest.raises(error, match=message):
        remove_(model, plan, X)
    assert same(model, before)
    assert torch.equal(torch.get_rng_state(), random_before)
    assert repr(model) == repr(before)
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_running_in_training_leaves_statistics_and_random_numbers():
    model = InTraining(lambda m, x: m.b(x)).train()
    before, random_before = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert remove_(model, HALF, X[:1]).units == {"a": (16, 8)}
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("norm"))
    assert torch.equal(torch.get_rng_state(), random_before)
    assert model.training
    assert model.norm.training


RETURNED = {
    "tuple": lambda y, h: (y, [h]),
    "mapping": lambda y, h: {"y": y, "h": {"h": h}},
    "dataclass": Output,
    "object": lambda y, h: (y, Holder([h])),
    "object in a dataclass": lambda y, h: Output(y, Holder(h)),
    "object with slots": lambda y, h: (y, Slotted(h)),
    "numbers beside": lambda y, h: (y, Output(h, "text"), 3, None, 0.5, torch.float32),
}


@pytest.mark.parametrize("case", RETURNED)
def test_what_is_returned_in_something_stays(case):
    model = Returning(RETURNED[case])
    removal = remove_(model, HALF, X)
    assert removal.units == {"b": (8, 4)}
    assert removal.left["a"] == "the model returns them"


class Shared(nn.Module):
    """An attention in which two heads of queries read the same keys and values, and a layer beside."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.first = 4, nn.Linear(8, 16)
        self.q, self.k, self.v, self.out = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 2)

    def forward(self, x):
        x = self.first(x.squeeze(1))
        q, k, v = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.q, self.k, self.v))
        k, v = (part.repeat_interleave(2, 1) for part in (k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_heads_that_share_keys_are_left_and_the_rest_goes():
    removal = remove_(Shared(), HALF, X)
    assert removal.units == {"first": (16, 8)}
    assert removal.left["q"] == "which of them go together is not known"
    assert {"k", "v"} <= removal.left.keys()


def test_parameters_are_not_replaced_behind_the_back_of_processes(tmp_path):
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        small = mlp()
        remove_(small, HALF, X)
        save(small, tmp_path / "small.pcell")
        wrapped = nn.parallel.DistributedDataParallel(mlp())
        before = copy.deepcopy(wrapped.state_dict())
        for act in (lambda: remove_(wrapped, HALF, X), lambda: load_model(tmp_path / "small.pcell", wrapped)):
            with pytest.raises(OptionError, match="cannot be made smaller through DistributedDataParallel"):
                act()
        assert all(torch.equal(value, before[name]) for name, value in wrapped.state_dict().items())
        save(wrapped, tmp_path / "same.pcell")
        load_model(tmp_path / "same.pcell", wrapped)
    finally:
        torch.distributed.destroy_process_group()


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="the model cannot be run with example"):
        remove_(mlp(), HALF, torch.randn(2, 3))


def test_what_a_pruner_holds_is_not_removed():
    model = mlp()
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    before = copy.deepcopy(model)
    with pytest.raises(OptionError, match="Pruner"):
        remove_(model, HALF, X)
    assert same(model, before)
    pruner.finalize()


@pytest.mark.parametrize("given", ["it", "another", "none", "gone", "of another model"])
def test_an_optimizer_that_is_left_behind_is_told(given):
    net = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 2))
    optimizer = torch.optim.Adam((nn.Linear(8, 20) if given == "of another model" else net).parameters())
    other = torch.optim.SGD(net.parameters(), lr=0.1) if given == "another" else None
    optimizer.cycle = optimizer
    if given == "gone":
        del optimizer
    removal = remove_(
        net, RemoveSpec(flops=0.5), torch.zeros(1, 8), optimizer=optimizer if given in {"it", "another"} else None
    )
    assert removal.left_behind == {"another": ("SGD",), "none": ("Adam",)}.get(given, ())
    assert ("hold the old parameters still" in str(removal)) == bool(removal.left_behind)
    del other


def test_an_optimizer_whose_state_has_another_shape_is_refused():
    model = mlp()
    optimizer = torch.optim.Adafactor(model.parameters())
    model(X).sum().backward()
    optimizer.step()
    before = copy.deepcopy(model)
    with pytest.raises(
        OptionError, match=r"the state row_var, col_var that Adafactor has of '1\.weight' cannot become"
    ):
        remove_(model, HALF, X, optimizer=optimizer)
    with pytest.raises(OptionTypeError, match="optimizer is an int"):
        remove_(model, HALF, X, optimizer=3)
    assert same(model, before)


def test_a_failure_of_torch_pruning_is_told_as_such(monkeypatch):
    def fail(*_, **__):
        raise KeyError("node")

    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", fail)
    with pytest.raises(OptionError, match=r"torch-pruning cannot follow the units of this model: .*KeyError: 'node'"):
        remove_(mlp(), HALF, X)


def test_without_torch_pruning_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(OptionError, match=r"pip install 'prunecell\[structured\]'"):
        remove_(mlp(), HALF, X)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs flops or sparsity, and not both"),
        ({"flops": 0.5, "sparsity": 0.5}, "needs flops or sparsity, and not both"),
        ({"flops": 0}, "flops=0 is illegal"),
        ({"sparsity": 1.5}, "sparsity=1.5 is illegal"),
        ({"flops": 0.5, "multiple_of": 0}, "multiple_of=0 is illegal"),
        ({"flops": 0.5, "criterion": "taylor"}, "criterion='taylor' is illegal"),
    ],
)
def test_a_spec_checks_its_fields(fields, message):
    with pytest.raises((OptionError, OptionTypeError), match=message):
        RemoveSpec(**fields)


class Written(nn.Module):
    """A size of the feature map is written in its code."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 3)

    def forward(self, x):
        return self.fc(self.conv(x).view(-1, 8 * 36))


def test_a_size_that_is_written_in_code_is_told_with_what_to_write():
    with pytest.raises(OptionError, match=r"not x\.view\(-1, 6272\), but x\.flatten\(1\) fits any size"):
        remove_(Written(), HALF, X)


@pytest.mark.parametrize(
    "example",
    [
        (X, torch.zeros(len(X), dtype=torch.long)),
        [(X, torch.zeros(len(X), dtype=torch.long))],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X)),
        X.shape,
        (1, 1, 8, 8),
        None,
        X.numpy(),
        X[:, :, :5],
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_is_no_example_is_told_what_one_is(example):
    with pytest.raises(OptionError, match=r"example is a tensor or the tuple of all inputs, as x\[:1\]") as caught:
        remove_(cnn(), HALF, example)
    assert "\\n" not in str(caught.value)


def test_a_pruner_in_use_is_named_with_what_to_do():
    model = mlp()
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    with pytest.raises(OptionError, match=r"a Pruner that is in use holds it, .*: finalize\(\) that Pruner first"):
        remove_(model, HALF, X)
    pruner.finalize()
    remove_(model, HALF, X)


def test_compact_names_load_model_for_a_file_of_fewer_units(tmp_path):
    small = mlp()
    remove_(small, HALF, X)
    save(small, tmp_path / "small.pcell")
    with pytest.raises(StateError, match=r"if units were removed from it, prunecell\.load_model\(path, model\)"):
        compact_(mlp(), tmp_path / "small.pcell")
    save(mlp(), tmp_path / "large.pcell")
    with pytest.raises(StateError) as caught:
        compact_(small, tmp_path / "large.pcell")
    assert "prunecell.load_model" not in str(caught.value)
