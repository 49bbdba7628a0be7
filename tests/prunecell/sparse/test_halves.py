"""Layers of bfloat16 and float16 compute in float32 and round once, so they are as exact as the dense layers."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch import nn

from prunecell.archive import save
from prunecell.errors import OptionError
from prunecell.sparse.chain import chained
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.facts import compact_report
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.joints import SparseSequential
from prunecell.sparse.layers import SparseConvolution, SparseLinear, SparseMatrix
from prunecell.sparse.meta import meta_weights
from prunecell.sparse.route import LINEAR, RELU
from prunecell.sparse.values import VALUES, VALUES_OF

HALVES = [torch.bfloat16, torch.float16]
KINDS = {
    "Linear": (lambda: nn.Linear(70, 40), [(1, 70), (3, 70), (5, 70), (64, 70), (2, 33, 70)]),
    "Linear, without bias": (lambda: nn.Linear(33, 20, bias=False), [(33,), (1, 33), (17, 33)]),
    "Conv1d": (lambda: nn.Conv1d(8, 12, 5, stride=2, padding=2), [(2, 8, 40), (8, 7)]),
    "Conv2d": (lambda: nn.Conv2d(8, 12, 3, padding=1), [(1, 8, 14, 14), (2, 8, 9, 33)]),
    "Conv2d, pointwise": (lambda: nn.Conv2d(20, 12, 1, bias=False), [(1, 20, 7, 9), (3, 20, 14, 14)]),
    "Conv2d, in groups": (lambda: nn.Conv2d(8, 12, 3, groups=2, dilation=2), [(2, 8, 9, 8)]),
    "Conv2d, depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8, padding=1), [(2, 8, 9, 8)]),
    "Conv2d, strided": (lambda: nn.Conv2d(4, 12, 3, stride=2, padding=1), [(2, 4, 17, 32)]),
    "Conv2d, reflecting": (lambda: nn.Conv2d(4, 8, 3, padding=2, padding_mode="reflect"), [(2, 4, 9, 7)]),
    "Conv3d": (lambda: nn.Conv3d(4, 8, 3), [(2, 4, 5, 6, 7)]),
}


def thinned(model, sparsity=0.7):
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(torch.rand(weight.shape) >= sparsity)
    return model.eval()


def pair(kind, dtype, **how):
    """A dense layer and the same as a sparse one."""
    dense = thinned(KINDS[kind][0]()).to(dtype)
    matrix = compress(dense.weight, **how)
    if isinstance(dense, nn.Linear):
        return dense, SparseLinear(matrix, dense.bias, dtype=dtype)
    return dense, SparseConvolution(matrix, dense.bias, dense)


def in_float32(layer, x):
    return copy.deepcopy(layer).float()(x.float())


# ---- what they compute -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", HALVES)
def test_the_result_is_that_in_float32_rounded_once(name, values, dtype):
    for kind, (_, shapes) in KINDS.items():
        _, sparse = pair(kind, dtype, format=name, values=values)
        for shape in shapes:
            x = torch.randn(shape).to(dtype)
            y = sparse(x)
            assert y.dtype == dtype
            assert torch.equal(y, in_float32(sparse, x).to(dtype)), (kind, shape)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_as_exact_as_the_dense_layer(kind, dtype):
    dense, sparse = pair(kind, dtype)
    for shape in KINDS[kind][1]:
        x = torch.randn(shape).to(dtype)
        exact = copy.deepcopy(dense).double()(x.double())
        half_a_digit = exact.abs() * torch.finfo(dtype).eps / 2
        error, of_dense = ((y.double() - exact).abs() for y in (sparse(x), dense(x)))
        assert (error <= half_a_digit * 1.01 + 1e-6).all()
        assert error.max() <= of_dense.max() + 1e-6


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_finite_or_becomes_so_comes_out_as_from_float32(name, dtype):
    weight = torch.eye(40) * 2
    layer = SparseLinear(compress(weight.to(dtype), format=name), torch.zeros(40).to(dtype), dtype=dtype)
    largest, finite = torch.finfo(dtype).max, torch.tensor([1e-7, -0.0, 1.0])
    for n_samples in (1, 3, 20):
        x = torch.zeros(n_samples, 40)
        x[-1, :5] = torch.tensor([math.inf, largest, -largest, -math.inf, math.nan])
        x[0, -3:] = finite
        y = layer(x.to(dtype))
        torch.testing.assert_close(y, in_float32(layer, x.to(dtype)).to(dtype), atol=0, rtol=0, equal_nan=True)
        if n_samples > 1:  # those of one sample may be NaN where a zero of the weight is multiplied too
            assert torch.equal(y[0, -3:], (2 * finite.to(dtype).float()).to(dtype))
        for number, expected in (
            (math.inf, math.inf),
            (largest, math.inf),
            (-largest, -math.inf),
            (math.nan, math.nan),
        ):
            one = torch.full((n_samples, 40), number).to(dtype)
            kept = SparseLinear(compress(torch.full((3, 40), 2.0).to(dtype), format=name), None, dtype=dtype)(one)
            assert torch.equal(kept.float().nan_to_num(7), torch.full_like(kept, expected).float().nan_to_num(7))


def layouts(x):
    yield x.transpose(0, -1).contiguous().transpose(0, -1)
    yield torch.stack([x, x], -1)[..., 0]
    yield x[:1].expand_as(x)
    yield torch.cat([x, x], 1)[:, : x.shape[1]]
    yield torch.cat([x.flatten(), x.flatten()])[1:][: x.numel()].view_as(x)  # at an odd place


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", FORMATS)
def test_inputs_may_lie_in_any_way(name, dtype):
    for kind, shape in (("Linear", (3, 70)), ("Linear", (70, 70)), ("Conv1d", (3, 8, 40)), ("Conv2d", (3, 8, 9, 33))):
        dense, sparse = pair(kind, dtype, format=name)
        for x in layouts(torch.randn(shape).to(dtype)):
            y, expected = sparse(x), dense(x)
            assert torch.equal(y, in_float32(sparse, x.contiguous()).to(dtype))
            assert y.stride() == expected.stride()


@pytest.mark.parametrize("dtype", HALVES)
def test_channels_may_come_last(dtype):
    dense, sparse = pair("Conv2d", dtype)
    x = torch.randn(2, 8, 9, 7).to(dtype)
    y = sparse(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(y, sparse(x))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dense(x.contiguous(memory_format=torch.channels_last)).stride() == y.stride()


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("n_samples", [1, 3, 4, 33, 64, 130])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_chain_gives_the_bits_that_its_layers_give(n_samples, n_threads, dtype):
    torch.set_num_threads(n_threads)
    sizes = [(50, 300), (300, 7), (7, 1), (1, 600), (600, 33)]
    layers = tuple(
        SparseLinear(
            compress((torch.randn(b, a) * (torch.rand(b, a) < 0.3)).to(dtype)), torch.randn(b).to(dtype), dtype=dtype
        )
        for a, b in sizes
    )
    links = (LINEAR, RELU, LINEAR, LINEAR, RELU, LINEAR, LINEAR, RELU)
    x = expected = torch.randn(n_samples, 50).to(dtype)
    for layer, relu in zip(layers, (True, False, True, False, True), strict=True):
        expected = layer.computed(expected, relu=relu)
    found, n_links = chained(layers, links, x)
    assert n_links == len(links)
    assert torch.equal(found, expected)


CHAINS = {
    "convolutions": lambda: (nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 9, 1)),
    "pooling": lambda: (nn.Conv2d(8, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 8, 3), nn.AvgPool2d(3, 1, 1)),
    "down to a linear layer": lambda: (
        *(nn.Conv2d(8, 12, 5, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(12, 20), nn.SiLU(), nn.Linear(20, 7)),
    ),
    "linear layers": lambda: (nn.Flatten(), nn.Linear(8 * 14 * 14, 40), nn.Tanh(), nn.Linear(40, 9), nn.LeakyReLU()),
}


@pytest.mark.usefixtures("compiled_level", "everything_wins")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("n_samples", [1, 3, 10])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", CHAINS)
def test_what_a_chain_computes_beside_its_layers_is_rounded_as_by_torch(name, n_threads, n_samples, dtype):
    torch.set_num_threads(n_threads)
    model = compact_(thinned(nn.Sequential(*CHAINS[name]())).to(dtype))
    x = expected = torch.randn(n_samples, 8, 14, 14).to(dtype)
    with torch.no_grad():
        y = model(x)
        for module in model:
            expected = module(expected)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected, rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps / 4)
    if name == "convolutions":
        assert torch.equal(y, expected)


def test_layers_of_different_dtypes_are_no_chain():
    one, other = pair("Linear", torch.bfloat16)[1], SparseLinear(compress(torch.randn(8, 40)), None)
    x = torch.randn(3, 70).bfloat16()
    assert chained((one, other), (LINEAR, LINEAR), x) is None
    with pytest.raises(OptionError, match=r"same dtype, but they have torch\.bfloat16 and torch\.float32"):
        SparseSequential(one, other)(x)
    assert SparseSequential(one, other.bfloat16())(x).dtype == torch.bfloat16


def test_a_layer_that_changes_its_dtype_makes_its_chain_anew():
    model = SparseSequential(pair("Linear", torch.bfloat16)[1])
    x = torch.randn(3, 70)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.bfloat16):
        y = model.to(dtype)(x.to(dtype))
        assert torch.equal(y, in_float32(model, x.to(dtype)).to(dtype))


@pytest.mark.parametrize("of_bias", [torch.float32, *HALVES])
@pytest.mark.parametrize("of_layer", [torch.float32, *HALVES])
def test_a_bias_may_have_a_dtype_of_its_own(of_layer, of_bias):
    weight, bias = torch.randn(20, 30) * (torch.rand(20, 30) < 0.3), torch.randn(20).to(of_bias)
    layer = SparseLinear(compress(weight), bias, dtype=of_layer)
    for n_samples in (1, 20):
        x = torch.randn(n_samples, 30).to(of_layer)
        expected = (x.double() @ weight.double().t() + bias.double()).to(of_layer)
        torch.testing.assert_close(layer(x), expected)


# ---- autograd, autocast, compilers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_input_and_a_bias(kind, dtype):
    dense, sparse = pair(kind, dtype)
    if sparse.bias is not None:
        sparse.bias.requires_grad_()
    for shape in KINDS[kind][1]:
        found = []
        for layer in (dense, sparse):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
            layer.zero_grad()
            layer(x).relu().square().sum().backward()
            assert x.grad.dtype == dtype
            found.append((x.grad, None if layer.bias is None else layer.bias.grad))
        for given, expected in zip(found[1], found[0], strict=True):
            torch.testing.assert_close(given, expected, atol=0.25, rtol=0.03)


@pytest.mark.parametrize("own", HALVES)
@pytest.mark.parametrize("cast", HALVES)
def test_under_autocast_they_do_as_the_dense_layer(own, cast):
    dense, sparse = pair("Linear", own)
    for dtype in (torch.float32, *HALVES):
        x = torch.randn(5, 70).to(dtype)
        with torch.autocast("cpu", cast):
            expected, y = dense(x), sparse(x)
        assert y.dtype == expected.dtype
        torch.testing.assert_close(y, expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_compiled_and_exported_programs_round_as_the_layer_does(kind, dtype):
    _, sparse = pair(kind, dtype)
    x = torch.randn(KINDS[kind][1][0]).to(dtype)
    with torch.no_grad():
        expected = sparse(x)
        assert torch.equal(torch.compile(sparse, backend="aot_eager", fullgraph=True)(x), expected)
        assert torch.equal(torch.export.export(sparse, (x,)).module()(x), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert torch.equal(torch.jit.trace(sparse, (x,))(x), expected)


# ---- models ----------------------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Layers of two dtypes, with a cast between them."""

    def __init__(self, dtype):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).to(dtype)
        self.last = nn.Linear(32, 8)

    def forward(self, x):
        return self.last(self.first(x).to(self.last.weight.dtype))


