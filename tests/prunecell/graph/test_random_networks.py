"""The law of the graph: whatever a model is made of, it computes the same afterwards; to leave everything is fine.

All sizes are the same number, so no size tells which dimension is which.
"""

import copy
import random
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell.errors import OptionError
from prunecell.graph import fold_batchnorm_, remove_dead_, sort_units_

SIZE = 4
ACTS = {"sort": sort_units_, "dead": remove_dead_, "fold": fold_batchnorm_}


class Net(nn.Module):
    """A first layer, some operations, and what it needs for them."""

    def __init__(self):
        super().__init__()
        self.parts, self.operations = nn.ModuleList(), []
        self.gain = nn.Parameter(torch.randn(SIZE))
        self.register_buffer("offset", torch.randn(SIZE))
        self.seen = []

    def part(self, module):
        """An operation that calls a new module."""
        self.parts.append(module)
        number = len(self.parts) - 1
        return lambda net, x, _: net.parts[number](x)

    def forward(self, x):
        before = []
        for operation in self.operations:
            before.append(x)
            x = operation(self, x, before)
        return x


def plain(function):
    """An operation of one tensor."""
    return lambda _net, _draw: lambda _, x, __: function(x)


def made(make):
    """An operation of a new module."""
    return lambda net, draw: net.part(make(draw))


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def a_norm(draw):
    return draw.choice(NORMS)(SIZE, affine=draw.random() < 0.7, track_running_stats=draw.random() < 0.8)


def a_convolution(draw):
    return draw.choice(CONVOLUTIONS)(SIZE, SIZE, 3, padding=1, bias=draw.random() < 0.5)


def two_readers(net, draw):
    one, other = net.part(nn.Linear(SIZE, SIZE)), net.part(a_convolution(draw))
    return lambda net, x, before: one(net, x, before) + other(net, x, before)


def normed(net, draw):
    layer = draw.choice([nn.Linear(SIZE, SIZE), a_convolution(draw)])
    fitting = NORMS[len(getattr(layer, "kernel_size", (1,))) - 1](SIZE, affine=draw.random() < 0.7)
    one, norm = net.part(layer), net.part(draw.choice([fitting, a_norm(draw)]))
    return lambda net, x, before: norm(net, one(net, x, before), before)


def hooked(net, draw):
    del draw
    body = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU())
    body.register_forward_hook(lambda _, __, y: y * torch.arange(SIZE).to(y.dtype))
    return net.part(body)


def changed(net, draw):
    del draw
    body = nn.Linear(SIZE, SIZE)
    body.forward = types.MethodType(lambda self, x: F.linear(x, self.weight) * torch.arange(SIZE).to(x.dtype), body)
    return net.part(body)


def captured(net, draw):
    """A tensor that the model shows, and reads again."""

    def capture(net, x, _):
        net.seen = [x]
        return net.seen[0] + net.seen[0][..., :1]

    del net, draw
    return capture


def in_place_then_read(net, draw):
    change = draw.choice([torch.relu_, lambda x: F.relu(x, True), lambda x: F.hardtanh(x, -0.2, 0.3, True)])  # noqa: FBT003

    def both(_, x, __):
        change(x)
        return x + 1

    del net
    return both


def of_earlier(net, draw):
    """Another tensor that was there before, where it fits."""
    del net
    which, how = draw.randint(0, 3), draw.choice([torch.add, torch.mul, lambda a, b: torch.cat([a, b], 0)])
    return lambda _, x, before: how(x, before[min(which, len(before) - 1)])


def of_weights(net, draw):
    """Something that is computed from weights or buffers, past the graph or not."""
    del net
    what = draw.choice(
        [
            lambda net: next(net.parts.parameters()).flatten()[:SIZE],
            lambda net: next(iter(net.parts[0]._parameters.values())).detach().flatten()[:SIZE].cumsum(0),
            lambda net: net.gain,
            lambda net: net.offset * 2,
            lambda net: sum((b * torch.arange(SIZE)).sum() for b in net.parts.buffers() if b.ndim),
            lambda net: sum(p.square().cumsum(0).sum() for p in net.parts.parameters()),
        ]
    )
    return lambda net, x, _: x + what(net)


