import copy
import io
import math
import pickle

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import n2d2
import prunecell as pc
from n2d2.activation import Rectifier
from n2d2.cells import (
    Activation,
    BatchNorm2d,
    Block,
    Cell,
    Conv,
    ConvDepthWise,
    ConvPointWise,
    Deconv,
    DeepNetCell,
    Dropout,
    ElemWise,
    Fc,
    Layer,
    Padding,
    Pool,
    Pool2d,
    PoolGlobal2d,
    Reshape,
    Sequence,
    Softmax,
    Transpose,
)
from n2d2.cells.mapping import grouped
from n2d2.error_handler import UndefinedParameterError, WrongInputType, WrongValue
from n2d2.summary import summarize

X = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))


def small():
    torch.manual_seed(0)
    return Sequence(
        [
            Conv(4, 6, [3, 3], name="conv", activation=Rectifier()),
            Pool2d([2, 2], stride_dims=[2, 2], name="pool"),
            Fc(6 * 3 * 2, 5, name="fc"),
            Softmax(with_loss=True, name="softmax"),
        ]
    )


# ---- what each computes


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_convolutions_are_torchs_in_n2d2s_order(n_dims):
    kernel, stride, padding, dilation = [3, 2, 1][:n_dims], [2, 1, 1][:n_dims], [1, 0, 2][:n_dims], [1, 2, 1][:n_dims]
    cell = Conv(3, 5, kernel, stride_dims=stride, padding_dims=padding, dilation_dims=dilation)
    x = torch.randn(2, 3, *[7, 8, 9][:n_dims])
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[n_dims]
    expected = convolve(x, cell.weight, cell.bias, stride[::-1], padding[::-1], dilation[::-1])
    assert cell.weight.shape == (5, 3, *kernel[::-1])
    torch.testing.assert_close(cell(x), expected)


def test_one_number_stands_for_all_dims_and_sub_sampling_multiplies_the_stride():
    cell = Conv(4, 2, [3, 3], padding_dims=1, stride_dims=2, sub_sample_dims=2)
    assert cell(X).shape == (2, 2, 2, 2)
    assert cell.padding_dims == [1, 1]


def test_deconv_is_torchs():
    cell = Deconv(4, 3, [2, 3], stride_dims=[2, 1])
    torch.testing.assert_close(cell(X), F.conv_transpose2d(X, cell.weight, cell.bias, (1, 2)))


def test_vectors_are_maps_of_one_point():
    for cell in (Conv(4, 3, [1, 1]), Deconv(4, 3, [2, 2], stride_dims=2)):
        assert torch.equal(cell(X[:, :, 0, 0]), cell(X[:, :, :1, :1]))


def test_depthwise_and_pointwise_are_convs():
    wise, point = ConvDepthWise(4, [3, 3], no_bias=True), ConvPointWise(4, 7)
    assert isinstance(wise, Conv)
    assert isinstance(point, Conv)
    assert wise.weight.shape == (4, 1, 3, 3)
    assert wise.connections is None
    torch.testing.assert_close(wise(X), F.conv2d(X, wise.weight, groups=4))
    assert point(X).shape == (2, 7, 8, 6)


def test_a_regular_mapping_is_groups():
    cell = Conv(4, 6, [3, 3], mapping=grouped(4, 6, 2))
    assert cell.weight.shape == (6, 2, 3, 3)
    assert cell.connections is None


@pytest.mark.parametrize("kind", [Conv, Deconv])
def test_what_a_mapping_does_not_connect_is_zero_and_stays_zero(kind):
    mapping = n2d2.Tensor([4, 3], datatype="bool").set_values([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 1]])
    cell = kind(4, 3, [3, 3], mapping=mapping, solver=n2d2.solver.SGD(momentum=0.9, decay=0.1), no_bias=True)
    for one in (cell, copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):  # noqa: S301 - our own bytes
        for _ in range(3):
            one(X).square().sum().backward()
            one.update()
        assert (one.weight[~one.connections] == 0).all()
        assert (one.weight[one.connections] != 0).all()
    for channel, output in np.argwhere(mapping.to_numpy() == 0):
        x = torch.zeros_like(X)
        x[:, channel] = 1
        assert (cell(x)[:, output] == 0).all()
    assert "layer.connections" not in cell.state_dict()