MODELS = {
    "linear": (lambda dtype: nn.Linear(64, 32).to(dtype), (5, 64)),
    "mlp": (lambda dtype: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).to(dtype), (5, 64)),
    "convolutions": (
        lambda dtype: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).to(dtype),
        (2, 8, 9, 9),
    ),
    "lstm": (lambda dtype: nn.LSTM(32, 16, 2, bidirectional=True).to(dtype), (7, 3, 32)),
    "encoder": (
        lambda dtype: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
        ).to(dtype),
        (3, 7, 32),
    ),
    "mixed": (Mixed, (5, 64)),
}


def first(y):
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.usefixtures("everything_wins")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", ["own weights", "archive", "archive into meta"])
@torch.no_grad()
def test_a_model_keeps_its_dtypes_and_its_values(name, dtype, way, tmp_path):
    make, shape = MODELS[name]
    model = thinned(make(dtype))
    x, names = torch.randn(shape).to(dtype), [n for n, p in model.named_parameters() if p.ndim > 1]
    expected, exact = first(model(x)), first(copy.deepcopy(model).double()(x.double()))
    dtypes = {name: tensor.dtype for name, tensor in model.named_parameters()}
    if way == "own weights":
        small = compact_(model)
    else:
        save(model, tmp_path / "model.pcell")
        if "meta" in way:
            with meta_weights():
                model = make(dtype)
        small = compact_(model.eval(), tmp_path / "model.pcell")
    report = compact_report(small)
    assert [layer.name for layer in report.layers] == names
    for layer in report.layers:
        assert layer.form == f"columns16 {VALUES_OF[dtypes[layer.name]].name}"
    assert {module.dtype for module in small.modules() if isinstance(module, SparseMatrix)} == set(dtypes.values())
    assert {tensor.dtype for tensor in small.parameters()} <= set(dtypes.values())
    y = first(small(x))
    assert y.dtype == expected.dtype
    error, of_dense = ((found.double() - exact).abs().mean() for found in (y, expected))
    assert error <= of_dense * 1.1 + 1e-5


