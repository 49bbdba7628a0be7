"""A sparse layer takes what the dense layer takes, and refuses what that refuses, in words of its own."""

import copy
import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from prunecell.errors import OptionError, PrunecellError, StateError
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.layers import SparseConvolution, SparseLinear

pytestmark = pytest.mark.usefixtures("everything_wins")

LAYERS = {
    "Linear": (lambda: nn.Linear(16, 8), (3, 16)),
    "Linear, without bias": (lambda: nn.Linear(16, 8, bias=False), (3, 16)),
    "Conv1d": (lambda: nn.Conv1d(8, 4, 3), (2, 8, 9)),
    "Conv2d": (lambda: nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=2), (2, 8, 9, 7)),
    "Conv2d, reflecting": (lambda: nn.Conv2d(8, 4, 3, padding=2, padding_mode="reflect"), (2, 8, 9, 7)),
    "Conv3d": (lambda: nn.Conv3d(8, 4, 3), (2, 8, 5, 6, 7)),
    "LSTM": (lambda: nn.LSTM(16, 8, 2, bidirectional=True), (5, 3, 16)),
    "LSTM, batch first": (lambda: nn.LSTM(16, 8, batch_first=True), (3, 5, 16)),
}
DTYPES = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)


def both(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    dense = make().eval()
    for weight in dense.parameters():
        if weight.ndim > 1:
            weight.data.mul_(torch.rand_like(weight) < 0.2)
    return dense, compact_(copy.deepcopy(dense)), shape


def first(output):
    return output[0] if isinstance(output, tuple) else output


def the_same_or_refused(dense, sparse, *inputs, tolerance=1e-5):
    try:
        expected = first(dense(*inputs))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        refused = re.escape(str(error))
        with pytest.raises((PrunecellError, RuntimeError), match=f"^x |^an input |channels in|{refused}"):
            sparse(*inputs)
        return False
    y = first(sparse(*inputs))
    assert (y.dtype, y.shape, y.device) == (expected.dtype, expected.shape, expected.device)
    if not y.is_meta:
        torch.testing.assert_close(y.double(), expected.double(), atol=tolerance, rtol=tolerance)
    return True


@pytest.mark.parametrize("name", LAYERS)
def test_dtypes_are_those_of_the_dense_layer(name):
    dense, sparse, shape = both(name)
    for own in (torch.float32, torch.bfloat16, torch.float64):
        dense, sparse = dense.to(own), sparse.to(own)
        for dtype in DTYPES:
            x = torch.randn(shape).mul(3).to(dtype)
            assert the_same_or_refused(dense, sparse, x, tolerance=0.03) is (dtype == own)


@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_autocast_is_that_of_the_dense_layer(name):
    dense, sparse, shape = both(name)
    for cast in (torch.bfloat16, torch.float16):
        for dtype in DTYPES:
            x = torch.randn(shape).mul(3).to(dtype)
            with torch.autocast("cpu", cast):
                taken = the_same_or_refused(dense, sparse, x, tolerance=0.03)
            assert taken is (dtype in {torch.float16, torch.bfloat16, torch.float32})


def shapes_like(shape):
    """The shape with one dimension less or more, empty, or of another size."""
    yield from ((), shape[1:], shape[2:], (*shape, 1), (1, *shape), (2, 1, *shape), (*shape[:-2], shape[-1], shape[-2]))
    for axis in range(len(shape)):
        for size in (0, 1, 2, shape[axis] + 1):
            yield (*shape[:axis], size, *shape[axis + 1 :])


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_those_of_the_dense_layer(name):
    dense, sparse, shape = both(name)
    taken = [the_same_or_refused(dense, sparse, torch.randn(other)) for other in shapes_like(shape)]
    assert 0 < sum(taken) < len(taken)


@pytest.mark.parametrize("name", LAYERS)
def test_layouts_are_those_of_the_dense_layer(name):
    dense, sparse, shape = both(name)
    x = torch.randn(shape)
    for other in (
        x.transpose(0, -1).contiguous().transpose(0, -1),
        x.flip(-1).flip(-1),
        torch.stack([x, x], -1)[..., 0],
        x[:1].expand(shape),
        torch.cat([x, x], 1)[:, : shape[1]],
        x.clone().requires_grad_(),
    ):
        assert the_same_or_refused(dense, sparse, other)


@pytest.mark.parametrize("size", [(9, 7), (3, 3), (3, 7), (7, 3)])
@pytest.mark.parametrize("axes", [2, 3])
def test_one_channel_lies_last_as_that_of_the_dense_layer(axes, size):
    dense = (nn.Conv2d if axes == 2 else nn.Conv3d)(4, 1, 3).requires_grad_(requires_grad=False)
    sparse = SparseConvolution(compress(dense.weight.flatten(1)), dense.bias, dense)
    x = torch.randn(2, 4, *size, *[5] * (axes - 2))
    x = x.contiguous(memory_format=torch.channels_last if axes == 2 else torch.channels_last_3d)
    y, expected = sparse(x), dense(x)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
@pytest.mark.parametrize("mode", [torch.no_grad, nullcontext])
@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_inputs_of_another_layout_are_refused(name, mode, change):
    _, sparse, shape = both(name)
    x = torch.randn(shape)
    with mode():
        for model in (sparse, compact_(nn.Sequential(both(name)[0], nn.ReLU()))):
            for given in (x, x.clone().requires_grad_()):
                with pytest.raises(OptionError, match=r"^x must be a dense tensor, not one of layout torch\."):
                    model(change(given))


@pytest.mark.parametrize("name", LAYERS)
def test_devices_are_those_of_the_dense_layer(name):
    dense, sparse, shape = both(name)
    with pytest.raises(PrunecellError, match="x is on meta, the sparse matrix on cpu"):
        sparse(torch.randn(shape, device="meta"))
    dense, sparse = dense.to("meta"), sparse.to("meta")
    with pytest.raises(PrunecellError, match="x is on cpu, the sparse matrix on meta"):
        sparse(torch.randn(shape))
    assert the_same_or_refused(dense, sparse, torch.randn(shape, device="meta"))


@pytest.mark.parametrize("x", [[1.0] * 16, None, "x", pack_sequence([torch.zeros(2, 16)])], ids=type)
def test_what_is_no_tensor_is_refused(x):
    for name in ("Linear", "Conv2d"):
        with pytest.raises(TypeError, match=f"x must be a tensor, not a {type(x).__name__}"):
            both(name)[1](x)


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_messages_say_what_does_not_fit():
    sparse, x = both("Linear")[1], torch.randn(3, 16)
    with pytest.raises(OptionError, match=r"must have the same dtype, but they have torch\.uint8 and torch\.float32"):
        sparse(x.byte())
    with pytest.raises(OptionError, match=r"x must have the shape \(\.\.\., 16\), not \(2, 3, 17\)"):
        sparse(torch.randn(2, 3, 17))
    convolution = both("Conv2d")[1]
    with pytest.raises(OptionError, match=r"x must have the shape \(\[batch,\] 8, size0, size1\), not \(7, 9, 9\)"):
        convolution(torch.randn(7, 9, 9))
    with pytest.raises(OptionError, match=r"an input of \(1, 1\) is smaller than the kernel"):
        SparseConvolution(compress(torch.randn(4, 8, 3, 3)), None, nn.Conv2d(8, 4, 3))(torch.randn(2, 8, 1, 1))
    with pytest.raises(OptionError, match=r"a sparse layer cannot become torch\.complex64"):
        sparse.to(torch.complex64)


def test_a_layer_keeps_the_dtype_that_it_was_given():
    sparse = both("Linear")[1]
    before = {name: (tensor.dtype, tensor.clone()) for name, tensor in sparse.state_dict().items()}
    for dtype in (torch.bfloat16, torch.float64, torch.float16):
        assert sparse.to(dtype).dtype == dtype
        assert sparse.weight.dtype == dtype
        assert copy.deepcopy(sparse)(torch.randn(3, 16, dtype=dtype)).dtype == dtype
    assert sparse.to("cpu").dtype == torch.float16
    for name, tensor in sparse.state_dict().items():
        assert tensor.dtype == before[name][0]
        assert torch.equal(tensor, before[name][1])
    assert next(sparse.parameters()) is sparse.bias  # programs ask it for the device of a model


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["Linear", "Conv2d"])
def test_a_bias_learns(name, mode):
    dense, sparse, shape = both(name)
    x = torch.randn(shape)
    assert not sparse.bias.requires_grad
    sparse.bias.requires_grad_()
    with mode():
        for model in (nn.Sequential(dense, nn.ReLU()), nn.Sequential(sparse, nn.ReLU())):
            y = model(x)
            assert y.requires_grad is (mode is nullcontext)
            if y.requires_grad:
                y.square().sum().backward()
    if mode is nullcontext:
        torch.testing.assert_close(sparse.bias.grad, dense.bias.grad)


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own
def test_transforms_of_functions():
    dense, sparse, shape = both("Linear")
    x = torch.randn(4, *shape)
    torch.testing.assert_close(torch.func.vmap(sparse)(x), torch.func.vmap(dense)(x))
    tangent = torch.randn_like(x)
    for y, expected in zip(
        torch.func.jvp(sparse, (x,), (tangent,)), torch.func.jvp(dense, (x,), (tangent,)), strict=True
    ):
        torch.testing.assert_close(y, expected)
    state = {name: tensor * 2 if name in {"values", "bias"} else tensor for name, tensor in sparse.state_dict().items()}
    torch.testing.assert_close(torch.func.functional_call(sparse, state, (x,)), 2 * dense(x))