def test_fc_flattens():
    cell = Fc(4 * 8 * 6, 5)
    torch.testing.assert_close(cell(X), F.linear(X.flatten(1), cell.weight, cell.bias))


def test_several_inputs_are_joined_along_the_channels():
    cell = Conv(8, 3, [1, 1], nb_input_cells=2)
    torch.testing.assert_close(cell(X, 2 * X), cell(torch.cat([X, 2 * X], 1)))
    torch.testing.assert_close(cell([X, 2 * X]), cell(X, 2 * X))


def test_pooling():
    torch.testing.assert_close(Pool2d([3, 2], stride_dims=[3, 1])(X), F.max_pool2d(X, (2, 3), (1, 3)))
    torch.testing.assert_close(Pool2d([2, 2], pooling="Average", padding_dims=1)(X), F.avg_pool2d(X, 2, 1, 1))
    torch.testing.assert_close(PoolGlobal2d(pooling="Average")(X), X.mean((2, 3), keepdim=True))
    assert Pool2d([2])(X[0]).shape == (4, 8, 5)


@pytest.mark.parametrize(("pooling", "over"), [("Max", torch.maximum), ("Average", lambda a, b: (a + b) / 2)])
def test_pooling_over_the_channels_of_a_mapping(pooling, over):
    mapping = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]
    pooled = Pool2d([2, 2], pooling=pooling)(X)
    out = Pool([2, 2], pooling=pooling, mapping=mapping)(X)
    torch.testing.assert_close(out, torch.stack([over(pooled[:, 0], pooled[:, 1]), pooled[:, 1], pooled[:, 2]], 1))
    identity = Pool([2, 2], pooling=pooling, mapping=np.eye(4))
    torch.testing.assert_close(identity(X), pooled)
    with pytest.warns(UserWarning, match=r"has no mapping: .* pools over all channels; a Pool2d") as caught:
        everything = Pool([2, 2], pooling=pooling)
    assert caught[0].filename == __file__
    of_all = Pool([2, 2], pooling=pooling, mapping=np.ones((4, 4)))
    torch.testing.assert_close(everything(X), of_all(X))
    assert (everything(X) == everything(X)[:, :1]).all()


@pytest.mark.parametrize("variance", [1.0, 2.0])
def test_variances_that_are_read_go_on_when_the_cell_learns(tmp_path, variance):
    written, read = BatchNorm2d(4, name="bn"), BatchNorm2d(4, name="bn")
    written.layer.running_var.fill_(variance)
    written.export_free_parameters(tmp_path, verbose=False)
    read.import_free_parameters(tmp_path)
    read(X)
    expected = 0.9 * variance + 0.1 * X.var((0, 2, 3))
    torch.testing.assert_close(read.layer.running_var, expected)


@pytest.mark.parametrize("size", [(1, 4), (1, 4, 1, 1)])
def test_one_value_per_channel_is_normalized_by_what_runs(size):
    cell, x = BatchNorm2d(4), torch.randn(size)
    cell(X)
    before = cell.layer.running_var.clone()
    torch.testing.assert_close(cell(x), copy.deepcopy(cell).eval()(x))
    assert (cell.layer.running_var == before).all()


def test_batch_norm_is_torchs_for_maps_and_vectors():
    cell, reference = BatchNorm2d(4), nn.BatchNorm2d(4)
    torch.testing.assert_close(cell.eval()(X), reference.eval()(X))
    for _ in range(3):
        torch.testing.assert_close(cell.train()(X), reference.train()(X))
        torch.testing.assert_close(cell.layer.running_var, reference.running_var)
    torch.testing.assert_close(cell.eval()(X), reference.eval()(X))
    flat = X[:, :, 0, 0]
    assert cell(flat).shape == flat.shape
    assert cell(X[:, :, 0]).shape == (2, 4, 6)


def test_dropout_draws_only_while_learning():
    cell = Dropout(dropout=0.5)
    assert (cell.learn()(torch.ones(1000)) == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(cell.test()(X), X)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, X + X.abs()),
        ({"operation": "Sum", "weights": [2.0, -1.0], "shifts": 1.0}, 2 * X - X.abs() + 2),
        ({"operation": "Prod"}, X * X.abs()),
        ({"operation": "Max"}, X.abs()),
        ({"operation": "AbsSum"}, 2 * X.abs()),
        ({"operation": "EuclideanSum"}, math.sqrt(2) * X.abs()),
        ({"operation": "Sum", "activation": Rectifier()}, (X + X.abs()).relu()),
    ],
)
def test_elementwise_operations(options, expected):
    torch.testing.assert_close(ElemWise(**options)(X, X.abs()), expected)


