"""Whatever holds a layer or a parameter beside the modules of a model computes with the values of the file."""

import collections
import functools
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import prunecell as pc
from prunecell.sparse.aside import layers_aside

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning"),
]

Slots = type("Slots", (), {"__slots__": ("layer",)})
Pair = collections.namedtuple("Pair", "name layer")  # noqa: PYI024 - a plain one is what is tried


def slotted(layer):
    made = Slots()
    made.layer = layer
    return made


def closure(layer):
    return types.SimpleNamespace(call=lambda: layer)


def outside(layer):
    """A module that is no part of the model and has the layer."""
    return [nn.Sequential(layer)]


HOLDERS = {
    "list of lists": (lambda a: [[a]], lambda h: h[0][0]),
    "dict of lists": (lambda a: {"x": [a]}, lambda h: h["x"][0]),
    "key": (lambda a: {a: 1}, lambda h: next(iter(h))),
    "dict of tuples": (lambda a: collections.OrderedDict(a=(("n", a),)), lambda h: h["a"][0][1]),
    "deque": (lambda a: collections.deque([a]), lambda h: h[0]),
    "frozenset": (lambda a: frozenset([a]), lambda h: next(iter(h))),
    "named tuple": (lambda a: Pair("n", a), lambda h: h.layer),
    "user dict": (lambda a: collections.UserDict(x=a), lambda h: h["x"]),
    "partial": (functools.partial, lambda h: h.func),
    "argument of a partial": (lambda a: functools.partial(print, a), lambda h: h.args[0]),
    "keyword of a partial": (lambda a: functools.partial(print, end=[a]), lambda h: h.keywords["end"][0]),
    "closure": (closure, lambda h: h.call()),
    "default": (lambda a: lambda _=None, layer=a: layer, lambda h: h()),
    "keyword default": (lambda a: lambda *, layer=a: layer, lambda h: h()),
    "plain object": (lambda a: types.SimpleNamespace(layer=a), lambda h: h.layer),
    "slots": (slotted, lambda h: h.layer),
    "bound method in a list": (lambda a: [a.forward], lambda h: h[0].__self__),
    "weak reference": (weakref.ref, lambda h: h()),
    "weak proxy": (lambda a: [weakref.proxy(a)], lambda h: h[0]),
    "weak set": (lambda a: weakref.WeakSet([a]), lambda h: next(iter(h))),
    "module that is no part of it": (outside, lambda h: h[0][0]),
}
"""What holds a layer, and how it is had of that."""


class Holding(nn.Module):
    def __init__(self, make, get):
        super().__init__()
        self.a, self.free, self.get = nn.Linear(32, 32), nn.Linear(32, 32), get
        self.holder = make(self.a)
        self.cycle = [self.holder, {}]
        self.cycle[1]["self"] = self.cycle

    def forward(self, x):
        return self.free(self.get(self.holder)(x))


class Functional(Holding):
    """That holds parameters without their layer."""

    def __init__(self, make, get, kind=nn.Linear):
        super().__init__(make, get)
        self.a = kind(32, 32)
        self.holder = [tuple(self.a.parameters())]

    def forward(self, x):
        weight, *_, bias = self.holder[0]
        x = self.a(x)
        return F.linear(x[0] if isinstance(x, tuple) else x, weight, bias)


def thinned(model):
    for weight in model.parameters():
        weight.data.normal_()
        if weight.ndim > 1:
            weight.data.mul_(torch.rand_like(weight) < 0.1)
    return model


