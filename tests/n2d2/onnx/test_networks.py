"""Whole networks that torch exports: they compute what ONNX Runtime computes, and go on learning, pruned."""

import copy
import io
import pickle
import warnings

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import nn

import n2d2
import prunecell as pc
from n2d2 import ini
from n2d2.cells import BatchNorm2d, Conv, Deconv, DeepNetCell, Dropout, Fc, Softmax
from n2d2.error_handler import WrongValue
from n2d2.experiment.experiment import build
from n2d2.summary import summarize
from prunecell.export import to_onnx
from prunecell.graph.units import tidied_

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.f1, self.f2 = nn.Linear(400, 30), nn.Linear(30, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.tanh(self.c1(x)), 2)
        x = F.avg_pool2d(F.relu(self.c2(x)), 2)
        return self.f2(F.relu(self.f1(x.view(x.size(0), -1)))).softmax(1)


class Residual(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.a, self.b = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.n, self.m = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.s = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x):
        return F.relu(self.m(self.b(F.relu(self.n(self.a(x))))) + self.s(x))


def resnet():
    stem = [nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, Residual(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


class Inverted(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        n = 2 * n_in
        self.f = nn.Sequential(nn.Conv2d(n_in, n, 1), nn.ReLU6(), nn.Conv2d(n, n, 3, 1, 1, groups=n), nn.BatchNorm2d(n))
        self.g = nn.Sequential(nn.Hardswish(), nn.Conv2d(n, n_out, 1))
        self.e = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(n_out, n_out, 1), nn.Hardsigmoid(), nn.PReLU(n_out))

    def forward(self, x):
        y = self.g(self.f(x))
        return y * self.e(y)


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Inverted(4, 4), Inverted(4, 6))
        self.h = nn.Linear(6, 5)

    def forward(self, x):
        return self.h(self.b(x).mean([2, 3]))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d, self.u, self.o = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(7, 3, 1)
        self.i, self.g = nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 8)

    def forward(self, x):
        y = self.i(self.u(F.leaky_relu(self.g(self.d(x)))))
        y = F.interpolate(F.avg_pool2d(y, 2), scale_factor=2, mode="bilinear")
        return self.o(torch.cat([x, F.interpolate(y, size=x.shape[2:], mode="nearest")], 1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.p, self.q, self.o, self.h = nn.Conv2d(1, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 10)
        self.m = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.n, self.cls = nn.LayerNorm(16), nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 17, 16))

    def forward(self, x):
        x = self.p(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.places
        b, t, c = x.shape
        q, k, v = self.q(self.n(x)).reshape(b, t, 3, 4, 4).permute(2, 0, 3, 1, 4)
        free = torch.ones(t, t, dtype=torch.bool).tril()
        a = (q @ k.transpose(-1, -2) / 2).masked_fill(~free, float("-inf")).softmax(-1)
        x = x + self.o((a @ v).transpose(1, 2).reshape(b, t, c))
        return self.h((x + self.m(x))[:, -1])


NETS = {
    "lenet": (LeNet, (1, 28, 28)),
    "resnet": (resnet, (3, 16, 16)),
    "mobilenet": (MobileNet, (3, 16, 16)),
    "unet": (UNet, (3, 16, 16)),
    "transformer": (Transformer, (1, 16, 16)),
}


def exported(make, shape, path, *, opset=17, free=True, training=False):
    torch.manual_seed(0)
    net = make().train(training)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    axes = {"x": {0: "batch"}} if free else None
    mode = torch.onnx.TrainingMode.PRESERVE if training else torch.onnx.TrainingMode.EVAL
    more = {"opset_version": opset, "dynamic_axes": axes, "training": mode, "input_names": ["x"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter speaks of its own future
        torch.onnx.export(net, (torch.randn(1, *shape),), path, dynamo=False, do_constant_folding=not training, **more)
    return net.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return {name: (folder / f"{name}.onnx", exported(*made, folder / f"{name}.onnx")) for name, made in NETS.items()}


def loaded(path):
    return DeepNetCell.load_from_ONNX(None, path)


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def data(name, n=3):
    return torch.randn(n, *NETS[name][1], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETS)
def test_a_network_computes_what_onnx_runtime_computes(files, name):
    path, reference = files[name]
    net, x = loaded(path).test(), data(name)
    torch.testing.assert_close(net(x), run(path, x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net(x), reference(x), rtol=1e-4, atol=1e-5)
    there = {name for node in onnx.load(path).graph.node for name in node.output}
    assert {cell.name for cell in net} <= there


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
@pytest.mark.parametrize("name", ["lenet", "mobilenet", "unet"])
def test_in_every_version(name, opset, tmp_path):
    exported(*NETS[name], tmp_path / "net.onnx", opset=opset)
    x = data(name)
    torch.testing.assert_close(
        loaded(tmp_path / "net.onnx").test()(x), run(tmp_path / "net.onnx", x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["lenet", "resnet", "mobilenet", "unet"])
def test_a_file_for_one_image_takes_batches(name, tmp_path):
    reference = exported(*NETS[name], tmp_path / "net.onnx", free=False)
    x = data(name)
    torch.testing.assert_close(loaded(tmp_path / "net.onnx").test()(x), reference(x), rtol=1e-4, atol=1e-5)


def test_what_has_a_cell_becomes_that_cell(files):
    kinds = {name: {type(cell) for cell in loaded(path)} for name, (path, _) in files.items()}
    assert {Conv, Fc, Softmax} <= kinds["lenet"]
    assert {Conv, Deconv} <= kinds["unet"]
    net = loaded(files["transformer"][0])
    assert sorted(cell.weight.shape for cell in net if isinstance(cell, Fc)) == [
        (10, 16),
        (16, 16),
        (16, 32),
        (32, 16),
        (48, 16),
    ]
    assert not any(isinstance(cell, Softmax) for cell in net)


def test_a_network_that_is_exported_while_it_learns_goes_on(tmp_path):
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4, momentum=0.2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(144, 3),
        )

    reference = exported(make, (1, 8, 8), tmp_path / "net.onnx", training=True)
    net, x = loaded(tmp_path / "net.onnx"), torch.randn(5, 1, 8, 8)
    assert {BatchNorm2d, Dropout} <= {type(cell) for cell in net}
    torch.testing.assert_close(net.test()(x), reference(x), rtol=1e-4, atol=1e-5)
    reference[:2].train()(x)
    next(iter(net)).learn()
    norm = next(cell for cell in net if isinstance(cell, BatchNorm2d))
    norm.learn()(reference[0](x))
    torch.testing.assert_close(norm.layer.running_mean, reference[1].running_mean)


@pytest.mark.parametrize("name", NETS)
def test_it_learns_pruned_and_pruned_weights_stay_zero(files, name):
    net, x = loaded(files[name][0]).learn(), data(name, 16)
    goal = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    plan = {
        cell.weight_name: pc.PruneSpec(schedule=pc.Static(sparsity=0.5))
        for cell in net
        if isinstance(cell, Conv | Fc | Deconv)
    }
    pruner = pc.Pruner(net, plan, optimizer=optimizer)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x).flatten(1), goal)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        pruner.step(len(x))
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    named = dict(net.named_parameters())
    for weight, mask in pruner.masks.items():
        assert (named[weight][~mask.dense() if hasattr(mask, "dense") else ~mask.bool()] == 0).all()


def test_the_weights_of_operators_have_solvers(files):
    net = loaded(files["transformer"][0])
    trained = {p for cell in net for p in cell.solvers()}
    assert trained == set(net.parameters())
    net.set_solver(n2d2.solver.SGD(learning_rate=0.1))
    x = n2d2.Tensor.from_torch(data("transformer"))
    before = copy.deepcopy(net.state_dict())
    y = net.learn()(x)
    y.values.square().sum().backward()
    y.update()
    assert [name for name, tensor in net.state_dict().items() if torch.equal(before[name], tensor)] == []


@pytest.mark.parametrize("name", NETS)
def test_tidying_changes_no_output(files, name):
    """Whether the graph of its operators can be followed or not."""
    net, x = loaded(files[name][0]).eval(), data(name)
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data[torch.rand(len(parameter)) < 0.3] = 0.0
            parameter.data *= torch.rand(parameter.shape) < 0.7
    with torch.no_grad():
        wanted = net(x)
        torch.testing.assert_close(tidied_(net, example=x)(x), wanted)


@pytest.mark.parametrize("name", NETS)
def test_n2d2_tensors_go_through(files, name):
    net, x = loaded(files[name][0]).test(), data(name)
    torch.testing.assert_close(net(n2d2.Tensor.from_torch(x)).values.reshape(net(x).shape), net(x))


@pytest.mark.parametrize("name", ["lenet", "transformer", "unet"])
def test_it_is_a_plain_module(files, name):
    net, x = loaded(files[name][0]).test(), data(name)
    y, file = net(x), io.BytesIO()
    assert torch.equal(copy.deepcopy(net)(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), y)  # noqa: S301 - our own bytes
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = loaded(files[name][0]).test()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), y)