def test_elementwise_takes_vectors_beside_maps():
    vector = X.mean((2, 3))
    torch.testing.assert_close(ElemWise(operation="Prod")(X, vector), X * vector[:, :, None, None])


def test_softmax():
    x = X[:, :, 0, 0]
    torch.testing.assert_close(Softmax()(x), x.softmax(1))
    torch.testing.assert_close(Softmax(group_size=2)(X)[:, :2], X[:, :2].softmax(1))
    with_loss = Softmax(with_loss=True)
    assert with_loss.learn()(x) is x
    torch.testing.assert_close(with_loss.test()(x), x.softmax(1))


def test_an_n2d2_softmax_with_loss_gives_probabilities_once():
    x = n2d2.Tensor.from_torch(X[:, :, 0, 0])
    cell = Softmax(with_loss=True)
    once = cell(x)
    torch.testing.assert_close(once.values[:, :, 0, 0], x.values.softmax(1))
    assert cell(once) is once


def test_changes_of_shape():
    assert Padding(1, 2, 3, 4)(X).shape == (2, 4, 11, 13)
    torch.testing.assert_close(Padding(-1, 0, 0, 0)(X), X[:, :, 1:])
    assert Reshape([6, -1])(X).shape == (2, 32, 6)
    torch.testing.assert_close(Transpose([1, 0, 2, 3])(X), X.transpose(2, 3))
    torch.testing.assert_close(Transpose([2, 1, 0, 3])(X), X.transpose(1, 3))
    torch.testing.assert_close(Activation(Rectifier())(X), X.relu())


def test_back_propagate_stops_gradients_to_inputs_alone():
    x = X.clone().requires_grad_()
    cell = Conv(4, 2, [3, 3], back_propagate=False)
    cell(x).sum().backward()
    assert x.grad is None
    assert cell.weight.grad.any()


# ---- names, options, printing, errors


def test_default_names_count_per_class():
    first, second, other = Conv(1, 1, [1, 1]), Conv(1, 1, [1, 1]), Fc(1, 1)
    assert first.get_name().startswith("Conv_")
    assert int(second.name.split("_")[1]) == int(first.name.split("_")[1]) + 1
    assert other.name.startswith("Fc_")
    assert n2d2.cells.nn.Conv is n2d2.cells.Conv


