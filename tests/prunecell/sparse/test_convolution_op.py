"""sparse_convolution gives what torch's convolutions give, at every level."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from prunecell.errors import OptionError
from prunecell.sparse.compress import compress
from prunecell.sparse.convolution_op import CONVOLUTIONS, sparse_convolution
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.layers import SparseConvolution
from prunecell.sparse.matrix import decompress, matrix_of
from prunecell.sparse.multiply import ENOUGH_WORK
from prunecell.sparse.values import VALUES

# in, out, kernel, stride, padding, dilation, groups, samples, size
CASES = json.loads((Path(__file__).parents[2] / "data" / "convolutions.json").read_text())


def convolved(x, *arguments, relu=False):
    return sparse_convolution(x, *arguments, relu)


def made(case, *, density=0.4, **how):
    channels, out, kernel, stride, padding, dilation, groups, n_samples, size = CASES[case]
    weight = torch.randn(out, channels // groups, *kernel)
    weight *= torch.rand_like(weight) < density
    matrix = compress(weight, **how)
    x, bias = torch.randn(n_samples, channels, *size), torch.randn(out)
    arguments = (*matrix.parts, bias, kernel, stride, padding, dilation, groups)
    dense = decompress(matrix).view_as(weight)
    expected = CONVOLUTIONS[len(kernel)](x, dense, bias, stride, padding, dilation, groups)
    return x, arguments, expected


@pytest.mark.usefixtures("level")
def test_it_convolves(for_every):
    def law(case, name):
        torch.manual_seed(0)
        x, arguments, expected = made(case, format=name)
        torch.testing.assert_close(convolved(x, *arguments), expected, atol=1e-4, rtol=1e-4)

    for_every(law, CASES, FORMATS)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_any_values_and_density(values, density):
    for case in ("3x3, few channels", "3x3, strided"):
        x, arguments, expected = made(case, density=density, values=values)
        y = convolved(x, *arguments, relu=True)
        torch.testing.assert_close(y, expected.relu(), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("level")
def test_every_size_around_a_vector_and_a_block():
    weight = torch.randn(3, 2, 3, 3)
    for name, (height, width) in product(
        ("columns16", "gaps8"), ((1, 1), (1, 15), (2, 8), (1, 17), (4, 16), (5, 13), (8, 16), (3, 43))
    ):
        x = torch.randn(2, 2, height, width)
        arguments = (*compress(weight, format=name).parts, None, [3, 3], [1, 1], [1, 1], [1, 1], 1)
        expected = nn.functional.conv2d(x, weight, padding=1)
        torch.testing.assert_close(convolved(x, *arguments), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("case", ["3x3, few channels", "3x3, many channels"])
def test_formats_that_are_read_as_they_are_stored_give_the_same_bits(case):
    x, arguments, _ = made(case)
    names = [name for name, kind in FORMATS.items() if not kind.is_packed]
    matrices = [compress(dense_weight(arguments), format=name).parts for name in names]
    first, *others = [convolved(x, *matrix, *arguments[6:]) for matrix in matrices]
    assert others
    assert all(torch.equal(first, other) for other in others)


def dense_weight(arguments):
    return decompress(matrix_of(*arguments[:6]))


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize("size", [(17, 18), (5, 5)])
@pytest.mark.parametrize("n_samples", [1, 3, 7])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bits_on_any_number_of_threads(size, n_samples, name):
    weight, x = torch.randn(96, 48, 3, 3), torch.randn(n_samples, 96, *size)
    arguments = (*compress(weight, format=name).parts, None, [3, 3], [1, 1], [1, 1], [1, 1], 2)
    assert weight.numel() > ENOUGH_WORK / 2
    expected = convolved(x, *arguments)
    for n_threads in (2, 3, 8):
        torch.set_num_threads(n_threads)
        assert torch.equal(convolved(x, *arguments), expected), n_threads


@pytest.mark.usefixtures("compiled_level")
@pytest.mark.parametrize(
    "case",
    [  # in, out, kernel, stride, padding, dilation, groups; then the size
        (16, 8, [7, 3], [2, 1], [0, 0], [1, 2], 4, [35, 122]),
        (16, 2, [3, 3], [1, 1], [0, 0], [1, 1], 1, [30, 30]),
        (64, 64, [3, 3], [1, 1], [0, 0], [1, 1], 1, [14, 14]),
        (64, 64, [1, 1], [1, 1], [0, 0], [1, 1], 1, [14, 14]),
        (64, 64, [1, 1], [2, 2], [0, 0], [1, 1], 1, [14, 14]),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_the_samples_of_a_threads_share_choose_no_bits(case, name):
    """How panels are laid out depends on all samples, not on those that one thread has."""
    channels, out, *kernel, groups, size = case
    weight = torch.randn(out, channels // groups, *kernel[0])
    arguments = (*compress(weight, format=name).parts, None, *kernel, groups)
    for n_samples in (2, 3, 5, 16):
        x = torch.randn(n_samples, channels, *size)
        torch.set_num_threads(1)
        expected = convolved(x, *arguments)
        for n_threads in (2, 3, 4):
            torch.set_num_threads(n_threads)
            assert torch.equal(convolved(x, *arguments), expected), (n_samples, n_threads)


@pytest.mark.usefixtures("level")
def test_gradients_pass_a_relu_as_torch_has_them_pass():
    """Those of outputs that are NaN go through; infinite ones of others may be stopped."""
    bias = torch.tensor([torch.nan, torch.inf, -1.0, 0.0], requires_grad=True)
    arguments = (*compress(torch.eye(4)).parts, bias, [1], [1], [0], [1], 1)
    out = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, torch.inf], [6.0, torch.nan]]])
    convolved(torch.zeros(1, 4, 2), *arguments, relu=True).backward(out)
    assert torch.equal(bias.grad, torch.tensor([3.0, 7.0, 0.0, 0.0]))
    arguments = (*arguments[:6], None, *arguments[7:])
    x = torch.zeros(1, 4, 3, requires_grad=True)
    convolved(x, *arguments, relu=True).sqrt().sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, 4, 3))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("case", ["3x3, few channels", "1-D, strided, dilated", "3-D, strided", "grouped"])
def test_gradients_reach_the_input(case):
    x, arguments, _ = made(case)
    x.requires_grad_()
    convolved(x, *arguments, relu=True).square().sum().backward()
    twin = x.detach().clone().requires_grad_()
    *_, bias, kernel, stride, padding, dilation, groups = arguments
    weight = dense_weight(arguments).view(len(bias), -1, *kernel)
    CONVOLUTIONS[len(kernel)](twin, weight, bias, stride, padding, dilation, groups).relu().square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own
def test_gradients_in_forward_mode():
    x, arguments, _ = made("3x3, few channels")
    tangent, unbiased = torch.randn_like(x), (*arguments[:6], None, *arguments[7:])
    _, moved = torch.func.jvp(lambda x: convolved(x, *arguments), (x,), (tangent,))
    torch.testing.assert_close(moved, convolved(tangent, *unbiased), atol=1e-4, rtol=1e-4)


def test_other_memory_formats_are_read():
    x, arguments, expected = made("3x3, few channels")
    y = convolved(x.to(memory_format=torch.channels_last), *arguments)
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)


def test_no_samples_give_no_outputs():
    x, arguments, expected = made("3x3, few channels")
    assert convolved(x[:0], *arguments).shape == expected[:0].shape


@pytest.mark.parametrize("case", ["3x3, few channels", "3-D, strided"])
def test_it_is_a_well_behaved_operator(case):
    x, arguments, _ = made(case, values="int8")
    relu = True
    torch.library.opcheck(torch.ops.prunecell.sparse_convolution.default, (x.requires_grad_(), *arguments, relu))


def test_compiled_and_exported_programs_hold_it():
    x, arguments, _ = made("3x3, few channels")

    class Net(nn.Module):
        def forward(self, x):
            return convolved(x.sin(), *arguments, relu=True).cos()

    expected = Net()(x)
    assert torch.equal(torch.compile(Net(), backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.equal(torch.export.export(Net(), (x,)).module()(x), expected)


def test_what_does_not_fit_is_refused():
    x, (*matrix, bias, kernel, stride, padding, dilation, groups), _ = made("3x3, few channels")
    arguments = (*matrix, bias, kernel)
    with pytest.raises(OptionError, match=r"5 channels in 1 groups.* do not fit a matrix 6 x 36"):
        convolved(torch.randn(1, 5, 9, 9), *arguments, stride, padding, dilation, groups)
    with pytest.raises(OptionError, match="x must have 4 dimensions"):
        convolved(x[0], *arguments, stride, padding, dilation, groups)
    with pytest.raises(OptionError, match=r"x must be float32 or bfloat16 or float16, not torch\.float64"):
        convolved(x.double(), *arguments, stride, padding, dilation, groups)
    with pytest.raises(OptionError, match="illegal"):
        convolved(x, *arguments, [0, 1], padding, dilation, groups)
    with pytest.raises(OptionError, match="illegal"):
        convolved(x, *arguments, stride, [-1, 1], dilation, groups)
    with pytest.raises(OptionError, match="each must have one number an axis"):
        convolved(x, *arguments, stride[:1], padding, dilation, groups)
    with pytest.raises(OptionError, match="at most 1073741824 along an axis"):
        convolved(x[:, :, :1, :1].expand(-1, -1, 3, (1 << 30) + 1), *arguments, stride, padding, dilation, groups)
    with pytest.raises(OptionError, match="smaller than the kernel"):
        convolved(x[:, :, :1, :1], *arguments, stride, [0, 0], dilation, groups)
    with pytest.raises(OptionError, match="bias must be 6 numbers in a row"):
        convolved(x, *matrix, bias[:5], kernel, stride, padding, dilation, groups)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("options", [(1, 1, 0), (2, 2, 3), (1, 1, 1), (3, 1, 4)])
def test_sizes_without_elements_are_taken_and_refused_as_the_dense_layer_does(n_axes, options):
    stride, dilation, padding = options
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n_axes - 1]
    dense = kind(4, 4, 3, stride=stride, dilation=dilation, padding=padding)
    sparse = SparseConvolution(compress(dense.weight.detach().flatten(1)), dense.bias, dense)
    rest = (9,) * (n_axes - 1)
    for size in ((0, *rest), (*rest, 0), (0,) * n_axes, (1,) * n_axes):
        for n_samples in (0, 2):
            x = torch.randn(n_samples, 4, *size)
            try:
                want = dense(x)
            except RuntimeError:
                with pytest.raises(OptionError):
                    sparse(x)
            else:
                torch.testing.assert_close(sparse(x), want)
