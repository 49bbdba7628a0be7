"""What a chain takes beside layers, it computes as torch does; what it does not take is called."""

import copy
import itertools

import pytest
import torch
from torch import nn

from prunecell import native
from prunecell.sparse.chain import Chain
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.links import MODULES, link_of

pytestmark = [
    pytest.mark.usefixtures("everything_wins"),
    pytest.mark.skipif(native.library() is None, reason="there are no kernels"),
]

ACTIVATIONS = {
    "ReLU": nn.ReLU(),
    "ReLU in place": nn.ReLU(inplace=True),
    "ReLU6": nn.ReLU6(),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "Hardswish": nn.Hardswish(),
    "Sigmoid": nn.Sigmoid(),
    "SiLU": nn.SiLU(),
    "Tanh": nn.Tanh(),
    "GELU": nn.GELU(),
    "GELU by tanh": nn.GELU(approximate="tanh"),
}
POOLINGS = {
    "max": nn.MaxPool2d(2),
    "max, overlapping": nn.MaxPool2d(3, 2, 1),
    "max, every": nn.MaxPool2d((2, 3), 1, (1, 0), dilation=2),
    "max, wide stride": nn.MaxPool2d(2, (1, 3)),
    "mean": nn.AvgPool2d(2),
    "mean, padded": nn.AvgPool2d(3, 2, 1),
    "mean of the real ones": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "mean by another number": nn.AvgPool2d((3, 2), (1, 2), (1, 0), divisor_override=5),
    "mean of a plane": nn.AvgPool2d((9, 21)),
    "max of a plane": nn.MaxPool2d((9, 21)),
    "mean of all": nn.AdaptiveAvgPool2d(1),
}


def thinned(model):
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(torch.rand_like(weight) < 0.3)
    return model.eval()


@pytest.fixture
def calls(monkeypatch):
    """Of the kernels: how many links each took."""
    seen = []

    def noting(*given, run=Chain.__call__):
        if (found := run(*given)) is not None:
            seen.append(found[1])
        return found

    monkeypatch.setattr(Chain, "__call__", noting)
    return seen


def same(n_features):
    """A layer that gives what it gets."""
    return SparseLinear(compress(torch.eye(n_features)), None)


# ---- activations -----------------------------------------------------------------------------------------------------


def numbers():
    special = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan, 3.0, -3.0, 6.0, 0.625, -0.625, 3e38, -3e38, 1e-30])
    return torch.cat([torch.linspace(-110, 110, 4001), torch.randn(6000), 0.01 * torch.randn(83), special])


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n_samples", [1, 101])
def test_activations_are_as_exact_as_torchs(name, n_samples, calls):
    x = numbers()[: 10096 // n_samples * n_samples].reshape(n_samples, -1)
    function = copy.deepcopy(ACTIVATIONS[name])
    y = SparseSequential(same(x.shape[1]), function)(x)
    assert calls == [2]
    exact = function(x.double())
    assert torch.equal(y.isnan(), exact.isnan())
    is_finite = exact.isfinite() & (x.abs() < 1e30)
    errors = (y.double() - exact)[is_finite].abs()
    assert (errors <= 1e-7 + 2.5e-7 * exact[is_finite].abs()).all()
    large = ~is_finite & ~exact.isnan()
    torch.testing.assert_close(y.double()[large], exact[large])


# ---- models ----------------------------------------------------------------------------------------------------------


def lenet():
    convolutions = nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 10, 5), nn.Tanh(), nn.MaxPool2d(2)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(160, 50), nn.ReLU(), nn.Linear(50, 10))


