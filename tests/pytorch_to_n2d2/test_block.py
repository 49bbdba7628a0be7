"""Networks of N2D2's in torch's loops: they learn as torch's do."""

import pytest
import torch
from torch import nn

from n2d2.activation import Rectifier
from n2d2.cells import BatchNorm2d, Conv, Fc, Layer, Pool2d, Sequence
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD
from pytorch_to_n2d2 import Block

RATE = 0.01
NETWORKS = {  # ours, torch's of the same layers, the input
    "conv": (
        lambda: [Conv(1, 2, [3, 3], padding_dims=[1, 1], no_bias=True)],
        lambda: nn.Conv2d(1, 2, 3, padding=1, bias=False),
        (8, 1, 5, 5),
    ),
    "fc": (lambda: [Fc(9, 4)], lambda: nn.Linear(9, 4), (8, 9)),
    "batch norm": (lambda: [BatchNorm2d(3)], lambda: nn.BatchNorm2d(3), (8, 3, 4, 4)),
    "pool": (lambda: [Pool2d([2, 2], stride_dims=[2, 2])], lambda: nn.MaxPool2d(2), (8, 3, 4, 4)),
    "cnn": (
        lambda: [
            Conv(1, 4, [3, 3], activation=Rectifier()),
            BatchNorm2d(4),
            Pool2d([2, 2], stride_dims=[2, 2]),
            Fc(36, 3),
        ],
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        ),
        (8, 1, 8, 8),
    ),
}


def pair(name):
    ours, theirs, size = NETWORKS[name]
    torch.manual_seed(0)
    block, module = Sequence(ours()), theirs()
    parameters = [p for cell in block for p in cell.parameters()]
    for mine, p in zip(parameters, module.parameters(), strict=True):
        mine.data.copy_(p.data)
    block.set_solver(SGD(learning_rate=RATE))
    return block, module, size


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("incomplete", [False, True])
def test_it_learns_as_torchs_network_does(name, incomplete):
    block, module, size = pair(name)
    model = Block(block, need_to_flatten=True)
    optimizers = [torch.optim.SGD(one.parameters(), lr=RATE) for one in (module, model) if [*one.parameters()]]
    for step in range(6):
        x = torch.randn(3 if incomplete and step else size[0], *size[1:])
        expected, got = module(x).flatten(1), model(x)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        for output in (expected, got):
            if output.requires_grad:
                output.square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(model.eval()(x), module.eval()(x).flatten(1), rtol=1e-5, atol=1e-6)
    assert model.batch_size == size[0]


def test_torchs_optimizers_see_one_parameter_without_effect():
    block, _, size = pair("fc")
    model = Block(block)
    assert [name for name, _ in model.named_parameters()] == ["random_parameter"]
    model(torch.randn(size)).sum().backward()
    assert model.random_parameter.grad is None


@pytest.mark.parametrize(("flatten", "shape"), [(False, [8, 4, 1, 1]), (True, [8, 4]), (None, [8, 4])])
def test_vectors_have_n2d2s_dimensions_unless_they_are_to_be_flat(flatten, shape):
    block, _, size = pair("fc")
    assert list(Block(block, need_to_flatten=flatten)(torch.randn(size)).shape) == shape


def test_maps_are_flattened_on_demand():
    block, _, size = pair("conv")
    assert list(Block(block, need_to_flatten=True)(torch.randn(size)).shape) == [8, 50]


def test_a_layer_between_layers_of_torch_gets_and_gives_gradients():
    block, module, size = pair("fc")
    first, last = nn.Linear(5, 9), nn.Linear(4, 1)
    x = torch.randn(size[0], 5)
    gradients = []
    for middle in (module, Block(block, need_to_flatten=True)):
        first.zero_grad()
        last(middle(first(x))).sum().backward()
        gradients.append(first.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_several_outputs_come_as_a_tuple_and_send_gradients_back():
    block = Sequence([Layer([Fc(4, 2, name="one"), Fc(4, 3, name="two")])])
    before = [p.clone() for p in block.parameters()]
    outputs = Block(block, need_to_flatten=True)(torch.ones(5, 4))
    assert isinstance(outputs, tuple)
    sum(y.sum() for y in outputs).backward()
    assert all(not torch.equal(p, q) for p, q in zip(block.parameters(), before, strict=True))


def test_a_frozen_network_stays_and_lets_gradients_through():
    block, module, size = pair("fc")
    model = Block(block)
    model.get_block().freeze()
    x = torch.randn(size, requires_grad=True)
    model(x).sum().backward()
    torch.testing.assert_close(x.grad, module.weight.sum(0).expand(size))
    torch.testing.assert_close(block[0].weight, module.weight, rtol=0, atol=0)


def test_samples_of_all_calls_count_for_the_pruning():
    block, _, size = pair("fc")
    block[0].quantizer = PruneCell(prune_mode="Gradual", threshold=0.9, start=0.0, gamma=0.1, stepsize=2 * size[0])
    model = Block(block)
    for expected in (0.1, 0.2):
        (model(torch.randn(size)).sum() + model(torch.randn(size)).sum()).backward()
        assert block[0].quantizer.get_current_threshold() == pytest.approx(expected)


def test_modes_go_to_the_network():
    block, _, _ = pair("batch norm")
    model = Block(block)
    assert not model.eval().get_block()[0].training
    assert model.train().get_block()[0].training


def test_summary_prints_the_cells(capsys):
    Block(Sequence([Fc(4, 2, name="only")])).summary()
    assert "only (Fc)" in capsys.readouterr().out