class Halved(nn.Module):
    """Arithmetic on shapes: the batch, and half of a side."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 3)

    def forward(self, x):
        x = x.view(x.size(0), -1, x.size(3) // 2)
        return self.f(x + torch.ones(x.size(0), 1, 4).cumsum(2))


def test_compiled_and_exported_it_takes_batches_of_any_size(tmp_path):
    reference = exported(Halved, (1, 4, 8), tmp_path / "net.onnx")
    net, x = loaded(tmp_path / "net.onnx").test(), torch.randn(3, 1, 4, 8)
    torch.testing.assert_close(net(x), reference(x))
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), reference(x))
    program = torch.export.export(net, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(program.module()(x), reference(x))


@pytest.mark.parametrize("name", ["lenet", "unet", "transformer"])
def test_what_is_written_again_computes_the_same(files, name, tmp_path):
    net, x = loaded(files[name][0]).test(), data(name)
    to_onnx(net, x[:1], tmp_path / "again.onnx", sparse=True)
    torch.testing.assert_close(run(tmp_path / "again.onnx", x), net(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loaded(tmp_path / "again.onnx").test()(x), net(x), rtol=1e-5, atol=1e-5)


def test_our_own_sparse_files_are_read_back(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    pc.Pruner(net, pc.PruneSpec(schedule=pc.Static(sparsity=0.9))).finalize()
    to_onnx(net, torch.zeros(1, 1, 8, 8), tmp_path / "net.onnx", sparse=True)
    assert len(onnx.load(tmp_path / "net.onnx").graph.sparse_initializer) == 2
    kept = [int(layer.weight.count_nonzero()) for layer in net if isinstance(layer, nn.Linear)]
    back, x = loaded(tmp_path / "net.onnx").test(), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(back(x), net(x))
    assert [int(cell.weight.count_nonzero()) for cell in back if isinstance(cell, Fc)] == kept


def test_an_ini_file_takes_a_transformer(files, tmp_path):
    path, reference = files["transformer"]
    (tmp_path / "net.onnx").write_bytes(path.read_bytes())
    text = """