def assert_the_same(make, tmp_path, *, sparse):
    """From its own weights, from a file, and from a file on the meta device a model computes the same."""
    torch.manual_seed(1)
    dense, x = thinned(make()), torch.randn(3, 32)
    want = dense(x)
    pc.save(dense, tmp_path / "model.pcell")
    with pc.meta_weights():
        on_meta = make()
    for compact in (pc.compact_(make(), tmp_path / "model.pcell"), pc.compact_(on_meta, tmp_path / "model.pcell")):
        torch.testing.assert_close(compact(x), want, rtol=1e-4, atol=1e-4)
        assert pc.compact_report(compact).n_sparse == sparse
    torch.testing.assert_close(pc.compact_(dense)(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_layer_that_is_held_aside_stays_dense_and_is_loaded(holder, tmp_path):
    make, get = HOLDERS[holder]
    assert layers_aside(model := Holding(make, get)) == {id(model.a): "holder"}
    assert_the_same(lambda: Holding(make, get), tmp_path, sparse=1)


def test_a_global_that_a_function_names_is_held(tmp_path):
    def make():
        space = {}
        exec("def call(): return layer", space)  # noqa: S102 - a function with globals of its own
        model = Holding(lambda a: space.update(layer=a) or space["call"], lambda h: h())
        assert id(model.a) in layers_aside(model)
        return model

    assert_the_same(make, tmp_path, sparse=1)


def test_what_no_search_finds_is_loaded_all_the_same(tmp_path):
    elsewhere = []

    def make():
        model = Holding(lambda a: len(elsewhere) + 0 * bool(elsewhere.append(a)), lambda h: elsewhere[h])
        model.get = Elsewhere(elsewhere)
        return model

    assert_the_same(make, tmp_path, sparse=2)


class Elsewhere:
    """That reaches a list by its number only."""

    def __init__(self, of):
        Elsewhere.of = of

    def __call__(self, at):
        return self.of[at]


@pytest.mark.parametrize("kind", [nn.Linear, nn.LSTM, nn.GRU])
def test_parameters_that_are_held_aside_are_loaded(kind, tmp_path):
    def make():
        return Functional(*HOLDERS["deque"], kind=kind)

    n_sparse = {nn.Linear: 2, nn.LSTM: 3, nn.GRU: 1}[kind]
    torch.manual_seed(1)
    dense, x = thinned(make()), torch.randn(3, 32)
    pc.save(dense, tmp_path / "model.pcell")
    with pc.meta_weights():
        on_meta = make()
    for model in (make(), on_meta):
        held = model.holder[0][0]
        compact = pc.compact_(model, tmp_path / "model.pcell")
        torch.testing.assert_close(compact(x), dense(x), rtol=1e-4, atol=1e-4)
        assert compact.holder[0][0] is held
        assert pc.compact_report(compact).n_sparse == n_sparse


def test_a_parent_that_its_child_knows_holds_nothing_but_modules():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
    object.__setattr__(model[1], "parent", model)
    model[1].optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert layers_aside(model) == {id(model): "1.parent"}


# ---- what holds only the memory of a parameter -----------------------------------------------------------------------

ALIASES = {
    "detached": lambda w: w.detach(),
    "data": lambda w: w.data,
    "part": lambda w: w.detach()[3:, ::2],
    "turned": lambda w: w.detach().transpose(0, 1),
    "array": lambda w: w.detach().numpy(),
    "storage": lambda w: w.untyped_storage(),
    "capsule": lambda w: torch.utils.dlpack.to_dlpack(w.detach()),
    "parameter": lambda w: nn.Parameter(w.detach(), requires_grad=False),
}
"""What somebody may have of a weight or bias without holding it."""

SEEN = {
    "storage": lambda storage: torch.empty(0).set_(storage),
    "capsule": torch.utils.dlpack.from_dlpack,
}
"""How that is looked at, where it is no array."""

LAYERS = {
    "linear": lambda: nn.Linear(32, 32),
    "convolution": lambda: nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last),
    "recurrent": lambda: nn.LSTM(16, 16),
    "attention": lambda: nn.MultiheadAttention(16, 2),
    "in inference mode": torch.inference_mode()(lambda: nn.Linear(32, 32)),
    "pieces of one": lambda: in_one_piece(nn.Linear(32, 32)),
}


def in_one_piece(layer):
    piece = nn.utils.parameters_to_vector(layer.parameters()).detach()
    nn.utils.vector_to_parameters(piece, layer.parameters())
    return layer


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("layer", LAYERS)
def test_who_shares_the_memory_of_a_parameter_sees_the_file(layer, alias, alone, tmp_path):
    make = LAYERS[layer] if alone else lambda: nn.Sequential(LAYERS[layer](), nn.Linear(4, 4))
    dense, loaded = thinned(make().requires_grad_(requires_grad=False)), make()
    pc.save(dense, tmp_path / "model.pcell")
    aliases = [[ALIASES[alias](p) for p in model.parameters() if p.ndim > 1] for model in (dense, loaded)]
    assert pc.compact_report(pc.compact_(loaded, tmp_path / "model.pcell")).n_sparse > 0
    for want, seen in zip(*aliases, strict=True):
        want, seen = (torch.as_tensor(SEEN.get(alias, lambda a: a)(each)).detach() for each in (want, seen))  # noqa: PLW2901
        torch.testing.assert_close(seen, want, atol=0, rtol=0)


def of_an_array(shape):
    array = np.zeros(shape, np.float32)
    return torch.from_numpy(array), torch.from_numpy(array)


def of_processes(shape):
    own = torch.zeros(shape).share_memory_()
    other = torch.UntypedStorage._new_shared_fd_cpu(*own.untyped_storage()._share_fd_cpu_())
    return own, torch.empty(0).set_(other).view(shape)


@pytest.mark.parametrize("memory", [of_an_array, of_processes])
def test_memory_that_torch_did_not_take_is_written(memory, tmp_path):
    dense, loaded = (thinned(nn.Sequential(nn.Linear(32, 32))) for _ in range(2))
    pc.save(dense, tmp_path / "model.pcell")
    own, other = memory((32, 32))
    loaded[0].weight = nn.Parameter(own)
    del own
    assert pc.compact_report(pc.compact_(loaded, tmp_path / "model.pcell")).n_sparse == 1
    assert torch.equal(other, dense[0].weight)


class OwnWay(nn.Linear):
    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)


