"""Sequence, Layer and Block: what they hold, what is set on them, and what is refused."""

import copy
import pickle

import pytest
import torch
from torch import nn

import n2d2
from n2d2.cells import BatchNorm2d, Block, Conv, ElemWise, Fc, Layer, Pool2d, Sequence, Softmax
from n2d2.error_handler import (
    ImplementationError,
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
)
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, Adam


def nested():
    convs = Sequence([Conv(1, 2, [3, 3], name="conv"), BatchNorm2d(2, name="bn")], name="convs")
    return Sequence([convs, Pool2d([2, 2], name="pool"), Fc(18, 4, name="fc"), Softmax(name="softmax")], name="net")


class Net(Sequence):
    """As N2D2's own models: cells are attributes before the constructor of the base."""

    def __init__(self):
        self.depth = 3
        self.convs = Sequence([Conv(1, 2, [3, 3], name="conv"), Conv(2, 2, [3, 3], name="conv2")], name="convs")
        self.head = Fc(2 * 4 * 4, 4, name="fc")
        self.shortcut = Sequence([], name="shortcut")
        Sequence.__init__(self, [self.convs, self.head], name="net")
        self.features = Sequence([self.convs[0]], name="features")
        self.last = self.head
        self.note = "mine"


# ---- cells as attributes


def test_cells_that_are_attributes_are_held_once():
    net, plain = Net(), Sequence(list(Net()))
    assert list(net.state_dict()) == list(plain.state_dict())
    assert len(list(net.parameters())) == 6
    assert [cell.name for cell in net] == ["convs", "fc"]
    assert (net.head, net.convs, net.last, net.depth, net.note) == (net[1], net[0], net[1], 3, "mine")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301 - our own
def test_copies_have_attributes_of_their_own(copied):
    net = Net()
    twin = copied(net)
    assert twin.head is twin[1] is twin.last
    assert twin.convs is twin[0]
    assert twin.features[0] is twin.convs[0]
    assert twin.head is not net.head
    assert len(list(twin.parameters())) == 6
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(twin(x), net(x))


def test_modules_that_are_not_held_are_torchs():
    class Mixed(Sequence):
        def __init__(self):
            self.early = nn.Linear(2, 2)
            super().__init__([Fc(2, 2, name="fc")])
            self.late = Fc(2, 2, name="other")

    net = Mixed()
    assert {name.partition(".")[0] for name in net.state_dict()} == {"fc", "early", "late"}
    assert [cell.name for cell in net] == ["fc"]
    assert not net.test().late.training
    net.late = net.early = Fc(3, 3, name="another")  # torch's own exchange: the order of computation has none of them
    assert net.state_dict()["late.layer.weight"].shape == net.state_dict()["early.layer.weight"].shape == (3, 3)


def test_a_cell_is_not_exchanged_by_its_attribute():
    net = Net()
    for name in ("head", "convs"):
        with pytest.raises(WrongValue, match=f"{name} of 'net' is .* remove.. and insert.. exchange it"):
            setattr(net, name, Fc(1, 1))
    net.head = net[1]
    assert len(net) == 2


# ---- what is set on a container


def test_a_quantizer_is_given_to_each_cell_with_weights():
    net, quantizer = nested(), PruneCell(prune_mode="Static", threshold=0.5, prune_filler="IterNonStruct", delta=1e-6)
    net.quantizer = quantizer
    found = net.quantizers()
    assert list(found) == ["conv", "fc"]
    assert len({id(one) for one in (*found.values(), quantizer)}) == 3
    assert {str(one) for one in found.values()} == {str(quantizer)}
    for name in found:
        assert (net[name].weight == 0).float().mean() == pytest.approx(0.5, abs=0.06)
    net.quantizer = net["fc"].quantizer  # one that is on a cell is copied too
    assert net["conv"].quantizer is not net["fc"].quantizer
    net.quantizer = None
    assert net.quantizers() == {}


HANDED_ON = {
    "solver": (Adam(), {"conv": ("weights_solver", "bias_solver"), "bn": ("scale_solver", "bias_solver")}),
    "bias_solver": (Adam(), {"fc": ("bias_solver",), "bn": ("bias_solver",)}),
    "scale_solver": (Adam(), {"bn": ("scale_solver",)}),
    "filler": (n2d2.filler.He(), {"conv": ("weights_filler", "bias_filler"), "fc": ("weights_filler",)}),
    "weights_filler": (n2d2.filler.He(), {"conv": ("weights_filler",)}),
    "back_propagate": (False, {"conv": ("back_propagate",), "bn": ("back_propagate",), "fc": ("back_propagate",)}),
}


@pytest.mark.parametrize("make", [nested, lambda: Block([nested()]), lambda: Layer([nested()])])
@pytest.mark.parametrize("name", HANDED_ON)
def test_what_is_set_on_a_container_is_set_on_its_cells(make, name):
    value, reached = HANDED_ON[name]
    net = make()
    setattr(net, name, value)
    for cell, options in reached.items():
        for option in options:
            assert type(getattr(net[cell], option)) is type(value), (cell, option)
            assert value is not False or getattr(net[cell], option) is False
    with pytest.raises(AttributeError, match=f"{name} belongs to the cells"):
        getattr(net, name)