def test_a_state_of_a_dense_layer_is_refused():
    dense, sparse, _ = both("Linear")
    before = copy.deepcopy(sparse.state_dict())
    for strict in (False, True):
        with pytest.raises(StateError, match=r"0\.weight is the weight of a dense layer, and the layer is sparse"):
            nn.Sequential(sparse).load_state_dict(nn.Sequential(dense).state_dict(), strict=strict)
    assert all(torch.equal(before[name], tensor) for name, tensor in sparse.state_dict().items())


def test_a_linear_layer_may_have_no_rows_or_columns():
    for shape in ((0, 4), (4, 0), (0, 0)):
        layer = SparseLinear(compress(torch.zeros(shape)), torch.zeros(shape[0]))
        for size in ((3, shape[1]), (2, 3, shape[1]), (shape[1],), (0, 2, shape[1])):
            assert torch.equal(layer(torch.zeros(size)), torch.zeros(*size[:-1], shape[0]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("dense", [nn.Linear(6, 4), nn.Conv2d(2, 4, 2)], ids=["linear", "convolution"])
def test_transforms_of_torch_func_give_what_they_give_of_the_dense_layer(dense):
    dense.requires_grad_(requires_grad=False)
    matrix = compress(dense.weight.flatten(1))
    sparse = (
        SparseLinear(matrix, dense.bias) if dense.weight.ndim == 2 else SparseConvolution(matrix, dense.bias, dense)
    )
    x = torch.randn(3, 6) if dense.weight.ndim == 2 else torch.randn(3, 2, 4, 4)
    for transform in (
        lambda f: torch.func.grad(lambda x: f(x).square().sum())(x),
        lambda f: torch.func.jacrev(f)(x),
        lambda f: torch.func.jacfwd(f)(x),
        lambda f: torch.func.vjp(f, x)[1](f(x))[0],
        lambda f: torch.func.vmap(torch.func.grad(lambda x: f(x).square().sum()))(x),
        lambda f: torch.func.vmap(f)(x),
    ):
        torch.testing.assert_close(transform(sparse), transform(dense), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["activations", "format", "n_columns", "weight_shape", "in_features", "out_features"])
def test_what_was_decided_when_a_layer_was_made_cannot_be_set(name):
    layer, x = SparseLinear(compress(torch.randn(8, 16)), None), torch.randn(2, 16)
    before, told = layer(x), getattr(layer, name)
    with pytest.raises(OptionError, match=f"{name} of a sparse layer cannot be set: it was decided when"):
        setattr(layer, name, 5)
    assert getattr(layer, name) is told
    assert torch.equal(copy.deepcopy(layer)(x), before)
