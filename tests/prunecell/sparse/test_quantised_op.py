"""quantised_linear gives the bits that its definition gives, at every level and by every way to multiply bytes."""

import functools

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from prunecell import native
from prunecell.errors import OptionError, StateError
from prunecell.sparse.compress import compress
from prunecell.sparse.linear_op import sparse_linear
from prunecell.sparse.matrix import decompress
from prunecell.sparse.multiply import ENOUGH_WORK
from prunecell.sparse.quantised_op import quantised, quantised_linear

SAMPLES = [1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130]
COLUMNS = [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100, 511, 512, 513, 1030]


@pytest.fixture(params=[True, False], ids=["vnni", "plain"])
def _bytes(request, monkeypatch):
    """By VNNI where the CPU has it, and by what every CPU of the level has."""
    has_vnni = native.has_vnni
    monkeypatch.setattr(native, "has_vnni", lambda library: request.param and has_vnni(library))


every_way = pytest.mark.usefixtures("level", "_bytes")


def unstructured(n_rows, n_columns, density=0.2):
    return torch.randn(n_rows, n_columns) * (torch.rand(n_rows, n_columns) < density)


def in_blocks(n_rows, n_columns, density=0.2):
    kept = torch.rand(n_rows, -(-n_columns // 4)) < density
    return torch.randn(n_rows, n_columns) * kept.repeat_interleave(4, 1)[:, :n_columns]


def multiplied(x, matrix, bias=None, *, relu=False):
    return quantised_linear(x, *matrix.parts, bias, relu)


def defined(x, matrix, bias=None):
    """The definition, sample by sample, in numpy: sums of whole numbers, every other operation rounded once."""
    values = (decompress(matrix).double() / matrix.scales.double()[:, None]).round().long().numpy()
    rows = []
    for sample in x.numpy():
        largest = max(np.abs(sample).max(initial=np.float32(0)), np.float32(2.0**-100))
        step, per_step = largest / np.float32(127), np.float32(127) / largest
        integers = np.rint(sample * per_step).astype(np.int64)
        rows.append((values @ integers).astype(np.float32) * matrix.scales.numpy() * step)
    y = torch.from_numpy(np.stack(rows))
    return y if bias is None else y + bias


@every_way
@pytest.mark.parametrize("weights", [unstructured, in_blocks])
def test_every_number_of_samples(weights, for_every):
    for_every(functools.partial(sampled, weights), SAMPLES)


def sampled(weights, n_samples):
    torch.manual_seed(0)
    matrix, bias, x = compress(weights(37, 50), values="int8"), torch.randn(37), torch.randn(n_samples, 50)
    expected = defined(x, matrix, bias)
    for given in (x, x.t().contiguous().t(), x.repeat(1, 2)[:, :50]):
        y = multiplied(given, matrix, bias)
        assert torch.equal(y, expected)
        assert y.is_contiguous()
    assert torch.equal(multiplied(x, matrix, bias, relu=True), expected.relu())
    assert torch.equal(multiplied(x, matrix), defined(x, matrix))


@every_way
@pytest.mark.parametrize("weights", [unstructured, in_blocks])
def test_every_number_of_columns(weights, for_every):
    for_every(functools.partial(with_columns, weights), COLUMNS)


def with_columns(weights, n_columns):
    torch.manual_seed(0)
    matrix = compress(weights(9, n_columns), values="int8")
    for n_samples in (1, 5):
        x = torch.randn(n_samples, n_columns)
        assert torch.equal(multiplied(x, matrix), defined(x, matrix))


@every_way
@pytest.mark.parametrize("density", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("n_rows", [1, 300, 1100])
def test_empty_and_full_rows(density, n_rows):
    matrix, x = compress(unstructured(n_rows, 600, density), values="int8"), torch.randn(20, 600)
    for n_samples in (1, 20):
        assert torch.equal(multiplied(x[:n_samples], matrix), defined(x[:n_samples], matrix))


@every_way
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_matrices_without_rows_or_columns(shape):
    matrix, bias = compress(torch.zeros(shape), values="int8"), torch.randn(shape[0])
    y = multiplied(torch.randn(3, shape[1]), matrix, bias)
    assert torch.equal(y, bias.expand(3, -1))
    assert multiplied(torch.randn(0, shape[1]), matrix).shape == (0, shape[0])


@every_way
def test_the_formats_give_the_same_bits():
    weight, x = unstructured(40, 600), torch.randn(9, 600)
    results = [
        multiplied(x, compress(weight, format=name, values="int8")) for name in ("columns16", "gaps8", "bitmask")
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@every_way
def test_a_sample_does_not_depend_on_its_neighbours():
    matrix, x = (
        compress(unstructured(40, 100), values="int8"),
        torch.randn(70, 100) * torch.logspace(-30, 30, 70)[:, None],
    )
    together = multiplied(x, matrix)
    assert torch.equal(together, torch.cat([multiplied(sample[None], matrix) for sample in x]))
    assert torch.equal(together[:3], multiplied(x[:3], matrix))


@every_way
def test_halves_go_to_the_even_integer():
    matrix = compress(torch.eye(8), values="int8")
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]])
    for n_samples in (1, 9):
        y = multiplied(x.repeat(n_samples, 1), matrix)
        assert torch.equal(y[-1], torch.tensor([127.0, 0, 2, 2, 0, -2, -2, 126]) * 127 * matrix.scales)


@every_way
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact(sign):
    """Every product is as large as it can be, -128 among the values too; the sum of neighbours fits into no 16 bits."""
    n_columns = 1 << 16
    matrix = compress(torch.ones(2, n_columns), values="int8")
    matrix.values[n_columns:] = -128
    x = torch.full((3, n_columns), sign * 5.0)
    x[2, ::2] *= -1
    expected = torch.tensor([127.0, -128.0]) * 127 * n_columns * sign
    for n_samples in (1, 3):
        y = multiplied(x[-n_samples:], matrix) / matrix.scales / (x.new_tensor(5) / 127)
        torch.testing.assert_close(y[0], expected if n_samples == 3 else torch.zeros(2), rtol=1e-6, atol=0)


@every_way
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("relu", [False, True])
def test_a_sample_that_is_not_finite_gives_nan_everywhere_and_its_neighbours_do_not(bad, relu):
    matrix, bias, x = compress(unstructured(30, 70), values="int8"), torch.randn(30), torch.randn(20, 70)
    expected = multiplied(x, matrix, bias, relu=relu)
    x[7, 69] = bad
    y = multiplied(x, matrix, bias, relu=relu)
    assert y[7].isnan().all()
    others = torch.arange(20) != 7
    assert torch.equal(y[others], expected[others])
    assert multiplied(x[7:8], matrix, bias, relu=relu).isnan().all()


@every_way
@pytest.mark.parametrize("n_samples", [1, 9])
def test_samples_of_zeros_and_of_tiny_and_of_huge_numbers(n_samples):
    matrix, bias = compress(unstructured(30, 70), values="int8"), torch.randn(30)
    assert torch.equal(multiplied(torch.zeros(n_samples, 70), matrix, bias), bias.expand(n_samples, -1))
    for size in (1e-45, 1e-38, 1e-31, 1e-30, 1e30, 1e37):
        x = torch.rand(n_samples, 70) * size
        assert torch.equal(multiplied(x, matrix), defined(x, matrix))
    x = torch.rand(n_samples, 70)
    assert torch.equal(multiplied(x * 2.0**-60, matrix) * 2.0**60, multiplied(x, matrix))


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("n_samples", [1, 2, 16, 64, 200])
def test_the_same_bits_on_any_number_of_threads(n_samples):
    matrix, x = compress(unstructured(1500, 1200, 0.5), values="int8"), torch.randn(n_samples, 1200)
    assert len(matrix.values) * (n_samples + 15) // 16 > ENOUGH_WORK
    expected = multiplied(x, matrix)
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        assert torch.equal(multiplied(x, matrix), expected)


@pytest.mark.usefixtures("level")
def test_it_is_close_to_the_product_of_floats():
    weight, x = unstructured(300, 700), torch.randn(64, 700)
    y, expected = multiplied(x, compress(weight, values="int8")), F.linear(x, weight)
    assert (y - expected).norm() < 0.02 * expected.norm()
    assert F.cosine_similarity(y, expected).min() > 0.999


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n_samples", [1, 9])
def test_a_matrix_out_of_order_is_multiplied_and_a_damaged_one_is_refused(n_samples):
    matrix, x = compress(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), values="int8"), torch.randn(n_samples, 3)
    expected = multiplied(x, matrix)
    for part in (matrix.indices.view(torch.int16), matrix.values):
        part[:3] = part[:3].flip(0)
    assert torch.equal(multiplied(x, matrix), expected)
    matrix.indices.view(torch.int16)[0] = 3
    with pytest.raises(StateError, match="is damaged"):
        multiplied(x, matrix)