LINEAR = made(lambda draw: nn.Linear(SIZE, SIZE, bias=draw.random() < 0.7))
OPERATIONS = [
    *[LINEAR] * 4,
    *[made(a_convolution)] * 8,
    *[made(a_norm)] * 4,
    *[normed] * 8,
    *[made(lambda draw: draw.choice(POOLS)(3, 1, 1))] * 4,
    made(lambda draw: draw.choice([nn.ReLU, nn.GELU, nn.Tanh, nn.Hardtanh, nn.Identity, nn.Sigmoid, nn.PReLU])()),
    made(lambda draw: nn.ReLU(inplace=draw.random() < 0.5)),
    made(lambda draw: draw.choice([nn.Softmax(-1), nn.LayerNorm(SIZE), nn.GroupNorm(2, SIZE)])),
    made(lambda draw: nn.Flatten(draw.choice([0, 1, 2, -2, -3]), draw.choice([-1, -2, 1, 2]))),
    made(lambda _: nn.Flatten()),
    plain(lambda x: F.relu(x, True)),  # noqa: FBT003
    plain(lambda x: F.threshold(x, 0.1, 0.5, True)),  # noqa: FBT003
    plain(lambda x: F.leaky_relu(input=x, negative_slope=0.3)),
    plain(lambda x: x.clamp(min=0.2)),
    plain(lambda x: torch.clamp(x, max=0.1)),
    plain(lambda x: x.sigmoid_()),
    plain(lambda x: x.contiguous(memory_format=torch.contiguous_format).abs()),
    plain(lambda x: x.clone(memory_format=torch.preserve_format)),
    plain(lambda x: F.max_pool1d(x, 3, 1, padding=1)),
    plain(lambda x: F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)),
    plain(lambda x: F.max_pool2d(x, 3, 1, 1, return_indices=True)[0]),
    plain(lambda x: F.adaptive_avg_pool2d(x, SIZE)),
    *[plain(lambda x: x.flatten(1))] * 3,
    plain(lambda x: x.flatten()),
    plain(lambda x: x.flatten(end_dim=1)),
    plain(lambda x: x.flatten(end_dim=-2)),
    plain(lambda x: torch.flatten(x, start_dim=-2)),
    plain(lambda x: torch.flatten(x, 2)),
    plain(lambda x: torch.flatten(x, 0, 1)),
    *[plain(lambda x: x.view(x.size(0), -1))] * 2,
    plain(lambda x: x.reshape(x.shape[0], -1)),
    plain(lambda x: x.reshape(x.shape[1], -1)),
    plain(lambda x: x.reshape(-1, SIZE)),
    plain(lambda x: x.reshape(-1, SIZE, SIZE)),
    plain(lambda x: x.reshape(SIZE, -1)),
    plain(lambda x: torch.reshape(x, (x.size(0), SIZE, -1))),
    plain(lambda x: x[:, :SIZE]),
    plain(lambda x: x[0]),
    plain(lambda x: x[..., None]),
    plain(lambda x: x.mean(1)),
    plain(lambda x: x.mean(-1)),
    plain(lambda x: x.mean((2, 3))),
    plain(lambda x: x.mean(dim=(-1, -2))),
    plain(lambda x: torch.mean(x, (2, 3), True)),  # noqa: FBT003
    plain(lambda x: x.mean(dim=-1, keepdim=True)),
    plain(lambda x: torch.mean(x, dim=0)),
    plain(lambda x: x.unsqueeze(0)),
    plain(lambda x: x.unsqueeze(1)),
    plain(lambda x: x.unsqueeze(-1)),
    plain(lambda x: x.squeeze()),
    plain(lambda x: x.transpose(1, 2)),
    plain(lambda x: x.transpose(0, 1)),
    plain(lambda x: x.transpose(-1, 1)),
    plain(lambda x: x.flip(-1)),
    plain(lambda x: x.cumsum(-1)),
    plain(lambda x: x.expand(SIZE, *x.shape[1:]) if x.shape[0] == 1 else x),
    *(two_readers, hooked, changed, captured, in_place_then_read, of_earlier, of_weights),
]