@pytest.mark.usefixtures("everything_wins")
@pytest.mark.parametrize("wish", VALUES)
def test_an_explicit_wish_is_followed(wish):
    small = compact_(thinned(nn.Sequential(nn.Linear(64, 64).bfloat16(), nn.Linear(64, 64))), values=wish)
    assert [layer.form for layer in compact_report(small).layers] == [f"columns16 {wish}"] * 2
    assert [layer.dtype for layer in small] == [torch.bfloat16, torch.float32]


@pytest.mark.usefixtures("everything_wins")
def test_what_does_not_fit_into_float16_is_refused_before_the_model_is_changed():
    model = thinned(nn.Sequential(nn.Linear(64, 64).bfloat16()))
    model[0].weight.data[0, 0] = 1e6
    dense = model[0]
    with pytest.raises(OptionError, match=r"0\.weight: values='fp16' is illegal for a weight of 999424: at most 65504"):
        compact_(model, values="fp16")
    assert model[0] is dense


@pytest.mark.usefixtures("everything_wins")
@pytest.mark.parametrize("dtype", HALVES)
def test_a_file_of_float32_is_cast_to_the_dtype_of_the_model(dtype, tmp_path):
    model, x = thinned(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))), torch.randn(5, 64).to(dtype)
    save(model, tmp_path / "model.pcell")
    small = compact_(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).to(dtype), tmp_path / "model.pcell")
    assert torch.equal(small[0].weight.clone(), model[0].weight.to(dtype))
    assert torch.equal(small(x), compact_(model.to(dtype))(x))