[database]
Type=MNIST_IDX_Database
[sp]
SizeX=16
SizeY=16
BatchSize=4
[vit:Fc_def]
QWeight=Prune
QWeight.Threshold=0.8
QWeight.PruningMode=Static
QWeight.PruningFiller=IterNonStruct
Solvers.Momentum=0.9
[vit]
Input=sp
Type=ONNX
File=net.onnx
[softmax]
Input=vit
Type=Softmax
NbOutputs=10
WithLoss=1
[softmax.Target]
"""
    network = build(ini.parse(text, file=str(tmp_path / "net.ini")))
    x = data("transformer", 4)
    torch.testing.assert_close(network.model.test()(x), reference(x).softmax(1), rtol=1e-4, atol=1e-5)
    assert {quantizer.threshold for quantizer in network.network.quantizers.values()} == {0.8}
    assert len(network.network.quantizers) == 5


def test_rows_are_counted_in_the_summary(files):
    rows = {row.layer: row for row in summarize(loaded(files["transformer"][0]), [1, 16, 16]).rows}
    macs = {row.parameters: row.macs for name, row in rows.items() if name.endswith("(Fc)")}
    assert macs[48 * 16] == 17 * 48 * 16
    assert macs[10 * 16 + 10] == 10 * 16


def test_several_outputs_come_in_the_order_of_the_file(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    nodes.append(helper.make_node("Split", ["b"], ["c", "d"], axis=1))
    info = helper.make_tensor_value_info("x", 1, ["n", 4])
    outputs = [helper.make_empty_tensor_value_info(name) for name in ("d", "a", "c")]
    graph = helper.make_graph(nodes, "g", [info], outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
    )
    net, x = loaded(tmp_path / "net.onnx"), torch.randn(3, 4)
    assert net.outputs == ["d", "a", "c"]
    d, a, c = net(x)
    assert torch.equal(a, x.relu())
    assert torch.equal(torch.cat([c, d], 1), -a)


def test_numbers_of_half_and_double_precision_are_read_as_the_networks(tmp_path, monkeypatch):
    for kind in (np.float16, np.float64):
        tensor = numpy_helper.from_array(np.full((4, 4), 0.5, kind), "w")
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        nodes = [helper.make_node("Cast", ["x"], ["h"], to=dtype), helper.make_node("MatMul", ["h", "w"], ["y"])]
        info = helper.make_tensor_value_info("x", 1, ["n", 4])
        graph = helper.make_graph(nodes, "g", [info], [helper.make_empty_tensor_value_info("y")], [tensor])
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
        )
        for name, wanted in (("float", torch.float32), ("double", torch.float64)):
            monkeypatch.setattr(n2d2.global_variables, "default_datatype", name)
            assert loaded(tmp_path / "net.onnx")(torch.ones(1, 4, dtype=wanted)).dtype == wanted


def test_without_the_extra_it_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "n2d2.cells.onnx", None)
    with pytest.raises(WrongValue, match=r"pip install 'prunecell\[onnx\]'"):
        loaded(tmp_path / "net.onnx")
