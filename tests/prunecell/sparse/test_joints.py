"""What a container does for its sparse layers while it computes, and that it does nothing else."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunecell.sparse.convert import compact_
from prunecell.sparse.joints import SparseSequential, SparseTransformerEncoder, join_

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
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


class Joints(TorchDispatchMode):
    """With which options the operators are called: (relu, feature_major) of a linear one, (relu,) of a convolution."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "prunecell.sparse" in str(function):
            self.seen.append(tuple(argument for argument in args if isinstance(argument, bool)))
        return function(*args, **kwargs or {})


def joints(call, *inputs):
    with torch.no_grad(), Joints() as joints:
        call(*inputs)
    return joints.seen


def test_relu_is_done_in_the_layer_and_activations_stay_feature_major():
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    assert joints(model, x) == [(True, True), (False, True), (True, False)]
    assert joints(model[:2], x) == [(True, False)]
    assert joints(model[0], x) == joints(model[:1], x) == [(False, False)]
    assert [type(layer) for layer in model if "Sparse" not in type(layer).__name__] == [nn.ReLU, nn.ReLU]
    assert "(1): ReLU()" in repr(model)
    assert model(x).is_contiguous()
    convolutions = compact_(thinned(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GELU())))
    assert joints(convolutions, torch.randn(2, 8, 9, 9)) == [(True,), (False,)]


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
    for place, left in ((0, (False, False)), (1, (False, False)), (2, (True, False))):
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
        assert joints(model, x) != before or layer is model[3]
        hook.remove()
        assert joints(model, x) == before
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert joints(model, x) == [(False, False)] * 3
    hook.remove()
    assert joints(model, x) == before


def test_without_torchs_private_name_nothing_is_joined(monkeypatch):
    monkeypatch.setattr("prunecell.sparse.joints._has_global_hooks", lambda: True)
    model, x = compact_(thinned(mlp())), torch.randn(5, 16)
    assert joints(model, x) == [(False, False)] * 3


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


def softplus(_self, x):
    return nn.functional.softplus(x)


def doubled(self, x):
    for module in self:
        x = 2 * module(x)
    return x


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("cls", "forward"), [(nn.ReLU, softplus), (nn.Sequential, doubled)])
def test_what_a_program_puts_in_the_place_of_a_forward_computes(monkeypatch, cls, forward, before):
    model, x = thinned(mlp()), torch.randn(5, 16)
    compact = None if before else compact_(copy.deepcopy(model))
    monkeypatch.setattr(cls, "forward", forward)
    compact = compact or compact_(copy.deepcopy(model))
    torch.testing.assert_close(compact(x), model(x))
    monkeypatch.undo()
    torch.testing.assert_close(compact(x), model(x))