MODELS = {
    "lenet": (lenet, (1, 28, 28)),
    "mlp": (lambda: nn.Sequential(nn.Linear(20, 70), nn.GELU(), nn.Dropout(), nn.Linear(70, 7), nn.Sigmoid()), (20,)),
    "flat": (lambda: nn.Sequential(nn.Linear(20, 70), nn.Flatten(), nn.SiLU(), nn.Identity(), nn.Linear(70, 7)), (20,)),
    "mean of all": (
        lambda: nn.Sequential(
            *(nn.Conv2d(4, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=2), nn.SiLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        ),
        (4, 13, 13),
    ),
    "one axis": (
        lambda: nn.Sequential(nn.Conv1d(4, 8, 3, dilation=2), nn.GELU(), nn.Conv1d(8, 9, 3), nn.Flatten(), nn.ReLU()),
        (4, 30),
    ),
    "three axes": (
        lambda: nn.Sequential(nn.Conv3d(2, 8, 2), nn.Hardswish(), nn.Conv3d(8, 4, 3, padding="same"), nn.Flatten()),
        (2, 5, 6, 7),
    ),
    "ends with a picture": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.LeakyReLU(), nn.AvgPool2d(3, 1, 1), nn.ReLU()),
        (3, 9, 40),
    ),
}


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_samples", [1, 3, 7, 66])
def test_a_model_in_one_call(name, n_samples, calls):
    make, shape = MODELS[name]
    dense, x = thinned(make()), torch.randn(n_samples, *shape)
    model = compact_(copy.deepcopy(dense))
    given = x.clone()
    with torch.no_grad():
        expected = dense(x)
        y = model(x)
        assert sum(calls) >= len(dense) - 2
        alone = x
        for module in model:
            alone = module(alone.clone())
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y, alone, atol=1e-6, rtol=1e-5)
    assert y.stride() == expected.stride()
    assert torch.equal(x, given)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_samples", [1, 5, 200])
def test_the_same_bits_on_any_number_of_threads(name, n_samples, monkeypatch):
    monkeypatch.setattr("prunecell.sparse.multiply.ENOUGH_WORK", 1)
    make, shape = MODELS[name]
    model, x = compact_(thinned(make())), torch.randn(n_samples, *shape)
    with torch.no_grad():
        expected = model(x)
        for n_threads in (2, 3):
            torch.set_num_threads(n_threads)
            assert torch.equal(model(x), expected)


def test_pictures_that_go_through_in_several_parts(calls):
    dense, x = (
        thinned(nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3))),
        torch.randn(9, 3, 90, 90),
    )
    with torch.no_grad():
        torch.testing.assert_close(compact_(copy.deepcopy(dense))(x), dense(x), atol=1e-5, rtol=1e-5)
    assert calls == [3]


# ---- pooling ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("size", [(9, 21), (12, 24), (11, 70)])
@pytest.mark.parametrize("values", ["plain", "nan", "infinity"])
def test_pooling_gives_what_torchs_does(name, size, values, calls):
    first = nn.Conv2d(2, 5, 1, bias=False)
    first.weight.data[:] = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    x = torch.randn(2, 2, *size)
    if values != "plain":
        x[torch.rand_like(x) < 0.05] = torch.nan if values == "nan" else -torch.inf
    model = compact_(nn.Sequential(first, copy.deepcopy(POOLINGS[name])))
    y = model(x)
    assert calls == [2]
    expected = POOLINGS[name](x[:, :1].expand(2, 5, *size))
    exact = 0 if "max" in name else 1e-5
    torch.testing.assert_close(y, expected, atol=exact, rtol=exact, equal_nan=True)


# ---- what no chain takes ---------------------------------------------------------------------------------------------


def convolved(*modules):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *modules)