@pytest.mark.usefixtures("level")
def test_what_does_not_fit_is_refused():
    matrix = compress(torch.eye(4), values="int8")
    with pytest.raises(StateError, match=r"int8 values only, not by torch\.float32"):
        multiplied(torch.randn(2, 4), compress(torch.eye(4)))
    with pytest.raises(OptionError, match=r"must have the shape \(\.\.\., 4\)"):
        multiplied(torch.randn(2, 5), matrix)
    with pytest.raises(OptionError, match="2 dimensions"):
        multiplied(torch.randn(4), matrix)
    with pytest.raises(OptionError, match=r"must be float32, not torch\.float64"):
        multiplied(torch.randn(2, 4).double(), matrix)
    with pytest.raises(OptionError, match=r"must be float32, not torch\.bfloat16"):
        multiplied(torch.randn(2, 4).bfloat16(), matrix)
    with pytest.raises(OptionError, match="bias must be 4 numbers"):
        multiplied(torch.randn(2, 4), matrix, torch.randn(3))


@pytest.mark.usefixtures("compiled_level")
def test_an_input_that_has_lost_its_memory_is_refused():
    x = torch.randn(2, 4)
    x.untyped_storage().resize_(4)
    with pytest.raises(OptionError, match=r"x of shape .* has lost its memory"):
        multiplied(x, compress(torch.eye(4), values="int8"))


