"""DeepNetCell and DeepNet: networks as graphs, how they learn and are tested, and what is refused."""

import numpy as np
import pytest
import torch

import n2d2
from n2d2.cells import Block, Conv, DeepNetCell, ElemWise, Fc, Layer, Sequence, Softmax
from n2d2.deepnet import DeepNet
from n2d2.error_handler import ImplementationError, UndefinedItemError, WrongInputType, WrongValue
from n2d2.metrics import METRICS
from n2d2.solver import SGD
from n2d2.target import Score


@pytest.fixture
def provider():
    """Images of 4 x 4; the brightest quarter is the label."""
    random = np.random.default_rng(0)
    database = n2d2.database.Numpy()
    for partition, n in {"Learn": 64, "Validation": 24, "Test": 30}.items():
        labels = np.arange(n) % 4
        images = random.uniform(0, 0.3, (n, 4, 4)).astype(np.float32)
        for image, label in zip(images, labels, strict=True):
            y, x = 2 * (label // 2), 2 * (label % 2)
            image[y : y + 2, x : x + 2] += 0.6
        database.load(list(images), labels.tolist(), partition)
    return n2d2.provider.DataProvider(database, [4, 4, 1], batch_size=8)


@pytest.fixture
def net(provider, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # fit writes its best weights
    torch.manual_seed(0)
    solver = SGD(learning_rate=0.2, momentum=0.9)
    cells = [
        Fc(16, 8, name="fc1", solver=solver),
        Fc(8, 4, name="fc2", solver=solver),
        Softmax(with_loss=True, name="softmax"),
    ]
    return Sequence(cells, name="net").to_deepnet_cell(provider)


def residual(name):
    main = Sequence([Conv(4, 4, [3, 3], padding_dims=[1, 1], name=f"{name}_conv")], name="main")
    both = Layer([main, Sequence([], name="shortcut")], mapping=[[1, 1]], name="structure")
    return Sequence([both, ElemWise(operation="Sum", name=f"{name}_sum")], name=name)


class Own(Block):
    """A user's container, with a way of its own through its cells."""

    def __init__(self):
        self.left, self.right = Conv(1, 4, [3, 3], name="left"), Conv(1, 4, [3, 3], name="right")
        super().__init__([self.left, self.right, ElemWise(operation="Max", name="max")], name="own")

    def __call__(self, x):
        super().__call__(x)
        return self["max"](n2d2.Interface([self.left(x), self.right(x)]))


def test_any_container_becomes_the_graph_that_it_computes(provider):
    net = Sequence([Own(), residual("one"), residual("two"), Fc(16, 4, name="fc")])
    net[0].left.test()
    graph = net.to_deepnet_cell(provider)
    assert graph.inputs == {
        "left": ["sp"],
        "right": ["sp"],
        "max": ["left", "right"],
        "one_conv": ["max"],
        "one_sum": ["one_conv", "max"],
        "two_conv": ["one_sum"],
        "two_sum": ["two_conv", "one_sum"],
        "fc": ["two_sum"],
    }
    assert graph.outputs == ["fc"]
    assert not net[0].left.training
    assert net[0].right.training
    x = n2d2.Tensor.from_torch(torch.rand(2, 1, 4, 4))
    assert graph.test()(x) == net.test()(x)
    assert [cell.name for cell in graph.get_input_cells()] == ["left", "right"]
    assert graph.get_output_cells() == [graph["fc"]]
    assert graph["left"] is net[0].left


def test_a_graph_that_is_traced_leaves_the_last_call_as_it_was(provider):
    net = Sequence([Fc(16, 4, name="fc")])
    made = net(n2d2.Tensor([3, 16]))
    net.to_deepnet_cell(provider)
    assert net[0].get_outputs() == made


def shared():
    fc = Fc(16, 16, name="fc")
    own = Block([fc], name="own")
    own.__class__ = type("Twice", (Block,), {"forward": lambda self, x: self[0](self[0](x))})
    return own


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (shared, "'fc' is called twice"),
        (lambda: Sequence([Sequence([Fc(16, 4, name="a")]), Sequence([Fc(4, 4, name="a")])]), "are called 'a'"),
        (lambda: Sequence([Fc(9, 4, name="fc")], name="net"), r"Fc\('fc'.* cannot take an input of \[1, 1, 4, 4\]"),
        (lambda: Sequence([], name="none"), "'none' must return n2d2.Tensors that its cells made"),
        (lambda: Block([Fc(16, 4)], name="own"), "'own' has no order of computation"),
    ],
)
def test_what_is_no_graph_is_refused(provider, make, message):
    with pytest.raises((WrongValue, WrongInputType, ImplementationError), match=message):
        make().to_deepnet_cell(provider)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, [1, 2, 3]),
        ({"log_epoch": 2}, [2, 3]),
        ({"log_epoch": 0}, [3]),
        ({"log_epoch": 1000, "ban_multi_device": True}, [3]),
        ({"avg_window": 8, "bench": True}, [1, 2, 3]),
        *(({"valid_metric": metric, "stop_valid": 9}, [1, 2, 3]) for metric in METRICS),
    ],
)
def test_what_the_options_of_fit_print(net, capsys, options, epochs):
    net.fit(3, **options)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {epoch} of 3" for epoch in epochs]
    assert all(f"({options.get('valid_metric', 'Sensitivity')}" in line for line in lines)
    assert ("stimuli per second" in lines[0]) == ("bench" in options)