def test_printing_follows_verbosity(monkeypatch):
    cell = Conv(4, 6, [3, 3], name="conv", stride_dims=2)
    assert str(cell).startswith("Conv('conv', nb_inputs=4, nb_outputs=6, kernel_dims=[3, 3])(activation=Linear(), ")
    assert "stride_dims=[2, 2]" in str(cell)
    cell.quantizer = n2d2.quantizer.PruneCell(prune_mode="Static")
    assert str(cell).endswith(", quantizer=PruneCell(prune_mode=Static))")
    monkeypatch.setattr(n2d2.global_variables, "verbosity", n2d2.global_variables.Verbosity.short)
    assert str(cell) == "Conv('conv', nb_inputs=4, nb_outputs=6, kernel_dims=[3, 3])"
    assert str(Sequence([cell], name="net")) == f"Sequence('net')(\n\t{cell}\n)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(4, 6, [3, 3], stride_dim=2), "Conv has no parameter 'stride_dim'; did you mean 'stride_dims'"),
        (lambda: Conv(4, 6, [3, 3], stride_dims=[1, 2, 3]), r"stride_dims=\[1, 2, 3\] is illegal: it must be 2 whole"),
        (lambda: Conv(4, 6, [3, 0]), "kernel_dims=0 is illegal"),
        (lambda: Conv(0, 6, [3, 3]), "nb_inputs=0 is illegal"),
        (lambda: Conv(4, 6, [3, 3], mapping=np.ones((6, 4))), r"must be nb_inputs x nb_outputs, \(4, 6\)"),
        (lambda: Conv(1, 1, [3, 3], mapping=[[2]]), "mapping is illegal: its values must be 0 or 1"),
        (lambda: Pool([2, 2], pooling="Maximum"), "pooling='Maximum' is illegal"),
        (lambda: Pool([2, 2], mapping=[[1, 0], [1, 0]]), "every output of a Pool must see"),
        (lambda: Dropout(dropout=1.5), "dropout=1.5 is illegal"),
        (lambda: ElemWise(operation="Add"), "operation='Add' is illegal"),
        (lambda: ElemWise(weights=[1.0, 2.0, 3.0])(X, X), "has 2 inputs"),
        (lambda: Transpose([0, 0, 1, 2]), "must hold 0 to 3 once each"),
        (lambda: Fc(4, 2, no_bias=True).get_biases(), "no biases"),
        (lambda: grouped(4, 6, 4), "groups=4 is illegal"),
    ],
)
def test_illegal_arguments_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ElemWise(weights="aa"), "weights='aa' is illegal"),
        (lambda: ElemWise(shifts=[1.0, "a"]), "shifts='a' is illegal"),
        (lambda: BatchNorm2d(1, epsilon="a"), "epsilon='a' is illegal"),
        (lambda: Reshape(1), "dims=1 is illegal"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_by_name(make, message):
    with pytest.raises(WrongInputType, match=message):
        make()


def test_kernel_dims_is_a_list_or_a_tuple():
    assert Conv(1, 1, (3, 3)).kernel_dims == [3, 3]
    with pytest.raises(WrongInputType, match="kernel_dims=3 is illegal"):
        Conv(1, 1, 3)


def test_slips_of_the_pen_in_attributes_are_refused():
    cell = Conv(1, 1, [3, 3])
    with pytest.raises(UndefinedParameterError, match="no attribute 'quantiser'; did you mean 'quantizer'"):
        cell.quantiser = n2d2.quantizer.PruneCell()
    with pytest.raises(AttributeError, match="did you mean 'stride_dims'"):
        cell.stride_dim  # noqa: B018 - reading it is the test
    with pytest.raises(UndefinedParameterError, match=r"stride_dims of .* cannot change"):
        cell.stride_dims = [2, 2]
    cell.my_own = 1
    assert cell.my_own == 1


def test_weights_by_index():
    cell = Conv(2, 3, [2, 2], no_bias=False)
    cell.set_weight(1, 0, n2d2.Tensor([2, 2], value=5))
    assert (cell.weight[1, 0] == 5).all()
    assert cell.get_weight(1, 0) == n2d2.Tensor([2, 2], value=5)
    cell.set_bias(2, [7])
    assert cell.get_bias(2)[0] == 7
    assert (cell.get_nb_outputs(), cell.get_nb_channels()) == (3, 2)


def test_solvers_and_freezing():
    cell = Fc(2, 2)
    sgd, adam = n2d2.solver.SGD(), n2d2.solver.Adam()
    cell.set_solver(sgd)
    cell.bias_solver = adam
    assert list(cell.solvers().values()) == [sgd, adam]
    cell.freeze()
    assert cell.solvers() == {}
    cell.update()


def test_one_parameter_of_all_solvers():
    for cell in (Conv(1, 1, [1, 1]), BatchNorm2d(1)):
        cell.set_solver_parameter("learning_rate_policy", "CosineDecay")
        with pytest.raises(WrongValue, match="max_iterations=0 is illegal"):
            cell.step()
        cell.set_solver_parameter("max_iterations", 10)
        cell.step()
        assert {solver.learning_rate_policy for solver in cell.solvers().values()} == {"CosineDecay"}
        with pytest.raises(WrongValue, match="momentum=2 is illegal"):
            cell.set_solver_parameter("momentum", 2)
        with pytest.raises(UndefinedParameterError, match="'moment'; did you mean 'momentum'"):
            cell.set_solver_parameter("moment", 0.5)


# ---- as a torch module


def test_cells_are_plain_modules():
    net = small()
    assert list(net.state_dict()) == ["conv.layer.weight", "conv.layer.bias", "fc.layer.weight", "fc.layer.bias"]
    assert torch.equal(copy.deepcopy(net)(X), net(X))
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), net(X))
    net(n2d2.Tensor.from_torch(X))
    copy.deepcopy(net)  # what get_outputs() remembers is no hindrance