# ---- gradients and programs ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("relu", [False, True])
def test_gradients_go_straight_through(relu):
    matrix, bias = compress(unstructured(30, 40), values="int8"), torch.randn(30)
    x, out = torch.randn(8, 40), torch.randn(8, 30)

    def gradients(operator):
        leaf, thawed = x.clone().requires_grad_(), bias.clone().requires_grad_()
        y = operator(leaf, *matrix.parts, thawed, relu)
        mask = (y > 0).detach() if relu else torch.ones_like(y)
        return mask, torch.autograd.grad(y, [leaf, thawed], out)

    mask, (of_x, of_bias) = gradients(quantised_linear)
    torch.testing.assert_close(of_x, (out * mask) @ decompress(matrix))
    torch.testing.assert_close(of_bias, (out * mask).sum(0))
    if not relu:
        assert torch.equal(of_x, gradients(sparse_linear)[1][0])


@pytest.mark.usefixtures("level")
def test_gradients_pass_a_relu_as_torch_has_them_pass():
    matrix = compress(unstructured(30, 40), values="int8")
    x, thawed = torch.stack([torch.full((40,), torch.nan), torch.zeros(40)]), torch.zeros(30, requires_grad=True)
    quantised_linear(x.requires_grad_(), *matrix.parts, thawed, True).backward(  # noqa: FBT003 - the operator's
        torch.stack([torch.full((30,), 2.0), torch.full((30,), torch.inf)])
    )
    assert torch.equal(thawed.grad, torch.full((30,), 2.0))


@pytest.mark.usefixtures("level")
@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own
def test_transforms_of_torch_func_and_forward_mode_go_straight_through_too():
    matrix, bias, x = compress(unstructured(30, 40), values="int8"), torch.randn(30), torch.randn(3, 40)
    dense, expected = decompress(matrix), multiplied(x, matrix, bias)
    of_sum = torch.func.grad(lambda given: multiplied(given, matrix, bias).sum())(x)
    torch.testing.assert_close(of_sum, dense.sum(0).expand(3, -1))
    y, tangent = torch.func.jvp(lambda given: multiplied(given, matrix, bias), (x,), (torch.ones_like(x),))
    assert torch.equal(y, expected)
    torch.testing.assert_close(tangent, dense.sum(1).expand(3, -1))
    with forward_ad.dual_level():
        dual = multiplied(forward_ad.make_dual(x, torch.ones_like(x)), matrix, bias)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)


@pytest.mark.usefixtures("level")
def test_torch_checks_the_operator():
    matrix, bias = compress(unstructured(6, 10), values="int8"), torch.randn(6)
    tests = "test_schema", "test_faketensor", "test_autograd_registration"
    torch.library.opcheck(
        torch.ops.prunecell.quantised_linear, (torch.randn(3, 10), *matrix.parts, bias, True), test_utils=tests
    )


def test_the_integers_of_samples():
    x = torch.randn(5, 33)
    integers, steps = quantised(x)
    assert torch.equal(integers.abs().amax(1), torch.full((5,), 127.0))
    assert ((integers * steps - x).abs() <= steps * 0.5001).all()
    assert quantised(torch.full((1, 2), torch.inf))[1].isnan().all()
