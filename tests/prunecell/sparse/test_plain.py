"""Only a layer that does what its kind does, and nothing else, becomes sparse; what does more stays as it is."""

import copy
import functools
import re
import types

import pytest
import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrizations, parametrize, prune, skip_init

from prunecell.sparse.convert import compact_
from prunecell.sparse.converters import CONVERTERS, converter, why_dense
from prunecell.sparse.layers import SparseMatrix

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning"),  # that is what is tested
]


def thin(layer):
    with torch.no_grad():
        for weight in layer.parameters():
            nn.init.normal_(weight)  # where a layer says something else of its weight, its constructor does not
            if weight.ndim > 1:
                kept = torch.rand_like(weight) < 0.1
                kept[:, 0] = True  # a row of zeros has no direction, so weight_norm makes NaN of it
                weight.mul_(kept)
    return layer


def linear():
    return thin(nn.Linear(16, 16))


MAKE = {
    nn.Linear: linear,
    NonDynamicallyQuantizableLinear: lambda: NonDynamicallyQuantizableLinear(16, 16),
    nn.Conv1d: lambda: nn.Conv1d(8, 8, 3),
    nn.Conv2d: lambda: nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular", groups=2, bias=False),
    nn.Conv3d: lambda: nn.Conv3d(8, 8, 3, stride=2),
    nn.LSTM: lambda: nn.LSTM(8, 8, 2, bias=False, bidirectional=True, proj_size=4),
    nn.MultiheadAttention: lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
}


# ---- layers that do more than their kind -----------------------------------------------------------------------------