LEFT = {
    "ceil_mode": convolved(nn.Conv2d(4, 4, 3), nn.MaxPool2d(2, ceil_mode=True)),
    "ceil_mode of a mean": convolved(nn.Conv2d(4, 4, 3), nn.AvgPool2d(2, ceil_mode=True)),
    "Flatten of all": convolved(nn.Conv2d(4, 4, 3), nn.Flatten(0)),
    "Flatten of the last": convolved(nn.Conv2d(4, 4, 3), nn.Flatten(2)),
    "mean of parts": convolved(nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(2)),
    "another activation": convolved(nn.Conv2d(4, 4, 3), nn.Softplus()),
    "two activations": convolved(nn.GELU(), nn.Tanh()),
    "other padding": convolved(nn.GELU(), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "few rows of a group": convolved(nn.GELU(), nn.Conv2d(4, 4, 3, groups=4)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_no_chain_takes_is_called(name, calls):
    dense, x = thinned(copy.deepcopy(LEFT[name])), torch.randn(2, 3, 10, 10)
    model = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        y, expected = model(x), dense(x)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()
    assert calls == [2]


def test_a_linear_layer_without_a_flatten_takes_the_last_axis(calls):
    dense, x = thinned(convolved(nn.GELU(), nn.Linear(8, 4))), torch.randn(2, 3, 10, 10)
    with torch.no_grad():
        torch.testing.assert_close(compact_(copy.deepcopy(dense))(x), dense(x))
    assert calls == [2, 1]


def test_indices_of_the_largest_are_returned():
    dense, x = thinned(convolved(nn.MaxPool2d(2, return_indices=True))), torch.randn(2, 3, 10, 10)
    with torch.no_grad():
        torch.testing.assert_close(compact_(copy.deepcopy(dense))(x), dense(x))


INPUTS = {
    "no batch": torch.randn(3, 12, 14),
    "channels last": torch.randn(2, 3, 12, 14).contiguous(memory_format=torch.channels_last),
    "part of another": torch.randn(2, 6, 12, 28)[:, ::2, :, :14],
    "no samples": torch.randn(0, 3, 12, 14),
    "just large enough": torch.randn(2, 3, 5, 6),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_lie_otherwise(name):
    dense, x = thinned(convolved(nn.SiLU(), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1))), INPUTS[name]
    with torch.no_grad():
        y, expected = compact_(copy.deepcopy(dense))(x), dense(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize("size", [(3, 3), (3, 4), (5, 5)])
def test_pictures_of_one_point_lie_as_the_dense_ones(size):
    dense = thinned(convolved(nn.Conv2d(4, 5, 1), nn.MaxPool2d(1), nn.Conv2d(5, 6, 3, padding=1), nn.GELU()))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        y, expected = compact_(copy.deepcopy(dense))(x), dense(x)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize(
    "bad", [nn.MaxPool2d(2, padding=2), nn.MaxPool2d(20), nn.AvgPool2d(2, divisor_override=0), nn.Conv2d(5, 4, 1)]
)
def test_what_does_not_fit_is_refused_as_by_the_dense_model(bad):
    dense, x = thinned(convolved(nn.ReLU(), bad)), torch.randn(2, 3, 10, 10)
    model = compact_(copy.deepcopy(dense))
    for each in (dense, model):
        with pytest.raises((RuntimeError, ValueError)):
            each(x)


# ---- what changes ----------------------------------------------------------------------------------------------------

CHANGES = {
    "kernel": (nn.MaxPool2d(2), lambda m: setattr(m, "kernel_size", 3)),
    "stride": (nn.MaxPool2d(2), lambda m: setattr(m, "stride", (1, 2))),
    "padding": (nn.AvgPool2d(3), lambda m: setattr(m, "padding", 1)),
    "ceil_mode": (nn.MaxPool2d(3), lambda m: setattr(m, "ceil_mode", True)),
    "count_include_pad": (nn.AvgPool2d(3, padding=1), lambda m: setattr(m, "count_include_pad", False)),
    "output_size": (nn.AdaptiveAvgPool2d(1), lambda m: setattr(m, "output_size", 2)),
    "approximate": (nn.GELU(), lambda m: setattr(m, "approximate", "tanh")),
    "slope": (nn.LeakyReLU(), lambda m: setattr(m, "negative_slope", 0.5)),
    "largest": (nn.ReLU6(), lambda m: setattr(m, "max_val", 0.5)),
    "start_dim": (nn.Flatten(), lambda m: setattr(m, "start_dim", 2)),
    "a hook": (nn.Identity(), lambda m: m.register_forward_hook(lambda *given: 2 * given[-1])),
    "its forward": (nn.Tanh(), lambda m: setattr(m, "forward", torch.exp)),
    "its class": (nn.Tanh(), lambda m: setattr(m, "__class__", nn.Sigmoid)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_in_a_module_is_seen(name):
    module, change = CHANGES[name]
    dense, x = thinned(convolved(copy.deepcopy(module), nn.Sigmoid())), torch.randn(2, 3, 12, 12)
    model = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(before, dense(x))
        for each in (model, dense):
            change(each[1])
        after = model(x)
        torch.testing.assert_close(after, dense(x))
    assert after.shape != before.shape or not torch.allclose(after, before)


@pytest.mark.parametrize("option", [{"stride": (2, 2)}, {"padding": (1, 1)}, {"dilation": (2, 2)}])
def test_what_changes_in_a_convolution_is_seen(option, calls):
    dense, x = thinned(convolved(nn.GELU(), nn.Conv2d(4, 4, 3), nn.Tanh())), torch.randn(2, 3, 16, 16)
    model = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        model(x)
        for each in (dense, model):
            for name, value in option.items():
                setattr(each[2], name, value)
        torch.testing.assert_close(model(x), dense(x), atol=1e-5, rtol=1e-5)
    assert calls == [4, 4]


def test_a_dropout_is_nothing_in_evaluation_only(calls):
    model, x = (
        compact_(thinned(nn.Sequential(nn.Linear(20, 30), nn.Dropout(0.5), nn.Linear(30, 30)))),
        torch.ones(4, 20),
    )
    model(x)
    model.train()
    torch.manual_seed(0)
    y = model(x)
    torch.manual_seed(0)
    assert torch.equal(y, model[2](model[1](model[0](x))))
    assert calls == [3, *[1] * 4]


def one_of(kind):
    return (
        nn.GELU()
        if kind is nn.GELU
        else kind(1)
        if kind in {nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d}
        else kind()
    )


def doubled(function):
    return lambda *given, **options: 2 * function(*given, **options)


METHODS = [(kind, name) for kind, name in itertools.product(MODULES, ("forward", "__call__", "_call_impl"))]


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_a_method_that_a_program_replaced_is_called(kind, name, monkeypatch):
    dense, x = thinned(convolved(one_of(kind), nn.Conv2d(4, 4, 1))), torch.randn(2, 3, 5, 5)
    if kind in {nn.Flatten, nn.AdaptiveAvgPool2d}:
        dense = dense[:2]
    model = compact_(copy.deepcopy(dense))
    with torch.no_grad():
        model(x)
        assert link_of(model[1]) is not None
        monkeypatch.setattr(kind, name, doubled(getattr(kind, name)), raising=False)
        assert link_of(model[1]) is None
        torch.testing.assert_close(model(x), dense(x))
        monkeypatch.undo()
        torch.testing.assert_close(model(x), dense(x))


FUNCTIONS = [
    *((nn.functional, name) for name in ("relu", "hardtanh", "leaky_relu", "hardswish", "silu", "gelu", "max_pool2d")),
    *((nn.functional, name) for name in ("avg_pool2d", "adaptive_avg_pool2d", "dropout")),
    *((torch, name) for name in ("relu", "sigmoid", "tanh", "max_pool2d")),
    *((torch._C._nn, name) for name in ("hardtanh", "leaky_relu", "hardswish", "silu", "adaptive_avg_pool2d")),
    (torch.Tensor, "flatten"),
]


@pytest.mark.parametrize(("where", "name"), FUNCTIONS)
def test_a_function_that_a_program_replaced_is_called(where, name, monkeypatch):
    models = [thinned(convolved(one_of(kind), nn.ReLU())) for kind in MODULES]
    compact, x = [compact_(copy.deepcopy(dense)) for dense in models], torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        before = [model(x) for model in compact]
        monkeypatch.setattr(where, name, doubled(getattr(where, name)))
        after = [model(x) for model in compact]
        for dense, y in zip(models, after, strict=True):
            torch.testing.assert_close(y, dense(x))
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", MODULES)
def test_a_hook_is_called(kind):
    model, seen = compact_(thinned(convolved(one_of(kind), nn.Flatten()))), []
    model[1].register_forward_pre_hook(lambda *given: seen.append(given))
    with torch.no_grad():
        model(torch.randn(2, 3, 5, 5))
    assert len(seen) == 1
