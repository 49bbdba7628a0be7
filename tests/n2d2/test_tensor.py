import copy
import pickle

import numpy as np
import pytest
import torch

import n2d2
from n2d2 import Interface, Tensor
from n2d2.cells import Fc
from n2d2.error_handler import (
    ImplementationError,
    UndefinedItemError,
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
)
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
        (lambda: Tensor([1], value="a"), r"value='a' is illegal: it must be a number \('float'\), not a str"),
        (lambda: Tensor([1], value=0.5, datatype="int"), "value=0.5 is illegal: datatype 'int' holds whole numbers"),
        (lambda: Tensor([1], value=300, datatype="uchar"), r"value=300 is illegal: .* in \[0, 255\]"),
        (lambda: Tensor([1], value=2, datatype="bool"), r"value=2 is illegal: .* in \[0, 1\]"),
        (lambda: Tensor([1], cuda=1), "cuda=1 is illegal"),
        (lambda: Tensor([1], cell=3), "cell=3 is illegal"),
        (lambda: Tensor([1]).set_values([[1], [2, 3]]), "set_values takes a nested list of numbers"),
        (lambda: Tensor([1]).set_values("one"), "set_values takes a nested list of numbers"),
        (lambda: Tensor([2, 3]).set_values([[1, 2], [3, 4], [5, 6]]), r"of shape \[3, 2\] for a tensor of \[2, 3\]"),
        (lambda: Tensor([2, 3]).reshape([4, 2]), r"new_dims=\[4, 2\] is illegal: it is 8 values, and there are 6"),
        (lambda: Tensor([2, 3]).resize(3), "new_dims=3 is illegal"),
        (lambda: Tensor([2, 3])["a"], "'a' is illegal as an index"),
        (lambda: Tensor([2, 3]).__setitem__(0, "a"), "'a' is illegal as a value"),
        (lambda: Tensor.from_numpy(np.array(["a"])), "from_numpy takes an array of numbers, not of <U1"),
        (lambda: Tensor([2]).update(), "no cell took part in making this tensor"),
        (lambda: Interface([]), "a list of one n2d2.Tensor at least"),
        (lambda: Interface(Tensor([1])), "must be a list of n2d2.Tensors"),
        (lambda: Interface([Tensor([1, 1, 2, 2]), Tensor([1, 1, 2, 3])]), "differ in width"),
        (lambda: Interface([Tensor([1, 1, 2, 2]), Tensor([1, 1, 3, 2])]), "differ in height"),
        (lambda: Interface([Tensor([1, 1, 2, 2]), Tensor([2, 1, 2, 2])]), "differ in batch"),
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


@pytest.mark.parametrize(
    ("dims", "sizes"),
    [
        ([], [1, 1, 1, 1]),
        ([3], [3, 1, 1, 1]),
        ([2, 3], [3, 2, 1, 1]),
        ([4, 2, 3], [3, 2, 4, 1]),
        ([5, 4, 2, 3], [3, 2, 4, 5]),
    ],
)
def test_sizes_by_their_names_are_1_where_there_are_none(dims, sizes):
    tensor = Tensor(dims)
    assert [tensor.dimX(), tensor.dimY(), tensor.dimZ(), tensor.dimB()] == sizes


@pytest.mark.parametrize("index", [6, -7, (0, 3), (2, 0), (0,), (0, 0, 0), (0.5, 1)])
def test_a_place_that_is_not_there_is_an_index_error_that_says_so(index):
    with pytest.raises(IndexError, match="is no place") as error:
        Tensor([2, 3])[index]
    assert isinstance(error.value, UndefinedItemError)
    with pytest.raises(IndexError, match="is no place"):
        Tensor([2, 3])[index] = 1


def test_every_way_to_a_value():
    tensor = Tensor([2, 3], datatype="int").set_values(range(6))
    assert [tensor[4], tensor[-2], tensor[1, 1], tensor[[1, 1]], tensor[-1, -2], tensor[np.int64(4)], tensor[4.0]] == [
        4
    ] * 7
    assert list(tensor[1:5:2]) == [1, 3]
    turned = Tensor.from_torch(torch.zeros(2, 3).T)
    turned[1] = 5
    assert turned[0, 1] == 5


def test_tensors_of_different_types_are_equal_by_their_values():
    one = Tensor([2, 3], value=1, datatype="int")
    assert one == Tensor([2, 3], value=1)
    assert one != Tensor([2, 3], value=2)
    assert one != Tensor([3, 2], value=1)
    assert one != 1