def test_the_engine_prunes_compiles_and_exports_them():
    net = small().test()
    pruner = pc.Pruner(net, pc.PruneSpec(schedule=pc.Static(sparsity=0.5)))
    assert set(pruner.masks) == {"conv.layer.weight", "fc.layer.weight"}
    expected = net(X)
    torch.testing.assert_close(torch.export.export(net, (X,)).module()(X), expected)
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(X), expected)


def test_double_precision(monkeypatch):
    monkeypatch.setattr(n2d2.global_variables, "default_datatype", "double")
    assert Fc(2, 2).weight.dtype == torch.float64


# ---- containers


def test_sequence_iteration_is_one_level_deep_and_get_cells_all_the_way():
    inner = Sequence([Fc(3, 3, name="a"), Fc(3, 3, name="b")], name="inner")
    net = Sequence([inner, Fc(3, 2, name="c")])
    assert [item.name for item in net] == ["inner", "c"]
    assert list(net.get_cells()) == ["inner", "a", "b", "c"]
    assert net["b"] is inner[1] is net[0]["b"]
    assert net[-1].name == "c"
    assert [cell.name for cell in net[0:2]] == ["inner", "c"]
    assert len(net) == 2
    assert "a" in net
    assert inner in net
    assert isinstance(net, Block)
    with pytest.raises(UndefinedParameterError, match="has no cell 'd'"):
        net["d"]


def test_a_cell_that_did_not_take_part_is_not_updated():
    x, one, two = n2d2.Tensor.from_torch(torch.ones(2, 3)), Fc(3, 1), Fc(3, 1)
    first, _ = one(x), two(x)
    assert first.trace.cells == (one,)


def test_unnamed_containers_can_be_nested():
    inner = [Sequence([Fc(3, 3)]), Sequence([Fc(3, 2)])]
    assert Sequence(inner)(torch.zeros(1, 3)).shape == (1, 2)


def test_cells_can_be_put_in_and_taken_out():
    net = Sequence([Fc(3, 3, name="a")])
    net.append(Fc(3, 3, name="c"))
    net.insert(1, Fc(3, 3, name="b"))
    assert [cell.name for cell in net] == ["a", "b", "c"]
    assert net.index(net["b"]) == 1
    net.remove("b")
    net.remove(net["c"])
    assert [cell.name for cell in net] == ["a"]
    with pytest.raises(WrongValue, match="has a cell 'a' already"):
        net.append(Fc(3, 3, name="a"))
    assert [cell.name for cell in net] == ["a"]
    with pytest.raises(UndefinedParameterError, match="has no cell 'z'"):
        net.remove("z")
    with pytest.raises(WrongInputType, match="takes cells, not a Linear"):
        net.append(nn.Linear(3, 3))


@pytest.mark.parametrize("name", ["test", "training", "conv1.1", "name", "forward"])
def test_any_name_will_do(name):
    net = Sequence([Fc(3, 3, name=name), Fc(3, 2, name="last")])
    assert net(torch.zeros(1, 3)).shape == (1, 2)
    assert net[name] is net[0]
    assert net.test() is net
    assert copy.deepcopy(net)[name].name == name


def test_layers_are_side_by_side():
    net = Sequence([Layer([Conv(4, 2, [1, 1]), Sequence([Conv(4, 3, [1, 1])])]), Conv(5, 1, [1, 1])])
    assert net(X).shape == (2, 1, 8, 6)
    assert net(n2d2.Tensor.from_torch(X)).shape() == [2, 1, 8, 6]
    mapped = Layer([Conv(4, 2, [1, 1]), Conv(8, 2, [1, 1])], mapping=[[1, 1], [0, 1]])
    assert [y.shape[1] for y in mapped([X, X])] == [2, 2]


def test_switches_and_solvers_reach_all_cells():
    net = small()
    assert not any(cell.training for cell in net.test())
    assert all(cell.training for cell in net.learn())
    adam = n2d2.solver.Adam()
    net.set_solver(adam)
    assert net["fc"].bias_solver == adam
    net.set_back_propagate(False)
    assert not net["conv"].back_propagate


def test_the_outputs_of_a_cell():
    net = small()
    assert net["fc"].get_outputs().shape() == [0]
    net(n2d2.Tensor.from_torch(X))
    assert net["fc"].get_outputs().shape() == [2, 5, 1, 1]


def test_testing_keeps_no_gradients():
    assert small().test()(n2d2.Tensor.from_torch(X)).values.requires_grad is False


