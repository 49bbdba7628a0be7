"""What a container does for its sparse layers while it computes, and that it does nothing else."""

import copy

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from prunecell.errors import OptionError
from prunecell.sparse import joints as joints_module
from prunecell.sparse import layers
from prunecell.sparse.chain import Chain
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.joints import SparseSequential, SparseTransformerEncoder, join_
from prunecell.sparse.layers import SparseLinear

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]


def thinned(model):
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(torch.rand_like(weight) < 0.1)
    return model.eval()


def mlp():
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 8), nn.ReLU())


def joints(call, *inputs):
    """With which options the operators are called: (relu,) of each."""
    seen = []

    def noting(operator):
        def noted(*arguments):
            seen.append(tuple(argument for argument in arguments if isinstance(argument, bool)))
            return operator(*arguments)

        return noted

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        for name in ("sparse_linear", "sparse_convolution"):
            patch.setattr(layers, name, noting(getattr(layers, name)))
        for module in (layers, joints_module):  # the short ways call no operators
            patch.setattr(module, "chained", lambda *_: None)
        patch.setattr(layers, "convolved", lambda *_, **__: None)
        call(*inputs)
    return seen


def test_relu_is_done_in_the_layer():
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    assert joints(model, x) == [(True,), (False,), (True,)]
    assert joints(model[:2], x) == [(True,)]
    assert joints(model[0], x) == joints(model[:1], x) == [(False,)]
    assert [type(layer) for layer in model if "Sparse" not in type(layer).__name__] == [nn.ReLU, nn.ReLU]
    assert "(1): ReLU()" in repr(model)
    assert model(x).is_contiguous()
    convolutions = compact_(thinned(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GELU())))
    assert joints(convolutions, torch.randn(2, 8, 9, 9)) == [(True,), (False,)]


@pytest.mark.parametrize("n_samples", [1, 3, 5, 70])
def test_linear_layers_one_after_the_other_are_one_call(n_samples, monkeypatch):
    dense = thinned(nn.Sequential(nn.ReLU(), *mlp(), nn.Tanh(), nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3)))
    model, x, calls = compact_(copy.deepcopy(dense)), torch.randn(n_samples, 16), []
    monkeypatch.setattr(Chain, "__call__", lambda *given, run=Chain.__call__: calls.append(given) or run(*given))
    with torch.no_grad():
        torch.testing.assert_close(model(x), dense(x))
        alone = x
        for layer in model:
            alone = layer(alone)
        torch.testing.assert_close(model(x), alone, atol=0, rtol=0)
    assert len(calls) == 2 + 5 + 2


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_are_joined(strict):
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    program = torch.export.export(model, (x,), strict=strict)
    operators = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operators == [torch.ops.prunecell.sparse_linear.default] * 3
    torch.testing.assert_close(program.module()(x), model(x))


def hooked(module):
    return module.register_forward_hook(lambda *_: None)


def wrapped(module):
    module.forward = module.forward


def compiled_alone(module):
    module.compile(backend="eager")


CHANGES = (
    hooked,
    *(lambda m, name=name: getattr(m, name)(lambda *_: None) for name in ("register_forward_pre_hook",)),
    *(lambda m, name=name: getattr(m, name)(lambda *_: None) for name in ("register_full_backward_hook",)),
    wrapped,
    compiled_alone,
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_later_is_joined_no_more(change):
    torch._dynamo.reset()
    dense, x = thinned(mlp()), torch.randn(5, 16)
    expected = dense(x)
    for place, left in ((0, (False,)), (1, (False,)), (2, (True,))):
        model = compact_(copy.deepcopy(dense))
        change(model[place])
        if change is not compiled_alone:  # a dispatch mode and a compiler do not go together
            assert joints(model, x)[0] == left
        torch.testing.assert_close(model(x), expected.detach())


def test_hooks_come_and_go():
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    before = joints(model, x)
    for layer in model:
        hook = hooked(layer)
        assert joints(model, x) != before or layer in {model[2], model[3]}
        hook.remove()
        assert joints(model, x) == before
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert joints(model, x) == [(False,)] * 3
    hook.remove()
    assert joints(model, x) == before


def test_without_torchs_private_name_nothing_is_joined(monkeypatch):
    monkeypatch.setattr("prunecell.sparse.joints._has_global_hooks", lambda: True)
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    assert joints(model, x) == [(False,)] * 3


class Own(nn.Sequential):
    pass


def test_other_containers_stay_as_they_are():
    own, dense = compact_(thinned(Own(*mlp()))), nn.Sequential(nn.ReLU())
    assert type(own) is Own
    join_(dense)
    assert type(dense) is nn.Sequential
    model = thinned(mlp())
    model.forward = lambda x: x
    assert type(compact_(model)) is nn.Sequential
    assert type(compact_(thinned(mlp()))[:2]) is SparseSequential


def narrower(model):
    del model[2]


def replaced(model):
    model[2] = SparseLinear(compress(torch.randn(16, 24)), None)


def other_width():
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(32, 16))