def test_learning_ends_when_the_validation_gets_no_better(net, capsys):
    net.fit(40, stop_valid=2)
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "stopped: 2 validations were no better than the best"
    assert len(lines) < 40
    kept = ["weights_validation" in line for line in lines]
    assert kept[0]
    assert kept[-3:] == [True, False, False]


def test_the_weights_of_the_best_validation_are_written(net, monkeypatch):
    scores = iter([0.5, 0.9, 0.7])
    written = []
    monkeypatch.setattr("n2d2.cells.fitting.average_score", lambda *_: next(scores))
    monkeypatch.setattr(
        DeepNetCell, "export_free_parameters", lambda *_, **__: written.append(net["fc1"].weight.clone())
    )
    net.fit(3)
    assert len(written) == 2
    assert not torch.equal(written[-1], net["fc1"].weight)


def test_the_success_of_the_learning_is_that_of_the_last_stimuli(net, capsys, monkeypatch):
    counted = iter(
        [(0, 0), (2.0, 8), (4.0, 16), (6.0, 24), (8.0, 32), (10.0, 40), (12.0, 48), (20.0, 56), (28.0, 64)][1:]
    )
    monkeypatch.setattr("n2d2.cells.fitting._counted", lambda _: next(counted))
    net.fit(1, avg_window=16)
    assert "success 100.00%" in capsys.readouterr().out


def test_run_test_measures_what_it_is_told(net, provider, capsys):
    net.fit(6)
    assert net.run_test(log=8) > 0.9
    assert net.target.get_confusion_matrix().sum() == 30
    assert "test: 16 of 30, success" in capsys.readouterr().out
    for options, n in [({"nb_test": 11}, 11), ({"test_index": 29}, 1), ({"nb_test": 8}, 8), ({"log_JSON": False}, 30)]:
        net.run_test(**options)
        assert net.target.get_confusion_matrix().sum() == n
    wanted = int(provider.database.indices("Test")[7])
    net.run_test(test_id=wanted, test_index=0)
    assert net.target.get_confusion_matrix()[7 % 4].sum() == 1
    with pytest.warns(UserWarning, match="nb_test=99 is more than there are"):
        net.run_test(nb_test=99)