# ---- graphs


def diamond():
    cells = [Fc(4, 3, name="left"), Fc(4, 3, name="right"), ElemWise(name="sum"), Fc(3, 2, name="head")]
    inputs = {"head": ["sum"], "sum": ["left", "right"], "left": ["sp"], "right": ["sp"]}
    return DeepNetCell(cells, inputs)


def test_a_graph_computes_in_order():
    net, x = diamond(), torch.randn(5, 4)
    torch.testing.assert_close(net(x), net["head"](net["left"](x) + net["right"](x)))
    assert [cell.name for cell in net][2:] == ["sum", "head"]
    assert net.outputs == ["head"]
    net.outputs = ["sum", "head"]
    assert [y.shape[1] for y in net(x)] == [3, 2]
    assert list(net(n2d2.Tensor.from_torch(x))[1].trace.cells) == list(net)
    assert torch.equal(copy.deepcopy(net)(x)[1], net(x)[1])


def test_a_cell_taken_out_of_a_graph_leaves_its_inputs_to_those_behind_it():
    net, x = diamond(), torch.randn(5, 4)
    net.remove("left")
    assert net.inputs["sum"] == ["sp", "right"]
    net = diamond()
    with pytest.raises(WrongValue, match="reconnect=False is illegal: 'sum' feeds head"):
        net.remove("sum", reconnect=False)
    net.remove("head", reconnect=False)
    assert (net.outputs, len(net)) == (["sum"], 3)
    assert torch.equal(net(x), net["left"](x) + net["right"](x))
    with pytest.raises(UndefinedParameterError, match="no cell 'head'"):
        net.remove("head")


def test_graphs_that_cannot_compute_are_refused():
    with pytest.raises(WrongValue, match=r"these cells feed each other: .*a.* -> "):
        DeepNetCell([Fc(1, 1, name="a"), Fc(1, 1, name="b")], {"a": ["b"], "b": ["a"]})
    with pytest.raises(WrongValue, match="cell 'a' has no inputs"):
        DeepNetCell([Fc(1, 1, name="a")], {})


def test_a_sequence_becomes_a_graph():
    net = small()
    graph = net.to_deepnet_cell()
    assert torch.equal(graph(X), net(X))
    assert graph["conv"] is net["conv"]


def test_fit_needs_a_provider():
    with pytest.raises(WrongValue, match="has no provider"):
        diamond().fit(1)
    with pytest.raises(UndefinedParameterError, match="fit has no parameter 'epochs'; did you mean 'log_epoch'"):
        diamond().fit(1, epochs=3)


# ---- summary


def test_summary_counts_what_is_there_and_what_is_kept(capsys):
    table = torch.arange(96).reshape(6, 16) % 8 < 5
    net = Sequence(
        [
            Conv(1, 6, [5, 5], no_bias=True),
            Pool2d([2, 2], stride_dims=[2, 2]),
            Conv(6, 16, [5, 5], mapping=table, no_bias=True),
            Pool2d([2, 2], stride_dims=[2, 2]),
            Conv(16, 120, [5, 5], no_bias=True),
            Fc(120, 84, no_bias=True),
            Fc(84, 10, no_bias=True),
        ]
    )
    for cell in net:
        if isinstance(cell, Conv | Fc):
            cell.quantizer = n2d2.quantizer.PruneCell(
                prune_mode="Static", threshold=0.5, prune_filler="IterNonStruct", delta=1e-6
            )
    summary = summarize(net, [1, 32, 32])
    rows = {row.layer.split("_")[0] + str(i): row for i, row in enumerate(summary.rows)}
    assert rows["Conv2"].parameters == 1500
    assert rows["Conv2"].kept == pytest.approx(750, abs=2)
    assert rows["Conv0"].macs == 150 * 28 * 28
    assert rows["Conv2"].macs == 1500 * 10 * 10
    assert rows["Conv2"].inputs == (net[1].name,)
    assert rows["Conv4"].shape == (120, 1, 1)
    total = 150 + 1500 + 48000 + 10080 + 840
    assert f"Total parameters: {total:,}" in str(summary)
    assert net.training
    assert summarize(net).rows[0].macs is None
    net.summary(input_dims=[32, 32, 1])
    assert capsys.readouterr().out == f"{summary}\n"