@pytest.mark.parametrize("n_samples", [1, 16])
@pytest.mark.parametrize("relu", [True, False])
def test_layers_of_unequal_widths_are_refused_as_one_by_one(n_samples, relu):
    dense = nn.Sequential(*(part for part in other_width() if relu or not isinstance(part, nn.ReLU)))
    model, x = compact_(thinned(dense)), torch.randn(n_samples, 16)
    with pytest.raises(OptionError, match=r"x must have the shape \(\.\.\., 32\), not "):
        model(x)


@pytest.mark.parametrize("n_samples", [1, 16])
@pytest.mark.parametrize(("change", "width"), [(narrower, 32), (replaced, 24)])
def test_a_width_that_fits_no_more_is_seen(n_samples, change, width):
    layers = nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)
    dense, x = thinned(nn.Sequential(*layers)), torch.randn(n_samples, 16)
    model = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        torch.testing.assert_close(model(x), dense(x))
    change(model)
    told = rf"x must have the shape \(\.\.\., {width}\), not \({n_samples}, 16\)"
    with pytest.raises(OptionError, match=told):
        model(x)
    with pytest.raises(OptionError, match=told):
        next(part for part in model[2:] if isinstance(part, SparseLinear))(x)


def test_nan_and_infinity_pass_through_a_joint():
    for first, x in ((nn.Linear(16, 16), torch.zeros(2, 16)), (nn.Conv2d(8, 8, 3), torch.zeros(2, 8, 3, 3))):
        dense = thinned(nn.Sequential(first, nn.ReLU(inplace=True)))
        model = compact_(copy.deepcopy(dense))
        dense[0].bias.data[:3] = model[0].bias[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        expected = dense(x).detach()
        assert expected.isnan().any()
        torch.testing.assert_close(model(x), expected, equal_nan=True)


# ---- transformers ----------------------------------------------------------------------------------------------------


def encoder(**options):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    return thinned(nn.TransformerEncoder(layer, 2, **options))


PADDINGS = {
    "none": None,
    "to the right": torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] + [True] * 5]),
    "to the left": torch.tensor([[False] * 6, [True] * 2 + [False] * 4, [True] * 5 + [False]]),
    "of numbers": torch.tensor([[0.0] * 6, [0.0] * 4 + [-torch.inf] * 2, [0.0] + [-torch.inf] * 5]),
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("norm", [None, nn.LayerNorm(16)])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_padding_comes_out_of_an_encoder_as_the_dense_one_gives_it(padding, norm, mode):
    torch.manual_seed(0)
    dense, x, padding = encoder(norm=norm), torch.randn(3, 6, 16), PADDINGS[padding]
    if norm is not None:
        nn.init.normal_(dense.norm.bias)
    sparse = compact_(copy.deepcopy(dense))
    assert type(sparse) is SparseTransformerEncoder
    mask = torch.ones(6, 6).triu(1).bool() if padding is None else None
    with mode():
        for model in (dense, sparse):
            model.train()
        torch.testing.assert_close(sparse(x, mask, padding), dense(x, mask, padding))
        for model in (dense, sparse):
            model.eval()
        torch.testing.assert_close(sparse(x, mask, padding), dense(x, mask, padding))