class Views(nn.Module):
    """That computes with views of weights of its layers."""

    def __init__(self, kind=nn.Linear):
        super().__init__()
        self.a, self.b = kind(32, 32), nn.Linear(32, 32)
        self.register_buffer("of_a", self.a.weight.detach().t(), persistent=False)
        self.of_b = self.b.bias.data

    def forward(self, x):
        return self.b(self.a(x)) @ self.of_a + self.of_b


@pytest.mark.parametrize("kind", [nn.Linear, OwnWay])
def test_a_model_may_have_views_of_its_own_weights(kind, tmp_path):
    dense, loaded, x = thinned(Views(kind)), Views(kind), torch.randn(3, 32)
    pc.save(dense, tmp_path / "model.pcell")
    compact = pc.compact_(loaded, tmp_path / "model.pcell")
    torch.testing.assert_close(compact(x), dense(x), rtol=1e-4, atol=1e-4)


def in_one_memory(change):
    """Two layers, each with a parameter of its own over the same elements."""
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    model[1].weight = nn.Parameter(change(model[0].weight.detach()))
    return model


FILES = {
    "both": {},
    "of different values": {"1.weight": torch.eye(32)},
    "the first": {"1.weight": None},
    "the second": {"0.weight": None},
}


@pytest.mark.parametrize("stays", [None, 0, 1])
@pytest.mark.parametrize(("change", "file"), [*((lambda w: w, file) for file in FILES), (torch.t, "both")])
def test_parameters_over_the_same_memory_are_loaded_as_load_state_dict_loads_them(change, file, stays, tmp_path):
    state = thinned(in_one_memory(change)).state_dict() | FILES[file]
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    pc.save(state, tmp_path / "model.pcell")
    dense, loaded = in_one_memory(change), in_one_memory(change)
    if stays is not None:
        loaded[stays].register_forward_hook(lambda *_: None)  # so it stays dense
    dense.load_state_dict(state, strict=False)
    compact = pc.compact_(loaded, tmp_path / "model.pcell")
    for want, got in zip(dense, compact, strict=True):
        torch.testing.assert_close(got.weight.clone(), want.weight.detach(), atol=0, rtol=0)
    assert pc.compact_report(compact).n_sparse == 2 - (stays is not None)


def test_memory_that_nobody_else_has_is_not_written(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("prunecell.sparse.aside._write", lambda *what: made.append(what))
    dense, loaded = (thinned(nn.Sequential(nn.Linear(32, 32), nn.LSTM(32, 32))) for _ in range(2))
    pc.save(dense, tmp_path / "model.pcell")
    alias = loaded[1].weight_hh_l0.detach()
    pc.compact_(loaded, tmp_path / "model.pcell")
    assert len(made) == len([alias])
    assert torch.equal(made[0][1], dense[1].weight_hh_l0)