@pytest.mark.parametrize("name", DATATYPES)
def test_every_datatype_holds_its_values(name):
    tensor = Tensor([2], value=1, datatype=name)
    tensor[1] = 0
    assert list(tensor) == [1, 0]
    assert Tensor.from_numpy(tensor.to_numpy()) == tensor
    assert tensor.mean() == 0.5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_tensor_stays_on_the_cpu():
    with pytest.warns(UserWarning, match="cuda has no effect: torch finds no GPU"):
        tensor = Tensor([2], cuda=True)
    assert not tensor.is_cuda
    assert tensor.cpu().htod().dtoh() is tensor


@pytest.mark.parametrize("name", ["N2D2", "from_N2D2"])
def test_what_is_in_c_is_refused(name):
    with pytest.raises(ImplementationError, match=f"Tensor.{name} is refused: .*to_torch|from_torch"):
        getattr(Tensor([1]), name)()


def test_what_a_tensor_comes_from():
    fc, data = Fc(3, 2, name="fc"), Tensor([1, 3])
    made = fc(data)
    assert (data.cell, made.cell) == (None, fc)
    assert "cell='fc'" in str(made)
    assert not made.is_leaf()
    assert made.get_tensors() == [made]
    assert list(made.get_deepnet().get_cells()) == ["fc"]
    assert data.get_deepnet().get_cells() == {}
    assert Tensor([1, 3], cell=fc).trace.cells == (fc,)
    loss = Tensor.from_torch(made.values.sum())
    loss.trace = made.trace
    assert loss.is_leaf()
    loss.back_propagate()
    with pytest.raises(WrongValue, match="was called before: compute the loss again"):
        loss.back_propagate()


def test_an_interface_is_of_tensors_that_fit():
    one, two = Tensor([2, 4, 8, 6]), Tensor([2, 1, 8, 6])
    both = Interface([one, two])
    assert both.dims() == [6, 8, 5, 2]
    assert (both.dimX(), both.dimY(), both.dimZ(), both.dimB()) == (6, 8, 5, 2)
    assert len(both) == 2
    assert both[1] is two
    assert both.get_tensors() == both.tensors == [one, two]
    assert n2d2.cells.Conv(5, 3, [1, 1])(both).shape() == [2, 3, 8, 6]
    made = Interface([Fc(3, 2, name="a")(Tensor([1, 3])), Fc(3, 2, name="b")(Tensor([1, 3]))])
    assert list(made.get_deepnet().get_cells()) == ["a", "b"]


REFUSED = {
    "t + t": "no arithmetic",
    "1 + t": "no arithmetic",
    "t - 2.0": "no arithmetic",
    "t * t": "no arithmetic",
    "t / 2": "no arithmetic",
    "2 ** t": "no arithmetic",
    "t @ t": "no arithmetic",
    "-t": "no arithmetic",
    "abs(t)": "no arithmetic",
    "t > 1": "no arithmetic",
    "float(t)": "no arithmetic",
    "int(t)": "no arithmetic",
    "f'{t:.2f}'": "no arithmetic",
    "t.to_torch() * t": "no arithmetic",
    "t.item()": "no 'item'; to_numpy",
    "t.rehsape": "no 'rehsape'; did you mean 'reshape'",
    "t.reshape(3, 2)": r"too many: 1 at most, .* reshape\(new_dims\)",
    "np.mean(t)": "mean has no parameter 'axis'",
    "Tensor()": "dims is missing",
    "Tensor([2], dtype='int')": "no parameter 'dtype'",
}


@pytest.mark.parametrize(("expression", "told"), REFUSED.items())
def test_what_a_tensor_does_not_do_is_refused_by_name(expression, told):
    with pytest.raises((WrongInputType, UndefinedParameterError), match=told):
        eval(expression, {"t": Tensor([2, 3], value=2.0), "Tensor": Tensor, "np": np})  # noqa: S307 - expressions of the table above


def test_arithmetic_with_arrays_is_numpys():
    t = Tensor([2, 3], value=2.0)
    assert ((t + np.ones((2, 3))) == 3).all()
    assert ((np.ones((2, 3)) - t) == -1).all()
    assert np.add(t, t).sum() == 24
    assert f"{t}" == str(t)


def test_what_was_computed_can_be_copied_and_pickled():
    made = Fc(3, 2)(Tensor([4, 3], value=1.0))
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - our own
        assert same == made
    copy.deepcopy(made)[0] = 100
    assert made[0] != 100
    assert copy.deepcopy([made, made])[0] == made
    assert list(copy.deepcopy(made.get_deepnet()).get_cells()) == list(made.get_deepnet().get_cells())
