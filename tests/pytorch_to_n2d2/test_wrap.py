"""A wrapped torch module computes what it did, learns by N2D2's solvers, and is pruned by PruneCells."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import n2d2
from n2d2.cells import BatchNorm2d, Cell, Conv, Deconv, DeepNetCell, Fc
from n2d2.error_handler import ImplementationError, WrongInputType, WrongValue
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, Adam
from pytorch_to_n2d2 import Block, wrap


class Residual(nn.Module):
    """Layers that are asked for their class and attributes, a branch, and arithmetic on a weight."""

    def __init__(self):
        super().__init__()
        self.name = nn.Conv2d(2, 2, 3, padding="same", bias=False)  # a name that containers have
        self.input_size = nn.ConvTranspose2d(2, 3, 2, stride=2, groups=1)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        assert type(self.name) is nn.Conv2d
        x = x + self.name(x) * self.name.weight.abs().mean()
        return self.gain * (self.input_size(x) if x.sum() > 0 else -self.input_size(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.two = nn.Linear(6, 6)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        y = self.body(x)
        return y, y.sum(1)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        return {"scores": self.body(x), "parts": [x.sum(1), self.body(-x)]}


def _normalized():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), nn.PReLU())


MODULES = {  # what makes it, its input, the types of its cells
    "linear": (lambda: nn.Linear(6, 3), [4, 6], ["Fc"]),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, groups=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 3),
        ),
        [4, 1, 15, 15],
        ["Conv", "BatchNorm2d", "Fc"],
    ),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)), [4, 2, 9], ["Conv", "BatchNorm2d"]),
    "residual": (Residual, [4, 2, 6, 6], ["Residual", "Conv", "Deconv"]),
    "tied": (Tied, [4, 6], ["Fc", "Linear"]),
    "several": (Several, [4, 6], ["Fc"]),
    "named": (Named, [4, 6], ["Fc"]),
    "recurrent": (lambda: nn.LSTM(6, 3, batch_first=True), [4, 5, 6], ["LSTM"]),
    "weight norm": (_normalized, [4, 6], ["ParametrizedLinear", "ParametrizationList", "PReLU"]),
    "attention": (
        lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True),
        [4, 5, 6],
        ["MultiheadAttention", "Fc", "Fc", "Fc", "LayerNorm", "LayerNorm"],
    ),
    "no parameters": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Dropout(0.0)), [4, 1, 4, 4], []),
}
LEARNING = [name for name in MODULES if name != "no parameters"]


@pytest.fixture(params=MODULES)
def case(request):
    return made(request.param)


def made(name):
    make, size, types = MODULES[name]
    torch.manual_seed(0)
    return make(), size, types


def flat(outputs):
    """All values of one output, or of nested ones."""
    if isinstance(outputs, torch.Tensor):
        return outputs.flatten()
    return torch.cat([flat(one) for one in (outputs.values() if isinstance(outputs, dict) else outputs)])


def test_it_computes_exactly_what_the_module_does(case):
    module, size, types = case
    net = wrap(module, size)
    for n in (size[0], 2):
        x = torch.randn(n, *size[1:])
        for mode in (True, False):
            expected, got = module.train(mode)(x), net.train(mode)(x)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert isinstance(net.get_block(), DeepNetCell)
    assert [cell.get_type() for cell in net.get_block()] == types
    kinds = {"Conv": Conv, "Fc": Fc, "Deconv": Deconv, "BatchNorm2d": BatchNorm2d}
    for cell in net.get_block():
        assert isinstance(cell, kinds.get(cell.get_type(), Cell))


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns_as_the_module_under_torchs_sgd(name):
    module, size, _ = made(name)
    net = wrap(module, size)
    net.get_block().set_solver(SGD(learning_rate=0.05))
    theirs, ours = torch.optim.SGD(module.parameters(), lr=0.05), torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(4):
        x = torch.randn(size)
        for model, optimizer in ((module, theirs), (net, ours)):
            optimizer.zero_grad()
            flat(model(x)).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(flat(net(x)), flat(module(x)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.get_block().torch_module.state_dict(), module.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
def test_each_conv_and_fc_is_pruned_and_stays_so(name):
    module, size, _ = made(name)
    net = wrap(module, size)
    cells = [cell for cell in net.get_block() if isinstance(cell, Conv | Deconv | Fc)]
    for cell in cells:
        cell.quantizer = PruneCell(
            prune_mode="Gradual", threshold=0.5, start=0.2, gamma=0.1, stepsize=size[0], prune_filler="IterNonStruct"
        )
    for step in range(5):
        flat(net(torch.randn(size))).square().mean().backward()
        for cell in cells:
            assert cell.quantizer.get_current_threshold() == pytest.approx(min(0.5, 0.2 + 0.1 * (step + 1)))
            assert cell.weight.eq(0).float().mean() >= cell.quantizer.get_current_threshold() - 1e-6
    assert all(p.ne(0).all() for p in module.parameters() if p.dim() > 1)  # the user's own is as it was


def test_the_users_module_stays_as_it_is_and_frozen_parameters_too():
    module, size, _ = made("cnn")
    module[0].requires_grad_(requires_grad=False)
    before = copy.deepcopy(module.state_dict())
    net = wrap(module, size)
    net(torch.randn(size)).sum().backward()
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    after = net.get_block().torch_module.state_dict()
    assert {key for key in before if not torch.equal(before[key], after[key])} == {
        "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked", "5.weight", "5.bias"
    }  # fmt: skip


def test_the_mode_of_the_module_is_kept():
    module, size, _ = made("cnn")
    assert not wrap(module.eval(), size).training
    module.train()
    module[1].eval()
    net = wrap(module, size)
    assert net.training
    assert not net.get_block().torch_module[1].training


@pytest.mark.parametrize("name", ["cnn", "attention"])
def test_it_is_a_network_for_n2d2s_tensors_too(name, capsys):
    module, size, _ = made(name)
    net = wrap(module, size).get_block()
    net.set_solver(Adam(learning_rate=0.01))
    x = torch.randn(size)
    y = net.test()(n2d2.Tensor.from_torch(x))
    torch.testing.assert_close(y.values.reshape(module.eval()(x).shape), module(x))
    net.summary(verbose=True)
    told = capsys.readouterr().out
    assert f"Total parameters: {sum(p.numel() for p in module.parameters()):,}" in told
    assert len(told.splitlines()) == len(net) + 6


def test_it_learns_from_a_provider():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))
    net = wrap(module, [8, 1, 15, 15]).get_block()
    net.set_solver(Adam(learning_rate=0.005))
    labels = [0, 1, 2] * 8
    database = n2d2.database.Numpy()
    database.load(
        [np.random.default_rng(i).random((15, 15), dtype=np.float32) + label for i, label in enumerate(labels)], labels
    )
    database.partition_stimuli(1.0, 0.0, 0.0)
    provider = n2d2.provider.DataProvider(database, [15, 15, 1], batch_size=8)
    provider.set_partition("Learn")
    target, softmax = n2d2.target.Score(provider), n2d2.cells.Softmax(with_loss=True)
    losses = []
    for _ in range(60):
        loss = target(softmax(net.learn()(provider.read_random_batch())))
        loss.back_propagate()
        loss.update()
        losses.append(float(loss[0]))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert net["0"].get_outputs().shape() == [8, 4, 7, 7]


def test_two_calls_in_a_step_are_one_update():
    module, size, _ = made("linear")
    net = wrap(module, size)
    x, y = torch.randn(size), torch.randn(size)
    before = module.weight.clone()
    (net(x).sum() + net(y).sum()).backward()
    expected = before - 0.01 * (x.sum(0) + y.sum(0))
    torch.testing.assert_close(net.get_block().torch_module.weight, expected.expand_as(before))


def test_gradients_that_are_only_asked_for_update_nothing():
    module, size, _ = made("linear")
    net = wrap(module, size)
    x = torch.randn(size, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(gradient, module.weight.sum(0).expand(size))
    with torch.no_grad():
        net(x)
    torch.testing.assert_close(net.get_block().torch_module.weight, module.weight, rtol=0, atol=0)


def test_copies_states_and_pickles_have_the_parameters():
    module, size, _ = made("cnn")
    net = wrap(module, size)
    net.get_block()["5"].quantizer = PruneCell(prune_mode="Static", threshold=0.5)
    other = wrap(made("cnn")[0], size)
    other.get_block()["5"].weight.data.fill_(3)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(size)
    for one in (other.eval(), copy.deepcopy(net).eval()):
        torch.testing.assert_close(one(x), net.eval()(x), rtol=0, atol=0)
    twin = copy.deepcopy(net)
    twin(x).sum().backward()
    assert twin.get_block()["5"].weight.eq(0).sum() == net.get_block()["5"].weight.eq(0).sum() == 54
    assert not torch.equal(twin.get_block()["5"].weight, net.get_block()["5"].weight)


def test_it_goes_where_torch_sends_it():
    module, size, _ = made("cnn")
    assert wrap(module, size).double()(torch.randn(size, dtype=torch.float64)).dtype == torch.float64


def test_files_are_those_of_its_cells(tmp_path):
    module, size, _ = made("cnn")
    net = wrap(module, size).get_block()
    net.export_free_parameters(tmp_path)
    other = wrap(
        nn.Sequential(*(type(part)(*args) for part, args in zip(module, LIKE_CNN, strict=True))), size
    ).get_block()
    other.import_free_parameters(tmp_path)
    torch.testing.assert_close(other.torch_module.eval()(torch.ones(size)), module.eval()(torch.ones(size)))


LIKE_CNN = [(1, 4, 3, 2), (4,), (), (2,), (), (36, 3)]


def test_an_epoch_that_nobody_knows_is_told():
    module, size, _ = made("linear")
    net = wrap(module, size)
    net.get_block()["Linear"].quantizer = PruneCell(prune_mode="Gradual", threshold=0.5)
    with pytest.raises(WrongValue, match="stepsize=0 is illegal here"):
        net(torch.randn(size)).sum().backward()


SEQUENCE = n2d2.cells.Sequence([Fc(4, 2)])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: wrap("net", [1, 2]), WrongInputType, "torch_model must be a torch.nn.Module, not a str"),
        (lambda: wrap(nn.ReLU(), 3), WrongInputType, "input_size=3 is illegal: it must be a list of sizes"),
        (lambda: wrap(nn.ReLU(), [1, 0]), WrongValue, "input_size=0 is illegal"),
        (lambda: wrap(nn.LazyLinear(3), [1, 2]), WrongValue, "the module has no weights yet: call the module once"),
        (lambda: wrap(SEQUENCE, [1, 4]), WrongValue, "the module is a Sequence of N2D2's: Block"),
        (lambda: wrap(nn.Sequential(Fc(4, 2)), [1, 4]), WrongValue, "0 is a Fc of N2D2's"),
        (Block, WrongInputType, r"block is missing; it is Block\(block, need_to_flatten=False"),
        (lambda: Block(nn.ReLU()), WrongInputType, "block is a ReLU: it must be one of N2D2's containers"),
        (lambda: Block(SEQUENCE)(n2d2.Tensor([1, 4])), WrongInputType, "a Block takes torch tensors, not a Tensor"),
        (lambda: wrap(nn.ReLU(), [1, 2]).get_block().remove("a"), ImplementationError, "before it is wrapped"),
        (
            lambda: wrap(nn.Linear(4, 2), [1, 4]).get_block()(n2d2.Tensor([2, 3, 1, 1])),
            WrongValue,
            r"takes stimuli of \[4\], not of \[3, 1, 1\]",
        ),
    ],
)
def test_mistakes_are_told_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("option", [{"opset_version": 12}, {"in_names": ["x"]}, {"out_names": ["y"]}])
def test_options_of_the_onnx_file_have_no_effect(option):
    with pytest.warns(UserWarning, match=f"{next(iter(option))}=.* has no effect: no ONNX file is made"):
        wrap(nn.Linear(4, 2), [1, 4], **option)


def test_verbose_prints_the_cells(capsys):
    wrap(nn.Linear(4, 2), [1, 4], verbose=True)
    assert "Fc('Linear'" in capsys.readouterr().out


def test_cells_of_one_key_get_different_names():
    module = nn.ModuleDict({"a_b": nn.Linear(2, 2), "a": nn.ModuleDict({"b": nn.Linear(2, 2)})})
    assert list(wrap(module, [1, 2]).get_block().get_cells()) == ["a_b", "a.b_"]


def test_functional_weights_are_pruned_too():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return F.linear(x, self.layer.weight)

    net = wrap(Direct(), [1, 4])
    net.get_block()["layer"].quantizer = PruneCell(prune_mode="Static", threshold=1.0)
    assert not net(torch.ones(1, 4)).any()