def network(seed):
    """A random network with many zeros, and an input of it; all sizes are alike, but perhaps the batch's."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    torch.manual_seed(seed)
    net = Net()
    x = torch.randn(draw.choice([SIZE, SIZE, 3]), *[SIZE] * draw.randint(1, 3), dtype=torch.float64)
    layers, n_between = [LINEAR, made(a_convolution), normed], draw.randint(1, 5)
    for choices in (layers, *[OPERATIONS] * n_between, *[layers] * 4):
        n_parts = len(net.parts)
        net.operations.append(draw.choice(choices)(net, draw))
        net.double()
        if not _works(net, x, n_parts):
            net.operations.pop()
            del net.parts[n_parts:]
    if draw.random() < 0.2 and len(net.parts) > 1:
        _tie(net, draw)
    if draw.random() < 0.15:
        net.register_forward_hook(lambda _, __, y: y * 2)
    _fill(net)
    return net, x


def _works(net, x, n_parts):
    """Whether it can be run, with the batch of the input as that of its new convolutions, not as channels."""
    wrong = []

    def look(module, inputs, _):
        (given,) = inputs
        if isinstance(module, CONVOLUTIONS) and given.ndim < len(module.kernel_size) + 2 and given.shape[0] == len(x):
            wrong.append(module)  # the rule says that the first dimension of the inputs is the batch

    hooks = [part.register_forward_hook(look) for part in net.parts[n_parts:]]
    try:
        for training in (True, False):
            y = copy.deepcopy(net).train(training)(x.clone())
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, StopIteration):
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return not wrong and 0 < y.numel() < 5000


def _tie(net, draw):
    """Let two layers have one weight, or two weights in one memory."""
    layers = [part for part in net.parts if isinstance(part, nn.Linear)]
    if len(layers) > 1:
        if draw.random() < 0.5:
            layers[1].weight = layers[0].weight
        else:
            layers[1].weight.data = layers[0].weight.data.t()


def _fill(net):
    for name, tensor in net.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5 if "var" in name else -1, 1)
            tensor.mul_(torch.rand(tensor.shape) > 0.4) if "var" not in name else None
        elif tensor.ndim > 1:
            for dim in (0, 1):
                tensor.transpose(0, dim)[torch.rand(tensor.shape[dim]) < 0.3] = 0.0
            tensor.mul_(torch.rand(tensor.shape) > 0.2)


def outputs(net, x, *, training):
    net = copy.deepcopy(net).train(training)
    with torch.no_grad():
        return net(x.clone())


def broken(seed, name, *, with_example):
    """Whether a network computes something else afterwards, and how much was done to it."""
    net, x = network(seed)
    net.eval()
    modes = (False,) if name == "fold" else (False, True)
    before = [outputs(net, x, training=training) for training in modes]
    state, shown = copy.deepcopy(net.state_dict()), dict(vars(net))
    try:
        done = ACTS[name](net, example=x if with_example else None)
    except OptionError:
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        done = {}
    assert vars(net) == shown
    assert not net.seen
    after = [outputs(net, x, training=training) for training in modes]
    is_same = all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-11, equal_nan=True) for a, b in zip(after, before, strict=True)
    )
    return not is_same, len(getattr(done, "folded", done))


@pytest.mark.parametrize("name", ACTS)
def test_random_networks_compute_the_same_afterwards(name):
    n_done = 0
    for seed in range(50):
        for with_example in (False, True):
            is_broken, n = broken(seed, name, with_example=with_example)
            assert not is_broken, (seed, with_example)
            n_done += n
    assert n_done > 10