REFUSALS = {
    "fit: metric": (lambda net: net.fit(1, valid_metric="Recall"), "valid_metric='Recall' is illegal"),
    "fit: kernels": (lambda net: net.fit(1, log_kernels=True), "log_kernels=True of fit is refused: .*export_free"),
    "fit: missing": (lambda net: net.fit(), "learn_epoch is missing; it is fit"),
    "fit: type": (lambda net: net.fit("3"), "learn_epoch='3' is illegal"),
    "fit: window": (lambda net: net.fit(1, avg_window=0), "avg_window=0 is illegal"),
    "fit: bench": (lambda net: net.fit(1, bench="yes"), "bench='yes' is illegal"),
    "test: quantized": (lambda net: net.run_test(qat_sat=True), "qat_sat=True of run_test is refused"),
    "test: rounded": (lambda net: net.run_test(wt_round_mode="RINTF"), "wt_round_mode='RINTF' of run_test is refused"),
    "test: scaled": (
        lambda net: net.run_test(act_scaling_mode="NONE"),
        "act_scaling_mode='NONE' of run_test is refused",
    ),
    "test: unknown": (lambda net: net.run_test(nb_tests=3), "no parameter 'nb_tests'; did you mean 'nb_test'"),
    "test: none": (lambda net: net.run_test(nb_test=0), "nb_test=0 is illegal"),
    "test: index": (lambda net: net.run_test(test_index=30), "partition Test has stimuli 0 to 29"),
    "test: id": (lambda net: net.run_test(test_id=10_000), "partition Test has no such stimulus"),
    "test: both": (lambda net: net.run_test(nb_test=1, test_index=1), "nb_test=1 is illegal beside test_index"),
    "matrix: unmeasured": (lambda net: net.log_confusion_matrix("m"), "partition Test of 'net' was not measured"),
    "matrix: partition": (lambda net: net.log_confusion_matrix("m", "Tests"), "did you mean 'Test'"),
    "success": (lambda net: net.log_success("m", partition="Validation"), "was not measured"),
    "provider": (lambda net: net.set_provider(3), "provider=3 is illegal"),
    "update": (lambda net: net.update(), "needs a batch"),
    "concat": (lambda net: net.concat_to_deepnet(DeepNet()), "concat_to_deepnet is refused"),
    "remove": (lambda net: net.remove("fc3"), "'net' has no cell 'fc3'; did you mean 'fc2'"),
    "made": (lambda net: DeepNetCell(N2D2_object=net), "N2D2_object of DeepNetCell is refused"),
    "made of one": (DeepNetCell, "inputs is missing"),
    "ini: path": (lambda _: DeepNetCell.load_from_INI(None), "path=None is illegal"),
    "ini: missing": (lambda _: DeepNetCell.load_from_INI("no.ini"), "no.ini: there is no such file"),
    "onnx: path": (lambda _: DeepNetCell.load_from_ONNX(None, 3), "model_path=3 is illegal"),
    "onnx: none": (lambda net: DeepNetCell.load_from_ONNX(net.provider), "model_path is missing"),
    "onnx: provider": (lambda _: DeepNetCell.load_from_ONNX("a.onnx", "b"), "provider='a.onnx' is illegal"),
    "onnx: ignore": (lambda _: DeepNetCell.load_from_ONNX(None, "a", ignore_cells="b"), "ignore_cells='b' is illegal"),
    "graph: C++": (lambda net: net.get_deepnet().N2D2(), "N2D2 is refused"),
    "graph: loss": (lambda net: net.get_deepnet().back_propagate(), "needs a loss"),
    "graph: remove": (lambda net: net.get_deepnet().remove("fc3"), "'net' has no cell 'fc3'"),
    "graph: name": (lambda _: DeepNet(3), "name=3 is illegal"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_illegal_is_refused_by_name(net, case):
    call, message = REFUSALS[case]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        call(net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_provider_without_data_builds_a_network_that_cannot_learn():
    provider = n2d2.provider.DataProvider(n2d2.database.Database(), [4, 4, 1])
    net = Sequence([Fc(16, 4), Fc(4, 2)]).to_deepnet_cell(provider)
    net.remove(net[1].get_name(), reconnect=True)
    with pytest.raises(WrongValue, match="is empty: there is nothing to learn from"):
        net.fit(1)
    with pytest.raises(WrongValue, match="test partition has no stimuli"):
        net.run_test()
    with pytest.raises(WrongValue, match="it is the last cell"):
        net.remove(net[0].name)


def test_another_provider_is_read_and_compared_with(net, provider):
    net.run_test()
    other = n2d2.provider.DataProvider(provider.database, [4, 4, 1], batch_size=5)
    net.set_provider(other)
    assert net.get_deepnet().get_provider() is other
    assert net.target.provider is other
    net.run_test()
    net.get_deepnet().set_provider(provider)
    assert net.provider is provider


def test_what_was_measured_is_drawn(net, provider, tmp_path):
    net.run_test()
    provider.set_partition("Learn")
    net.log_confusion_matrix("matrix")
    net.log_success("success")
    pictures = [path.name.lower() for path in tmp_path.rglob("*.png")]
    assert any("success" in name for name in pictures)
    assert any("matrix" in name for name in pictures)
    assert provider.get_partition() == "Learn"


def test_update_is_that_of_all_cells(net, provider):
    before = net["fc1"].weight.clone()
    target = Score(provider)
    provider.set_partition("Learn")
    target(net.learn()(provider.read_random_batch())).back_propagate()
    net.update()
    assert not torch.equal(before, net["fc1"].weight)


def test_summary_hides_normalizations_but_counts_them(provider, capsys):
    norm = n2d2.cells.BatchNorm2d(4, name="bn")
    net = Sequence([Conv(1, 4, [3, 3], name="conv"), norm, Fc(16, 2, name="fc")]).to_deepnet_cell(provider)
    net.summary()
    short = capsys.readouterr().out
    net.summary(verbose=True)
    whole = capsys.readouterr().out
    assert "bn" not in short
    assert "bn (BatchNorm2d)" in whole
    assert short.splitlines()[-3:] == whole.splitlines()[-3:]
    assert next(line for line in short.splitlines() if line.startswith("fc")).split()[-1] == "conv"


# ---- DeepNet


def test_the_graph_of_a_tensor(provider, tmp_path):
    one, two, both = Fc(16, 4, name="one"), Fc(16, 4, name="two"), ElemWise(operation="Sum", name="sum")
    provider.set_partition("Learn")
    x = provider.read_random_batch()
    loss = Score(provider)(both(one(x), two(x)))
    graph = loss.get_deepnet()
    assert list(graph.get_cells()) == ["one", "two", "sum"]
    assert graph.get_input_cells() == [one, two]
    assert graph.get_output_cells() == [both]
    assert graph.get_provider() is provider
    before = one.weight.clone()
    graph.back_propagate()
    graph.update()
    assert not torch.equal(one.weight, before)
    with pytest.raises(WrongValue, match="graph of a tensor is what was computed"):
        graph.remove("one")
    graph.export_network_free_parameters(tmp_path / "weights")
    assert {path.name for path in (tmp_path / "weights").iterdir()} >= {"one_weights.syntxt", "two_biases.syntxt"}
    graph.log_stats(tmp_path / "stats")
    table = (tmp_path / "stats" / "stats.log").read_text()
    assert "one (Fc)" in table
    assert next(line for line in table.splitlines() if line.startswith("sum")).endswith("one, two")
    assert graph.get_parameter("name") == "DeepNet"


def test_the_graph_of_a_network_changes_it(net):
    graph = net.get_embedded_deepnet()
    graph.remove("fc2", reconnect=True)
    assert list(graph.get_cells()) == ["fc1", "softmax"] == [cell.name for cell in net]
    with pytest.raises(UndefinedItemError):
        graph.remove("fc2")
    assert DeepNet().get_cells() == {}
