import numpy as np
import pytest
import torch

import n2d2
from n2d2 import Tensor
from n2d2.cells import Fc
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.tensor import DATATYPES


def test_made_of_dims_and_a_value():
    tensor = Tensor([2, 3], value=0.5)
    assert tensor.shape() == [2, 3]
    assert tensor.dims() == [3, 2]
    assert len(tensor) == 6
    assert list(tensor) == [0.5] * 6
    assert Tensor([2, 3], dim_format="N2D2").shape() == [3, 2]


def test_a_flat_index_or_all_coordinates():
    tensor = Tensor([2, 3])
    tensor[1, 0] = 1
    assert tensor[3] == tensor[1, 0] == 1
    tensor[0] = 2
    tensor[1:3] = 3
    assert tensor.to_numpy().tolist() == [[2, 3, 3], [1, 0, 0]]
    assert 3 in tensor
    assert 7 not in tensor


def test_values_by_nested_lists():
    tensor = Tensor([2, 3]).set_values([[1, 2, 3], [4, 5, 6]])
    assert tensor.to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(WrongValue, match="set_values got 2 values for a tensor of 6"):
        tensor.set_values([1, 2])


def test_numpy_shares_memory_out_and_copies_in():
    tensor = Tensor([2, 2])
    tensor.to_numpy()[0] = 7
    assert tensor[0] == 7
    tensor.to_numpy(copy=True)[0] = 8
    assert tensor[0] == 7
    array = np.ones((2, 2))[:, ::-1]
    made = Tensor.from_numpy(array)
    made[0] = 5
    assert array[0, 0] == 1
    assert made.data_type() == "double"
    assert np.asarray(made)[0, 0] == 5
    with pytest.raises(WrongInputType, match="from_numpy takes a numpy array, not a list"):
        Tensor.from_numpy([1])


@pytest.mark.parametrize("name", DATATYPES)
def test_datatypes(name):
    tensor = Tensor([2], datatype=name)
    assert DATATYPES[tensor.data_type()] == DATATYPES[name]


def test_reshape_resize_copy_and_equality():
    tensor = Tensor([2, 3]).set_values(range(6))
    twin = tensor.copy()
    twin.reshape([3, 2])
    assert twin.shape() == [3, 2]
    assert twin != tensor
    twin.reshape([2, 3])
    assert twin == tensor
    twin[0] = 9
    assert tensor[0] == 0
    twin.resize([4])
    assert list(twin) == [0] * 4
    assert tensor.mean() == 2.5


def test_printing():
    text = str(Tensor([2, 2], value=1))
    assert text.startswith("n2d2.Tensor(")
    assert "[1. 1.]" in text
    assert "datatype=float" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tensor(3), "dims=3 is illegal"),
        (lambda: Tensor([-1]), "sizes are whole numbers"),
        (lambda: Tensor([1], datatype="flot"), "did you mean 'float'"),
        (lambda: Tensor([1], dim_format="numpy"), "did you mean 'Numpy'"),
    ],
)
def test_illegal_arguments_are_refused_by_name(make, message):
    with pytest.raises((WrongValue, WrongInputType), match=message):
        make()


def test_only_a_loss_goes_back():
    cell = Fc(3, 2)
    with pytest.raises(WrongValue, match="needs the loss that a Target returned"):
        cell(Tensor([1, 3])).back_propagate()
    with pytest.raises(WrongValue, match=r"this tensor has shape .* and no graph"):
        Tensor([1]).back_propagate()


def test_a_detached_tensor_goes_back_no_further():
    frozen, head = Fc(3, 3), Fc(3, 2)
    x = frozen(Tensor.from_torch(torch.ones(4, 3)))
    x.detach()
    y = head(x)
    assert list(y.trace.cells) == [head]
    y.values.sum().backward()
    assert frozen.weight.grad is None
    assert head.weight.grad is not None


def test_what_took_part_is_updated_once():
    class Provider:
        epoch_size = 8

    one, two = Fc(3, 3, solver=n2d2.solver.SGD(learning_rate=1.0)), Fc(3, 2)
    untouched = Fc(3, 2)
    before = [cell.weight.detach().clone() for cell in (one, two, untouched)]
    x = Tensor.from_torch(torch.ones(4, 3), source=Provider())
    y = two(one(one(x)))
    assert y.shape() == [4, 2, 1, 1]
    assert list(y.trace.cells) == [one, two]
    assert y.trace.n_samples == 4
    loss = Tensor.from_torch(y.values.sum())
    loss.trace = y.trace
    loss.back_propagate()
    gradient = one.weight.grad.clone()
    loss.update()
    assert torch.allclose(one.weight, before[0] - gradient)
    assert not torch.equal(two.weight, before[1])
    assert torch.equal(untouched.weight, before[2])
    assert one.weight.grad is None
