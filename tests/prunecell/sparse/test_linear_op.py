"""sparse_linear gives what a dense product gives, at every level, in every format and layout."""

import dataclasses
import functools

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from prunecell.errors import OptionError, StateError
from prunecell.sparse.compress import compress
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.linear_op import sparse_linear
from prunecell.sparse.matrix import decompress
from prunecell.sparse.multiply import ENOUGH_WORK
from prunecell.sparse.values import VALUES

EDGES = [1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 128, 130]


def sparse(*shape, density=0.3):
    return torch.randn(shape) * (torch.rand(shape) < density)


def multiplied(x, parts, bias=None, *, relu=False):
    return sparse_linear(x, *parts, bias, relu)


def with_features_first(x):
    return x.t().contiguous().t()


@pytest.mark.usefixtures("level")
def test_every_number_of_samples_in_every_layout(for_every):
    for_every(sampled, EDGES, FORMATS)


def sampled(n_samples, name):
    torch.manual_seed(0)
    weight, bias, x = sparse(37, 50), torch.randn(37), torch.randn(n_samples, 50)
    parts = compress(weight, format=name).parts
    expected = F.linear(x, weight, bias)
    for given in (x, with_features_first(x), x.repeat(1, 2)[:, :50]):
        y = multiplied(given, parts, bias)
        torch.testing.assert_close(y, expected)
        assert y.is_contiguous()


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("values", VALUES)
def test_every_number_of_columns_and_kind_of_values(values, for_every):
    for_every(functools.partial(with_columns, values), [0, *EDGES, 700], FORMATS)