@pytest.mark.parametrize(
    "make", [nested, lambda: Block([nested()]), lambda: Layer([nested()]), lambda: nested().to_deepnet_cell()]
)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshhold", 1, "'threshold' is a parameter of a PruneCell: quantizer=PruneCell"),
        ("quantiser", PruneCell(), "quantiser cannot be set on a .*did you mean 'quantizer'"),
        ("learning_rate", 1, "learning_rate cannot be set"),
        ("quantizer", 1, "quantizer=1 is illegal: it must be a PruneCell or None"),
        ("solver", "SGD", "weights_solver='SGD' is illegal"),
        ("back_propagate", "no", "back_propagate='no' is illegal"),
    ],
)
def test_what_nothing_takes_is_refused_and_changes_nothing(make, name, value, message):
    net = make()
    before = str(net)
    with pytest.raises((ValueError, TypeError), match=message):
        setattr(net, name, value)
    assert str(net) == before


def test_a_container_without_takers_refuses():
    for name, value in {
        "quantizer": PruneCell(),
        "solver": SGD(),
        "filler": n2d2.filler.He(),
        "back_propagate": True,
    }.items():
        with pytest.raises(UndefinedParameterError, match="no cell in it has such"):
            setattr(Sequence([Softmax()]), name, value)


def test_a_subclass_keeps_attributes_of_its_own():
    net = Net()
    net.threshhold, net.solvers, net.template = 1, [SGD()], PruneCell()
    assert (net.threshhold, len(net.solvers), type(net.template)) == (1, 1, PruneCell)
    with pytest.raises(UndefinedParameterError, match="quantiser of 'net' prunes nothing; did you mean 'quantizer'"):
        net.quantiser = PruneCell()
    with pytest.raises(AttributeError, match="Net has no attribute 'heads'; did you mean 'head'"):
        _ = net.heads


# ---- what it holds


def test_what_is_in_a_container():
    net = nested()
    assert list(net.get_cells()) == ["convs", "conv", "bn", "pool", "fc", "softmax"]
    assert [name for name, _ in net.items()] == ["convs", "pool", "fc", "softmax"]
    assert net["bn"] is net[0][1] is net.get_cell("bn")
    assert [cell.name for cell in net[1:]] == ["pool", "fc", "softmax"]
    assert (net[-1].name, net.index("fc"), net.index(net[1])) == ("softmax", 2, 1)
    assert all(one in net for one in ("bn", "convs", net["bn"], net[0]))
    assert "other" not in net
    assert Fc(1, 1) not in net
    assert net.is_integral() is False
    assert Sequence([Softmax()]).is_integral() is True


@pytest.mark.parametrize("which", [4, -5, "other", "con"])
def test_what_is_not_in_a_container_is_an_index_and_a_key_error(which):
    for kind in (IndexError, KeyError):
        with pytest.raises(kind, match="'net' has no cell") as error:
            nested()[which]
    assert str(error.value).startswith("'net' has no cell")  # without quotes around it


def test_places_of_modules_are_those_of_the_cells():
    net = Sequence([Fc(2, 2, name="a"), Fc(2, 2, name="c")])
    net.insert(1, Fc(2, 2, name="b"))
    net.insert(99, Fc(2, 2, name="d"))
    assert [cell.name for cell in net] == ["a", "b", "c", "d"] == [name for name, _ in net.named_children()]


def test_two_cells_of_one_name_have_no_files(tmp_path):
    net = Sequence([Sequence([Fc(2, 2, name="a")]), Sequence([Fc(2, 2, name="a")])], name="net")
    with pytest.raises(WrongValue, match="two cells of 'net' are called 'a'"):
        net.export_free_parameters(tmp_path)
    net.set_solver(Adam())
    assert all(type(one[0].weights_solver) is Adam for one in net)


def test_files_are_told_unless_somebody_asks_for_silence(tmp_path, capsys):
    net = nested()
    net.export_free_parameters(tmp_path, verbose=False)
    assert capsys.readouterr().out == ""
    net.export_free_parameters(tmp_path)
    assert capsys.readouterr().out == f"net: parameters are in {tmp_path}\n"


# ---- layers


def test_a_shortcut_passes_its_input_on():
    main = Conv(4, 4, [3, 3], padding_dims=[1, 1])
    net = Sequence([Layer([main, Sequence([])], mapping=[[1, 1]]), ElemWise(operation="Sum")])
    x = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(net(x), main(x) + x)
    made = net(n2d2.Tensor.from_torch(x))
    torch.testing.assert_close(made.values, main(x) + x)
    assert isinstance(net[0](n2d2.Tensor.from_torch(x)), n2d2.Interface)