# ---- ONNX


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.f = nn.Linear(4 * 4 * 4, 10)

    def forward(self, x):
        y = torch.relu(self.a(x))
        y = F.max_pool2d(y + self.b(y), 2)
        return self.f(y.reshape(-1, 64)).softmax(1)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    import warnings  # noqa: PLC0415

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    net = Branching().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter speaks of its own future
        torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), path, dynamo=False)
    return path, net


def test_onnx_files_become_cells(onnx_file):
    path, reference = onnx_file
    net = DeepNetCell.load_from_ONNX(None, path).test()
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(net(x), reference(x))
    prunable = [cell for cell in net if isinstance(cell, Conv | Fc)]
    assert [type(cell) for cell in prunable] == [Conv, Conv, Fc]
    assert all(isinstance(cell, Cell) for cell in net)
    for cell in prunable:
        cell.quantizer = n2d2.quantizer.PruneCell(prune_mode="Static", threshold=0.5)
        assert cell.quantizer.get_pruned_masks().mean() == pytest.approx(0.5, abs=0.05)


def test_cells_have_the_names_of_the_outputs(onnx_file):
    path, _ = onnx_file
    graph = onnx.load(path).graph
    outputs = [node.output[0] for node in graph.node]
    net = DeepNetCell.load_from_ONNX(None, path)
    assert {cell.name for cell in net} <= set(outputs)
    assert net.outputs == [graph.output[0].name]
    headless = DeepNetCell.load_from_ONNX(None, path, ignore_cells=[outputs[-1]])
    assert headless.outputs == net.inputs[net.outputs[0]]


def test_a_provider_must_have_the_size_of_the_file(onnx_file):
    path, _ = onnx_file
    database = n2d2.database.Database()
    fitting, other = (n2d2.provider.DataProvider(database, [size, size, 1]) for size in (8, 16))
    assert DeepNetCell.load_from_ONNX(fitting, path).provider is fitting
    with pytest.raises(WrongValue, match=r"takes stimuli of \[1, 8, 8\] .* the provider gives \[1, 16, 16\]"):
        DeepNetCell.load_from_ONNX(other, path)
    assert DeepNetCell.load_from_ONNX(other, path, ignore_input_size=True).provider is other


def test_an_ini_file_says_how_an_onnx_file_is_read(onnx_file, tmp_path):
    path, _ = onnx_file
    *_, last = (cell.name for cell in DeepNetCell.load_from_ONNX(None, path))
    ini = tmp_path / "net.ini"
    ini.write_text(
        f"[onnx]\nIgnore={last}\n[onnx:Conv_def]\nSolvers.LearningRate=0.25\nQWeight=Prune\nQWeight.Threshold=0.5\n"
        "QWeight.PruningMode=Static\n"
    )
    net = DeepNetCell.load_from_ONNX(None, path, str(ini))
    assert last not in net
    convs = [cell for cell in net if isinstance(cell, Conv)]
    assert [cell.weights_solver.learning_rate for cell in convs] == [0.25, 0.25]
    assert all(cell.has_quantizer() for cell in convs)
    ini.write_text("[onnx]\nIgnor=a\n")
    with pytest.raises(ValueError, match="did you mean 'Ignore'"):
        DeepNetCell.load_from_ONNX(None, path, str(ini))


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(WrongValue, match=r"bad.onnx cannot be read as a network"):
        DeepNetCell.load_from_ONNX(None, tmp_path / "bad.onnx")
    with pytest.raises(WrongValue, match="is no file"):
        DeepNetCell.load_from_ONNX(None, tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Fc(2, 3), (1, 5)),
        (lambda: Conv(1, 2, [3, 3]), (1, 3, 4, 4)),
        (lambda: Pool2d([3, 3]), (1, 1, 2, 2)),
        (lambda: BatchNorm2d(3), (2, 4, 3, 3)),
        (lambda: Transpose([1, 0, 2, 3]), (1, 2)),
        (lambda: Sequence([Fc(5, 4), Fc(2, 3)]), (1, 5)),
    ],
)
@pytest.mark.parametrize("kind", [lambda x: x, n2d2.Tensor.from_torch])
def test_inputs_that_do_not_fit_are_told_with_the_cell(make, shape, kind):
    with pytest.raises(WrongValue, match=r"^(\w+)\('\1_\d+'.* cannot take an input of \["):
        make()(kind(torch.zeros(shape)))