@pytest.mark.usefixtures("everything_wins")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("prefer", ["speed", "memory"])
def test_a_model_of_halves_is_an_ordinary_module(prefer, dtype, tmp_path):
    make, x = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).to(dtype), torch.randn(5, 64)
    model, x = compact_(thinned(make()), prefer=prefer), x.to(dtype)
    expected = model(x)
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own bytes
        assert torch.equal(same(x), expected)
    other = compact_(thinned(make()), prefer=prefer)
    assert not torch.equal(other(x), expected)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), expected)
    save(model, tmp_path / "model.pcell")
    other = compact_(compact_(thinned(make()), prefer=prefer), tmp_path / "model.pcell")
    assert torch.equal(other(x), expected)
    assert next(model.parameters()).dtype == dtype  # programs ask it for the dtype of a model
    assert model[0].weight.dtype == dtype
    assert model[0].values.dtype == dtype


@pytest.mark.usefixtures("everything_wins")
def test_a_layer_of_float32_values_takes_those_of_bfloat16_from_a_state_dict():
    x = torch.randn(5, 64).bfloat16()
    exact = compact_(thinned(nn.Sequential(nn.Linear(64, 64).bfloat16())))
    wide = compact_(thinned(nn.Sequential(nn.Linear(64, 64).bfloat16())), values="fp32")
    wide.load_state_dict(exact.state_dict())
    assert wide[0].values.dtype == torch.bfloat16
    assert torch.equal(wide(x), exact(x))


@pytest.mark.parametrize("dtype", HALVES)
def test_they_take_fewer_bytes_than_dense_and_than_float32(dtype):
    dense = thinned(nn.Linear(512, 512), 0.9)
    small = [compact_(nn.Sequential(copy.deepcopy(dense).to(d)), prefer="memory") for d in (torch.float32, dtype)]
    of_float, of_half = (compact_report(model).layers[0] for model in small)
    assert of_half.bytes_before * 2 == of_float.bytes_before
    assert of_half.form == f"gaps8 {VALUES_OF[dtype].name}"
    assert of_half.bytes_after < 0.65 * of_float.bytes_after


@pytest.mark.usefixtures("everything_wins")
@pytest.mark.parametrize("dtype", HALVES)
def test_inputs_may_be_quantised(dtype):
    model, x = thinned(nn.Sequential(nn.Linear(64, 64).to(dtype))), torch.randn(5, 64).to(dtype)
    wide = compact_(copy.deepcopy(model).float(), values="int8", activations="int8")
    small = compact_(model, values="int8", activations="int8")
    for n_samples in (1, 5):
        assert torch.equal(small(x[:n_samples]), wide(x[:n_samples].float()).to(dtype))
    with torch.no_grad():
        assert torch.equal(torch.compile(small, backend="aot_eager")(x), small(x))