class OwnForward(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnCall(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


class OwnCallImpl(nn.Linear):
    def _call_impl(self, *args, **kwargs):
        return 2 * super()._call_impl(*args, **kwargs)


class OwnGetattr(nn.Linear):
    def __getattr__(self, name):
        found = super().__getattr__(name)
        return 2 * found if name == "weight" else found


class OwnAttribute(nn.Linear):
    scale = 2


class Mixin:
    def forward(self, x):
        return 2 * super().forward(x)


class Mixed(Mixin, nn.Linear):
    pass


class Standardized(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class OwnParameter(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(1))


class Subclassed(torch.Tensor):
    pass


def instance_forward(layer):
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def bound_forward(layer):
    layer.forward = types.MethodType(lambda self, x: 2 * nn.functional.linear(x, self.weight, self.bias), layer)


def wrapped_forward(layer):
    layer.forward = functools.wraps(layer.forward)(lambda x, forward=layer.forward: 2 * forward(x))


def accelerate_hook(layer):
    hooks = pytest.importorskip("accelerate.hooks")

    class Doubles(hooks.ModelHook):
        def post_forward(self, _module, output):
            return 2 * output

    hooks.add_hook_to_module(layer, Doubles())


def own_module(layer):
    layer.adapter = nn.Identity()


def own_buffer(layer):
    layer.register_buffer("mask", torch.ones(1))


def own_attribute(layer):
    layer.scale = 2


def computed_weight(layer):
    weight = layer.weight
    del layer.weight
    layer.raw = weight
    layer.weight = 2 * weight.detach()


def changed_class(layer):
    layer.__class__ = type("Changed", (nn.Linear,), {"forward": lambda self, x: 2 * nn.Linear.forward(self, x)})


def one_bias_for_all(layer):
    layer.bias = nn.Parameter(torch.ones(1))


def subclassed_weight(layer):
    weight = layer.weight.detach().as_subclass(Subclassed).requires_grad_()
    weight._is_param = True
    layer.weight = weight


HOOKS = {
    name: lambda layer, name=name: getattr(layer, name)(lambda *_, **__: None)
    for name in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "register_load_state_dict_pre_hook",
        "register_load_state_dict_post_hook",
    )
}
CLASSES = {
    OwnForward: "its class overrides forward",
    OwnCall: "its class overrides __call__",
    OwnCallImpl: "its class overrides _call_impl",
    OwnGetattr: "its class overrides __getattr__",
    OwnAttribute: "its class has scale of its own",
    Mixed: "its class overrides forward",
    OwnParameter: "it has a parameter of its own: gain",
    Standardized: "its class overrides _conv_forward",
}
CHANGES = {
    **{name: (change, "it has hooks") for name, change in HOOKS.items()},
    "forward hook with kwargs": (lambda m: m.register_forward_hook(lambda *_: None, with_kwargs=True), "it has hooks"),
    "instance forward": (instance_forward, "it has forward of its own"),
    "bound forward": (bound_forward, "it has forward of its own"),
    "wrapped forward": (wrapped_forward, "it has forward of its own"),
    "accelerate hook": (accelerate_hook, "it has .* of its own"),
    "own module": (own_module, "it has a module of its own: adapter"),
    "own buffer": (own_buffer, "it has a buffer of its own: mask"),
    "own attribute": (own_attribute, "it has an attribute of its own: scale"),
    "computed weight": (computed_weight, "it has an attribute of its own: weight"),
    "changed class": (changed_class, "its class overrides forward"),
    "parametrized": (lambda m: parametrize.register_parametrization(m, "bias", nn.Tanh()), "it is parametrized"),
    "weight norm": (parametrizations.weight_norm, "it is parametrized"),
    "spectral norm": (parametrizations.spectral_norm, "it is parametrized"),
    "weight norm, old": (nn.utils.weight_norm, "it has hooks"),
    "spectral norm, old": (nn.utils.spectral_norm, "it has hooks"),
    "torch.nn.utils.prune": (lambda m: prune.l1_unstructured(m, "weight", 0.5), "it has hooks"),
    "one bias for all": (one_bias_for_all, r"its bias is of shape \(1,\), by its options it is \(16,\)"),
    "subclassed weight": (subclassed_weight, "its weight is no ordinary tensor"),
}


def stays_dense_and_the_same(layer):
    """In a model, before a ReLU that a sparse layer would take over."""
    x = torch.randn(2, 8, 5, 5) if isinstance(layer, nn.Conv2d) else torch.randn(3, 16)
    with torch.no_grad():
        expected = layer.eval()(x)
        model = compact_(nn.Sequential(layer, nn.ReLU()))
        assert model[0] is layer
        torch.testing.assert_close(model[0](x), expected)
        torch.testing.assert_close(model(x), expected.relu())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_that_does_more_stays_dense(cls):
    layer = thin(cls(8, 8, 3) if issubclass(cls, nn.Conv2d) else cls(16, 16))
    assert converter(layer) is None
    assert why_dense(layer) == CLASSES[cls]
    stays_dense_and_the_same(layer)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", CHANGES)
def test_a_layer_that_was_changed_stays_dense(name):
    change, reason = CHANGES[name]
    layer = linear()
    change(layer)
    assert converter(layer) is None
    assert re.search(reason, why_dense(layer))
    stays_dense_and_the_same(layer)


@pytest.mark.parametrize("kind", CONVERTERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("change", [own_module, own_buffer, own_attribute, *HOOKS.values()])
def test_that_holds_for_every_kind(kind, change):
    layer = MAKE[kind]()
    assert why_dense(layer) == ""
    change(layer)
    assert why_dense(layer)


def test_what_is_not_known_or_not_ready_stays_dense():
    assert why_dense(nn.GRU(4, 4)) == "GRU has no sparse form"
    assert why_dense(nn.ConvTranspose2d(4, 4, 3)) == "ConvTranspose2d has no sparse form"
    assert why_dense(nn.LazyLinear(4)).startswith("its class ")
    assert (
        why_dense(nn.MultiheadAttention(8, 2, add_bias_kv=True)) == "MultiheadAttention with bias_k has no sparse form"
    )
    assert why_dense(nn.MultiheadAttention(8, 2, add_zero_attn=True)).endswith("with add_zero_attn has no sparse form")
    attention = nn.MultiheadAttention(8, 2)
    parametrize.register_parametrization(attention.out_proj, "weight", nn.Tanh())
    assert why_dense(attention) == "out_proj: it is parametrized"
    convolution = nn.Conv2d(8, 8, 3)
    convolution.weight = nn.Parameter(torch.randn(8, 4, 3, 3))
    assert why_dense(convolution) == "its weight is of shape (8, 4, 3, 3), by its options it is (8, 8, 3, 3)"
    convolution.groups = 3
    assert why_dense(convolution) == "its options make no layer"


def test_a_method_that_was_replaced_in_torch_keeps_its_layers_dense(monkeypatch):
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * forward(self, x))
    assert why_dense(linear()) == "forward of Linear was replaced"
    monkeypatch.setattr(nn.Linear, "forward", functools.wraps(forward)(lambda self, x: 2 * forward(self, x)))
    assert why_dense(linear()) == "forward of Linear was replaced"


# ---- layers that do what their kind does -----------------------------------------------------------------------------


class Trivial(nn.Linear):
    """Its constructor, and what it prints, are its own."""

    def __init__(self, n: int) -> None:
        super().__init__(n, n, bias=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)

    def extra_repr(self) -> str:
        return "trivial"


def removed_hook(layer):
    layer.register_forward_hook(lambda *_: None).remove()


def removed_accelerate_hook(layer):
    accelerate_hook(layer)
    pytest.importorskip("accelerate.hooks").remove_hook_from_module(layer)


def removed_parametrization(layer):
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    parametrize.remove_parametrizations(layer, "weight")


def removed_pruning(layer):
    prune.remove(prune.l1_unstructured(layer, "weight", 0.5), "weight")


def initialized_by_transformers(layer):
    layer._is_hf_initialized = True


def thawed(layer):
    layer.requires_grad_(requires_grad=False)
    layer.weight.requires_grad_()
    layer.weight._is_hf_initialized = True


UNCHANGED = (
    *(removed_hook, removed_accelerate_hook, removed_parametrization, removed_pruning),
    *(initialized_by_transformers, thawed, nn.Module.eval, nn.Module.zero_grad, copy.deepcopy),
)


@pytest.mark.parametrize("change", UNCHANGED, ids=lambda change: change.__name__)
def test_a_layer_that_is_plain_again_becomes_sparse(change):
    layer, x = linear(), torch.randn(3, 16)
    change(layer)
    expected = layer(x)
    assert why_dense(layer) == ""
    sparse = compact_(layer)
    assert isinstance(sparse, SparseMatrix)
    torch.testing.assert_close(sparse(x), expected.detach())


@pytest.mark.parametrize(
    "make",
    [lambda: Trivial(16), lambda: skip_init(nn.Linear, 16, 16), lambda: nn.Linear(16, 16, bias=False)],
    ids=["trivial subclass", "skip_init", "without bias"],
)
def test_a_trivial_subclass_becomes_sparse(make):
    layer = make()
    nn.init.sparse_(layer.weight, 0.9)
    assert isinstance(compact_(layer), SparseMatrix)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_layer_that_was_used_becomes_sparse():
    layer = nn.LazyLinear(16)
    layer(torch.randn(3, 16))
    assert isinstance(compact_(thin(layer)), SparseMatrix)


def test_a_class_can_be_vouched_for(monkeypatch):
    monkeypatch.setitem(CONVERTERS, OwnForward, CONVERTERS[nn.Linear])
    assert isinstance(compact_(thin(OwnForward(16, 16))), SparseMatrix)
    layer = OwnForward(16, 16)
    own_attribute(layer)
    assert why_dense(layer) == "it has an attribute of its own: scale"


def test_looking_at_layers_changes_nothing():
    layers = [make() for make in MAKE.values()]
    random, states = torch.get_rng_state(), [copy.deepcopy(vars(layer)).keys() for layer in layers]
    assert not any(why_dense(layer) for layer in layers)
    assert torch.equal(torch.get_rng_state(), random)
    assert [vars(layer).keys() for layer in layers] == states