@pytest.mark.parametrize("which", ["first", "last", "attention", "feedforward"])
def test_an_encoder_that_is_sparse_in_part(which):
    torch.manual_seed(0)
    dense, x = encoder(), torch.randn(3, 6, 16)
    sparse = copy.deepcopy(dense)
    if which in {"first", "last"}:
        i = 0 if which == "first" else 1
        sparse.layers[i] = compact_(sparse.layers[i])
    for layer in sparse.layers:
        if which == "attention":
            layer.self_attn = compact_(layer.self_attn)
        elif which == "feedforward":
            layer.linear1, layer.linear2 = compact_(layer.linear1), compact_(layer.linear2)
        join_(layer)
    join_(sparse)
    with torch.no_grad():
        for padding in PADDINGS.values():
            y, expected = (model(x, src_key_padding_mask=padding) for model in (sparse, dense))
            torch.testing.assert_close(y, expected)


class OwnEncoder(nn.TransformerEncoder):
    pass


class OwnLayer(nn.TransformerEncoderLayer):
    pass


def test_subclasses_of_an_encoder_do_the_same():
    torch.manual_seed(0)
    dense = thinned(OwnEncoder(OwnLayer(16, 4, 32, batch_first=True), 2))
    x, padding = torch.randn(3, 6, 16), PADDINGS["to the right"]
    sparse = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        y, expected = (model(x, src_key_padding_mask=padding) for model in (sparse, dense))
    torch.testing.assert_close(y[~padding], expected[~padding])


# ---- what a program or a mode of torch changes -----------------------------------------------------------------------


def halved(function):
    return lambda *arguments, **options: function(*arguments, **options) / 2


def doubled(self, x):
    for module in self:
        x = 2 * module(x)
    return x


REPLACED = {
    "forward of a ReLU": (nn.ReLU, "forward", halved(nn.ReLU.forward)),
    "forward of a container": (nn.Sequential, "forward", doubled),
    "call of a ReLU": (nn.ReLU, "__call__", halved(nn.Module.__call__)),
    "call of a ReLU without hooks": (nn.ReLU, "_call_impl", halved(nn.Module._call_impl)),
    "call of all modules": (nn.Module, "__call__", halved(nn.Module.__call__)),
    "F.relu": (nn.functional, "relu", halved(nn.functional.relu)),
    "torch.relu": (torch, "relu", halved(torch.relu)),
    "torch.relu_": (torch, "relu_", halved(torch.relu_)),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("what", REPLACED)
def test_what_a_program_puts_in_the_place_of_torchs_own_computes(monkeypatch, what, before):
    dense, x = thinned(nn.Sequential(*mlp(), nn.ReLU(inplace=True))), torch.randn(5, 16)
    compact = None if before else compact_(copy.deepcopy(dense))
    monkeypatch.setattr(*REPLACED[what], raising=False)
    compact = compact or compact_(copy.deepcopy(dense))
    torch.testing.assert_close(compact(x), dense(x))
    monkeypatch.undo()
    torch.testing.assert_close(compact(x), dense(x))


@pytest.mark.parametrize("what", ["forward of a ReLU", "torch.relu"])
def test_a_compiler_sees_it_too(monkeypatch, what):
    torch._dynamo.reset()
    dense, x = thinned(mlp()), torch.randn(5, 16)
    compact = torch.compile(compact_(copy.deepcopy(dense)), backend="eager", fullgraph=True)
    monkeypatch.setattr(*REPLACED[what])
    torch.testing.assert_close(compact(x), dense(x))
    torch._dynamo.reset()


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        return result / 2 if function in {torch.relu, nn.functional.relu} else result


class Operators(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        return result / 2 if function is torch.ops.aten.relu.default else result


@pytest.mark.parametrize("mode", [Functions, Operators])
@pytest.mark.parametrize("first", [nn.Linear(16, 16), nn.Conv1d(5, 5, 3)])
def test_a_mode_of_torch_sees_a_relu(mode, first):
    dense, x = thinned(nn.Sequential(first, nn.ReLU(), nn.Identity(), nn.ReLU())), torch.randn(5, 16)
    compact = compact_(copy.deepcopy(dense))
    with mode(), torch.no_grad():
        torch.testing.assert_close(compact(x), dense(x))
    torch.testing.assert_close(compact(x), dense(x))


class Halving(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs)
        return result / 2 if function is nn.functional.relu else result


def test_a_tensor_of_a_subclass_sees_a_relu():
    dense, x = thinned(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))), torch.randn(5, 16)
    compact, x = compact_(copy.deepcopy(dense)), x.as_subclass(Halving)
    with torch.no_grad():
        torch.testing.assert_close(compact(x), dense(x))
