"""What the operators take: every operator refuses operands that do not go together, on every device, in one way."""

import pytest
import torch

from prunecell import native
from prunecell.errors import OptionError, PrunecellError
from prunecell.sparse import convolution_op, dense_weight, linear_op, quantised_op
from prunecell.sparse.compress import compress

OPERATORS = torch.ops.prunecell
KERNEL = ([3, 3], [1, 1], [1, 1], [1, 1], 2)


def calls():
    """Name of an operator -> arguments that it takes: int8 values, so that there are scales."""
    linear = compress(torch.randn(6, 8) * (torch.rand(6, 8) < 0.5), values="int8").parts
    kernels = compress(torch.randn(6, 2, 3, 3), values="int8").parts
    return {
        "sparse_linear": (torch.randn(5, 8), *linear, torch.randn(6), False),
        "quantised_linear": (torch.randn(5, 8), *linear, torch.randn(6), False),
        "sparse_linear_input_gradient": (torch.randn(5, 6), *linear),
        "sparse_convolution": (torch.randn(2, 4, 7, 7), *kernels, torch.randn(6), *KERNEL, False),
        "sparse_convolution_input_gradient": (torch.randn(2, 6, 7, 7), [2, 4, 7, 7], *kernels, *KERNEL),
        "dense_matrix": linear,
    }


NAMES = tuple(calls())


def tensors(arguments):
    return [i for i, argument in enumerate(arguments) if isinstance(argument, torch.Tensor)]


def with_changed(arguments, numbers, change):
    return [change(argument) if i in numbers else argument for i, argument in enumerate(arguments)]


def to_meta(tensor):
    return tensor.to("meta")


def test_every_operator_is_tried():
    registered = {name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if "prunecell::" in name}
    assert registered == set(NAMES), (linear_op, quantised_op, convolution_op, dense_weight)


@pytest.mark.parametrize("name", NAMES)
def test_operands_on_two_devices_are_refused(name):
    arguments = calls()[name]
    places = tensors(arguments)
    operator = getattr(OPERATORS, name)
    whole = operator(*arguments)
    fake = operator(*with_changed(arguments, places, to_meta))
    assert (fake.shape, fake.stride(), fake.is_meta) == (whole.shape, whole.stride(), True)
    for place in places:
        with pytest.raises(PrunecellError, match=r"device|move one of them"):
            operator(*with_changed(arguments, [place], to_meta))
        with pytest.raises(PrunecellError, match=r"device|move one of them"):
            operator(*with_changed(arguments, [p for p in places if p != place], to_meta))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("gradient")])
@pytest.mark.parametrize(
    "change",
    [torch.Tensor.double, lambda g: g[:, :-1], lambda g: g[0], lambda g: g[..., None]],
    ids=["dtype", "rows", "no samples", "axes"],
)
def test_a_gradient_that_does_not_fit_is_refused(name, change, device):
    arguments = calls()[name]
    arguments = with_changed(arguments, tensors(arguments), lambda tensor: tensor.to(device))
    with pytest.raises(OptionError, match="gradient must"):
        getattr(OPERATORS, name)(*with_changed(arguments, [0], change))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("shape", [[3, 4, 7, 7], [2, 4, 7, 8], [2, 4, 7], [2, 6, 7, 7], [-1, 4, 7, 7]])
def test_a_gradient_of_an_input_of_another_shape_is_refused(shape, device):
    gradient, _, *rest = calls()["sparse_convolution_input_gradient"]
    arguments = with_changed([gradient, shape, *rest], tensors([gradient, shape, *rest]), lambda t: t.to(device))
    with pytest.raises(OptionError):
        OPERATORS.sparse_convolution_input_gradient(*arguments)


WRONG = {
    "dtype": torch.Tensor.double,
    "integers": torch.Tensor.long,
    "device": to_meta,
    "one axis less": lambda tensor: tensor[0],
    "one axis more": lambda tensor: tensor[..., None],
    "fewer features": lambda tensor: tensor[..., :-1] if tensor.ndim < 3 else tensor[:, :-1],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("operand", ["x", "bias"])
@pytest.mark.parametrize("name", ["sparse_linear", "sparse_convolution"])
def test_the_kernel_and_its_twin_refuse_in_the_same_words(name, operand, wrong, monkeypatch):
    arguments = calls()[name]
    place = 0 if operand == "x" else tensors(arguments)[-1]
    bad = with_changed(arguments, [place], WRONG[wrong])
    call = {"sparse_linear": linear_op.sparse_linear, "sparse_convolution": convolution_op.sparse_convolution}[name]
    told = set()
    for has_kernels in (True, False):
        if not has_kernels:
            monkeypatch.setattr(native, "library", lambda: None)
        for operator in (call, getattr(OPERATORS, name)):
            with pytest.raises(OptionError) as caught:
                operator(*bad)
            told.add(str(caught.value))
    assert len(told) == 1, told