def with_columns(values, n_columns, name):
    torch.manual_seed(0)
    matrix = compress(sparse(9, n_columns), format=name, values=values)
    for n_samples in (1, 5):
        x = torch.randn(n_samples, n_columns)
        y = multiplied(x, matrix.parts)
        torch.testing.assert_close(y, x @ decompress(matrix).t(), atol=2e-5, rtol=1e-5)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("density", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("n_rows", [0, 1, 300])
def test_empty_and_full_rows(density, n_rows):
    weight, x = sparse(n_rows, 600, density=density), torch.randn(20, 600)
    for name in FORMATS:
        parts = compress(weight, format=name).parts
        torch.testing.assert_close(multiplied(x, parts), F.linear(x, weight), atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(multiplied(x[:1], parts), F.linear(x[:1], weight), atol=2e-4, rtol=1e-4)
        assert multiplied(x[:0], parts).shape == (0, n_rows)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [1, 20])
def test_relu_is_done_on_the_way(n_samples):
    weight, bias, x = sparse(30, 40), torch.randn(30), torch.randn(n_samples, 40)
    y = multiplied(x, compress(weight).parts, bias, relu=True)
    torch.testing.assert_close(y, F.linear(x, weight, bias).relu())
    assert (y == 0).any()


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_finite_meets_only_the_weights_that_are_kept(name):
    parts = compress(torch.tensor([[1.0, 0.0], [2.0, 3.0]]), format=name, values="fp16").parts
    x = torch.tensor([[float("inf"), 1.0], [float("nan"), 1.0], [1.0, -float("inf")]])
    expected = torch.tensor([[torch.inf, torch.inf], [torch.nan, torch.nan], [1.0, -torch.inf]])
    for rows in (x, x.repeat(10, 1)):
        y = multiplied(rows, parts)
        assert torch.equal(y.nan_to_num(-1), expected.repeat(len(rows) // 3, 1).nan_to_num(-1))
    for row, of_row in zip(x, expected, strict=True):
        assert torch.equal(multiplied(row[None], parts).nan_to_num(-1), of_row[None].nan_to_num(-1))
    assert multiplied(x, parts, relu=True).isnan().sum() == 2


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("n_samples", [1, 2, 16, 70])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "gaps8"])  # its gaps are bridged by zero entries
def test_a_zero_weight_multiplies_nothing(name, n_samples):
    weight, x = sparse(40, 700, density=0.02), torch.randn(n_samples, 700)
    bad = torch.rand(700) < 0.02
    x[:, bad] = torch.tensor([torch.inf, -torch.inf, torch.nan])[torch.arange(int(bad.sum())) % 3]
    y = multiplied(x, compress(weight, format=name).parts)
    connected = (weight[:, bad] != 0).any(1)
    assert 0 < connected.sum() < 40
    assert torch.equal(y.isfinite(), ~connected.expand(n_samples, -1))
    finite = F.linear(x.nan_to_num(0, 0, 0), weight)
    torch.testing.assert_close(y[:, ~connected], finite[:, ~connected], atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("level")
def test_every_half_precision_number_is_read_as_torch_reads_it():
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    values = values[values.isfinite() & (values != 0)].view(-1, 2)
    parts = compress(values.float(), values="fp16").parts
    y = multiplied(torch.eye(2), parts)
    assert torch.equal(y.t(), values.float())


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [2, 16, 100])
@pytest.mark.parametrize("values", VALUES)
def test_formats_that_are_read_as_they_are_stored_give_the_same_bits(n_samples, values):
    weight, x = sparse(40, 200), torch.randn(n_samples, 200)
    results = [
        multiplied(x, compress(weight, format=name, values=values).parts)
        for name, kind in FORMATS.items()
        if not kind.is_packed
    ]
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(results) > 1


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("n_samples", [1, 3, 4, 70, 200])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bits_on_any_number_of_threads(n_samples, name):
    weight, bias, x = sparse(1300, 700, density=0.4), torch.randn(1300), torch.randn(n_samples, 700)
    parts = compress(weight, format=name).parts
    assert len(parts[2]) > ENOUGH_WORK
    for given in (x, with_features_first(x)):
        torch.set_num_threads(1)
        expected = multiplied(given, parts, bias, relu=True)
        for n_threads in (2, 3, 8):
            torch.set_num_threads(n_threads)
            assert torch.equal(multiplied(given, parts, bias, relu=True), expected), n_threads


@pytest.mark.usefixtures("level")
def test_gradients_reach_the_input():
    weight, bias = sparse(20, 30), torch.randn(20)
    for relu in (False, True):
        x = torch.randn(6, 30, requires_grad=True)
        multiplied(x, compress(weight).parts, bias, relu=relu).square().sum().backward()
        twin = x.detach().clone().requires_grad_()
        y = F.linear(twin, weight, bias)
        (y.relu() if relu else y).square().sum().backward()
        torch.testing.assert_close(x.grad, twin.grad)


@pytest.mark.usefixtures("level")
def test_gradients_pass_a_relu_as_torch_has_them_pass():
    """Those of outputs that are NaN go through; infinite ones of others may be stopped."""
    weight, x = torch.eye(5), torch.zeros(1, 5)
    bias = torch.tensor([torch.nan, torch.inf, 1.0, -1.0, 0.0])
    out = torch.tensor([[1.0, 2.0, torch.inf, torch.inf, torch.nan]])
    given, expected = bias.clone().requires_grad_(), bias.clone().requires_grad_()
    multiplied(x, compress(weight).parts, given, relu=True).backward(out)
    (x + expected).relu().backward(out)
    assert torch.equal(given.grad, expected.grad)
    assert torch.equal(given.grad, torch.tensor([1.0, 2.0, torch.inf, 0.0, 0.0]))
    given = torch.zeros(1, 5, requires_grad=True)
    multiplied(given, compress(weight).parts, None, relu=True).sqrt().sum().backward()
    assert torch.equal(given.grad, torch.zeros(1, 5))


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_a_well_behaved_operator(name):
    parts = compress(sparse(6, 9), format=name, values="int8").parts
    x = torch.randn(5, 9, requires_grad=True)
    relu = True
    torch.library.opcheck(torch.ops.prunecell.sparse_linear.default, (x, *parts, torch.randn(6), relu))


def test_compiled_and_exported_programs_hold_it():
    parts = compress(sparse(20, 30)).parts

    class Net(torch.nn.Module):
        def forward(self, x):
            return multiplied(x.sin(), parts, relu=True).cos()

    x = torch.randn(4, 30)
    expected = Net()(x)
    assert torch.equal(torch.compile(Net(), backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.equal(torch.export.export(Net(), (x,)).module()(x), expected)
    with torch.inference_mode():
        assert torch.equal(Net()(x), expected)


def test_a_matrix_that_was_written_to_is_checked_again():
    matrix = compress(sparse(10, 20))
    x = torch.randn(1, 20)
    multiplied(x, matrix.parts)
    matrix.indices[-1] = 60000
    with pytest.raises(StateError, match="smaller than the number of columns"):
        multiplied(x, matrix.parts)


def test_a_matrix_is_not_taken_for_the_one_that_lay_there_before():
    x = torch.randn(1, 20)
    for _ in range(20):
        matrix = compress(sparse(10, 20))
        multiplied(x, matrix.parts)
        hostile = dataclasses.replace(matrix, starts=matrix.starts * 1000)
        with pytest.raises(StateError, match="never fall"):
            multiplied(x, hostile.parts)
        del matrix, hostile


def test_what_does_not_fit_is_refused():
    parts = compress(sparse(10, 20)).parts
    with pytest.raises(OptionError, match=r"x must have the shape \(\.\.\., 20\), not \(3, 21\)"):
        multiplied(torch.randn(3, 21), parts)
    with pytest.raises(OptionError, match=r"x must be float32 or bfloat16 or float16, not torch\.float64"):
        multiplied(torch.randn(3, 20).double(), parts)
    with pytest.raises(OptionError, match="bias must be 10 numbers in a row"):
        multiplied(torch.randn(3, 20), parts, torch.randn(9))


def test_other_devices_give_the_same_layout():
    parts = compress(sparse(10, 20)).parts
    meta = [p.to("meta") if isinstance(p, torch.Tensor) else p for p in parts]
    y, fake = multiplied(torch.randn(3, 20), parts), multiplied(torch.randn(3, 20, device="meta"), meta)
    assert (fake.shape, fake.stride()) == (y.shape, y.stride())


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("n_samples", "n_columns"), [(64, 5000), (33, 4500), (7, 40000)])
def test_many_columns_are_worked_on_in_blocks(name, n_samples, n_columns):
    weight, bias, x = sparse(11, n_columns, density=0.02), torch.randn(11), torch.randn(n_samples, n_columns)
    weight[3, 1000:] = 0
    weight[4] = 0
    for values in ("fp32", "int8"):
        matrix = compress(weight, format=name, values=values)
        expected = F.linear(x, decompress(matrix), bias).relu()
        y = multiplied(x, matrix.parts, bias, relu=True)
        torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)


class Seen(TorchDispatchMode):
    """What operators are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **kwargs or {})


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_whoever_must_see_the_operator_sees_it():
    parts, x = compress(sparse(6, 8)).parts, torch.randn(3, 8)
    expected = multiplied(x, parts)
    with Seen() as seen:
        assert torch.equal(multiplied(x, parts), expected)
    assert "prunecell.sparse_linear.default" in seen.names
    traced = torch.jit.trace(lambda x: multiplied(x, parts), x, check_trace=False)
    assert "prunecell::sparse_linear" in str(traced.graph)
    assert multiplied(x.clone().requires_grad_(), parts).requires_grad
    with torch.no_grad():
        assert torch.equal(multiplied(x.clone().requires_grad_(), parts), expected)


def test_transformed_functions_see_it_too():
    parts, x = compress(sparse(6, 8)).parts, torch.randn(4, 3, 8)
    expected = torch.stack([multiplied(one, parts) for one in x])
    torch.testing.assert_close(torch.func.vmap(lambda x: multiplied(x, parts))(x), expected)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own
def test_gradients_in_forward_mode():
    parts, x, tangent = compress(sparse(6, 8)).parts, torch.randn(3, 8), torch.randn(3, 8)
    y, moved = torch.func.jvp(lambda x: multiplied(x, parts, relu=True), (x,), (tangent,))
    torch.testing.assert_close(y, multiplied(x, parts, relu=True))
    torch.testing.assert_close(moved, multiplied(tangent, parts) * (y > 0))
    with forward_ad.dual_level():
        dual = multiplied(forward_ad.make_dual(x, tangent), parts)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, multiplied(tangent, parts))
    jacobian = torch.func.jacfwd(lambda x: multiplied(x, parts))(x)
    torch.testing.assert_close(torch.einsum("abcd,cd->ab", jacobian, x), multiplied(x, parts))