def test_a_mapping_says_which_cell_sees_which_input():
    one, two = n2d2.Tensor([2, 1, 4, 4], value=1), n2d2.Tensor([2, 2, 4, 4], value=2)
    layer = Layer([Conv(1, 3, [1, 1]), Conv(3, 5, [1, 1]), Sequence([])], mapping=[[1, 1, 0], [0, 1, 1]])
    made = layer(n2d2.Interface([one, two]))
    assert [tensor.dimZ() for tensor in made] == [3, 5, 2]
    assert made.dimZ() == 10
    assert made[2] is two
    assert layer(one, two)[0] == made[0]


# ---- what is refused

REFUSALS = {
    "a cell": (lambda: Sequence(Fc(1, 1)), "cells=.* is illegal: it must be a list of cells"),
    "a text": (lambda: Sequence("fc"), "cells='fc' is illegal"),
    "a number": (lambda: Layer([1]), "takes cells, not a int"),
    "a torch module": (lambda: Sequence([nn.Linear(1, 1)]), "takes cells, not a Linear"),
    "name": (lambda: Sequence([], 3), "name=3 is illegal"),
    "too many": (lambda: Sequence([], "a", 3), "3 by their place are too many"),
    "unknown": (lambda: Sequence([], names="a"), "Sequence has no parameter 'names'; did you mean 'name'"),
    "twice": (lambda: Sequence([Fc(1, 1, name="a"), Fc(1, 1, name="a")]), "names must differ"),
    "one cell twice": (lambda: Sequence([one := Fc(1, 1), one]), "make another cell for another place"),
    "no order": (lambda: Block([Fc(1, 1)])(torch.zeros(1, 1)), "has no order of computation"),
    "no input": (nested(), "takes n2d2.Tensors, or torch tensors, one at least"),
    "wrong input": (lambda: nested()("x"), "takes n2d2.Tensors, or torch tensors, not a str"),
    "array": (lambda: nested()(torch.zeros(1).numpy()), "not a ndarray"),
    "index": (lambda: nested()[1.5], "1.5 is illegal as a place in 'net'"),
    "insert": (lambda: nested().insert("a", Fc(1, 1)), "index='a' is illegal"),
    "insert before": (lambda: nested().insert(-1, Fc(1, 1)), "index=-1 is illegal"),
    "insert nothing": (lambda: nested().insert(1), "cell is missing; it is insert"),
    "append": (lambda: nested().append(3), "'net' takes cells, not a int"),
    "remove": (lambda: nested().remove("softmx"), "'net' has no cell 'softmx'; did you mean 'softmax'"),
    "index of": (lambda: nested().index(Fc(1, 1, name="z")), "'net' has no cell 'z'"),
    "mapping": (lambda: Layer([Fc(1, 1)], mapping=3), "mapping=3 is illegal"),
    "mapping of 2": (lambda: Layer([Fc(1, 1)], mapping=[[2]]), "its values must be 0 or 1"),
    "mapping of cells": (lambda: Layer([Fc(1, 1)], mapping=[[1, 1]]), "must be 1 rows .inputs. of 1 cells"),
    "mapping of inputs": (lambda: Layer([Fc(1, 1)], mapping=[[1], [1]])(torch.zeros(1, 1)), "must be 1 rows"),
    "mapping of none": (lambda: Layer([Fc(1, 1)], mapping=[[0]])(torch.zeros(1, 1)), "sees no input"),
    "no provider": (
        lambda: Sequence([Layer([Fc(1, 1)], name="both")]).to_deepnet_cell(),
        "needs a provider: what 'both'",
    ),
    "a provider": (lambda: nested().to_deepnet_cell(3), "provider=3 is illegal"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_illegal_is_refused_by_name(case):
    call, message = REFUSALS[case]
    with pytest.raises((WrongInputType, WrongValue, UndefinedParameterError, ImplementationError), match=message):
        call()


@pytest.mark.parametrize("make", [lambda: Sequence([Fc(2, 2)]), lambda: Layer([Fc(2, 2)]), lambda: Block([Fc(2, 2)])])
def test_a_container_is_a_cell_but_computes_by_others(make):
    container, cell = make(), Fc(2, 2)
    assert isinstance(container, n2d2.cells.Cell)
    assert issubclass(type(container), n2d2.cells.Cell)
    assert not isinstance(container, n2d2.cells.NeuralNetworkCell)
    assert isinstance(cell, n2d2.cells.Cell)
    assert isinstance(cell, n2d2.cells.NeuralNetworkCell)
    assert not isinstance(torch.nn.Linear(2, 2), n2d2.cells.Cell)


def test_who_inherits_cell_makes_one_that_computes():
    class Twice(n2d2.cells.Cell):
        def forward(self, x):
            return 2 * x

    one = Twice(name="twice")
    assert not isinstance(Fc(2, 2), Twice)
    assert not isinstance(Sequence(), Twice)
    assert Sequence([one])(n2d2.Tensor([1, 2, 1, 1], value=3))[0] == 6
    with pytest.raises(WrongInputType, match=r"^Cell is what cells share: .* or a Sequence of cells"):
        n2d2.cells.Cell()
