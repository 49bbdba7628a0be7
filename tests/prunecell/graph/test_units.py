"""Laws of hidden units: what a model computes stays the same, and what cannot be proved is left."""

import contextlib
import copy
import random
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell import Pruner, PruneSpec, Static
from prunecell.errors import OptionError, OptionTypeError
from prunecell.graph import chains_of
from prunecell.graph.units import dead_units, remove_dead_, sort_units_


class Functional(nn.Module):
    """Functions instead of modules, and a view by the size of the batch."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 4, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(4 * 9, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.dropout(self.conv2(x).tanh(), 0.5, training=self.training)
        x = x.view(x.size(0), -1)
        return F.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)


class Heads(nn.Module):
    """Two layers read the same units; a residual block beside."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.body, self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 2), nn.Linear(10, 3)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        x = F.leaky_relu(self.body(x.mean((2, 3))), 0.1)
        return torch.cat([self.a(x), self.b(x.sigmoid())], 1)


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))


def cnn():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2, padding=1)),
        *(nn.ConvTranspose2d(6, 5, 2), nn.GELU(), nn.Dropout2d(), nn.ConvTranspose2d(5, 4, 2), nn.ReLU6()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 7), nn.BatchNorm1d(7), nn.Hardswish(), nn.Linear(7, 3)),
    )


MODELS = {"mlp": (mlp, 2), "cnn": (cnn, 4), "functional": (Functional, 3), "heads": (Heads, 2)}
"""Name -> (model, how many of its layers have hidden units that are known)."""


def some(name, seed, zeros=0.0):
    """A model with random statistics, and with that share of its units' weights and biases zero."""
    torch.manual_seed(seed)
    model = MODELS[name][0]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for vector, low in ((module.running_mean, -1), (module.running_var, 0.5), (module.bias, -1)):
                vector.data.uniform_(low, 1.0)
            module.weight.data.uniform_(-1, 1).mul_(torch.rand(module.weight.shape) > zeros / 2)
        elif hasattr(module, "weight"):
            weight = module.weight.data
            for dim in (0, 1):
                view = [-1 if d == dim else 1 for d in range(weight.ndim)]
                weight *= (torch.rand(weight.shape[dim]) > zeros).view(view)
            weight *= torch.rand(weight.shape) > zeros / 2
            if module.bias is not None:
                module.bias.data *= torch.rand(module.bias.shape) > zeros
    return model


def outputs(model, *, training=False):
    """Of a batch; in training, of a copy without dropout, by the statistics of the batch."""
    model = copy.deepcopy(model).train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    torch.manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(16, 1, 8, 8))


every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_the_hidden_layers_that_are_known(name):
    chains = chains_of(MODELS[name][0]())
    assert len(chains.layers) == MODELS[name][1]


@every_model
@pytest.mark.parametrize("zeros", [0.2, 0.5, 0.8])
def test_removing_what_is_dead_changes_nothing(name, zeros):
    found = 0
    for seed in range(4):
        model = some(name, seed, zeros)
        before, in_training = outputs(model), outputs(model, training=True)
        keep = copy.deepcopy(model)
        dead = remove_dead_(model)
        found += sum(int(where.sum()) for where in dead.values())
        assert torch.equal(outputs(model), before)
        if not isinstance(model, Functional):
            torch.testing.assert_close(outputs(model, training=True), in_training)
        for parameter, (parameter_name, was) in zip(model.parameters(), keep.named_parameters(), strict=True):
            where = dead.get(parameter_name, torch.zeros_like(was, dtype=torch.bool))
            assert torch.equal(parameter, was.masked_fill(where, 0.0))
        again = dead_units(model)
        assert all(torch.equal(again[n], dead[n]) for n in dead)
    assert found


@every_model
def test_sorting_changes_only_the_order_of_sums(name):
    for seed in range(4):
        model = some(name, seed, 0.3)
        before, parameters = outputs(model), list(model.parameters())
        orders = sort_units_(model)
        assert orders
        assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
        torch.testing.assert_close(outputs(model), before)
        for layer in chains_of(model).layers:
            counts = layer.module.weight.movedim(layer.dim, 0).flatten(1).count_nonzero(1)
            assert torch.equal(counts, counts.sort(descending=True).values)
        assert sort_units_(model) == {}


@every_model
def test_every_unit_that_is_known_goes_alone(name):
    """Without the weights that belong to a unit the model computes what it does without the unit's outputs."""
    for number in range(MODELS[name][1]):
        model = some(name, 0)
        layer = chains_of(model).layers[number]
        for reading in layer.readings:
            columns = reading.module.weight.data.movedim(reading.dim, 0)
            columns[reading.n_columns : 2 * reading.n_columns] = 0.0
        before = outputs(model)
        dead = dead_units(model)
        assert dead[f"{layer.name}.weight"].movedim(layer.dim, 0)[1].all()
        layer.module.weight.data.movedim(layer.dim, 0)[1] = 7.0
        assert torch.equal(outputs(model), before)


ACTIVATIONS = [
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Softplus, nn.Softshrink, nn.Hardshrink, nn.Hardtanh, nn.Identity, nn.PReLU, nn.CELU),
]


def random_model(seed):
    """A network of random layers, with many zeros, constants and statistics of every sign."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    torch.manual_seed(seed)
    modules, n, size = [], 1, 8
    for _ in range(draw.randint(1, 3)):
        n, before = draw.randint(2, 6), n
        modules.append(draw.choice([nn.Conv2d, nn.ConvTranspose2d])(before, n, 3, padding=1, bias=draw.random() < 0.7))
        modules += draw.choice([[], [nn.BatchNorm2d(n)]])
        modules += draw.choice([[], [draw.choice(ACTIVATIONS)()]])
        modules += draw.choice([[], [nn.Dropout2d()], [nn.AvgPool2d(3, 1, 1)], [nn.MaxPool2d(3, 1, 1)]])
        modules += draw.choice([[], [draw.choice(ACTIVATIONS)()]])
    modules.append(nn.Flatten())
    n *= size * size
    for _ in range(draw.randint(0, 3)):
        n, before = draw.randint(2, 9), n
        modules += [nn.Linear(before, n, bias=draw.random() < 0.7), *draw.choice([[], [nn.BatchNorm1d(n)]])]
        modules += [*draw.choice([[], [nn.Dropout()]]), draw.choice(ACTIVATIONS)()]
    model = nn.Sequential(*modules, nn.Linear(n, 3)).eval()
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5 if "var" in name else -1, 1)
            tensor.mul_(torch.rand(tensor.shape) > 0.5) if "var" not in name else None
        elif tensor.ndim > 1:
            for dim in (0, 1):
                tensor.transpose(0, dim)[torch.rand(tensor.shape[dim]) < 0.4] = 0.0
    return model


def test_random_networks_compute_the_same_without_what_is_dead_and_sorted():
    n_dead = n_sorted = 0
    for seed in range(25):
        model = random_model(seed)
        before = outputs(model)
        n_dead += sum(int(where.sum()) for where in remove_dead_(model).values())
        assert torch.equal(outputs(model), before), seed
        n_sorted += len(sort_units_(model))
        torch.testing.assert_close(outputs(model), before, msg=str(seed))
    assert n_dead > 400
    assert n_sorted > 20


# ---- what is dead ----------------------------------------------------------------------------------------------------


def two_layers(activation, bias):
    model = nn.Sequential(nn.Linear(2, 1), activation, nn.Linear(1, 1))
    model[0].weight.data.zero_()
    model[0].bias.data.fill_(bias)
    return model


@pytest.mark.parametrize(
    ("activation", "bias", "is_dead"),
    [
        (nn.ReLU(), -1.0, True),
        (nn.ReLU(), 0.0, True),
        (nn.ReLU(), 1.0, False),
        (nn.Tanh(), 0.0, True),
        (nn.Tanh(), -1.0, False),
        (nn.Sigmoid(), 0.0, False),
        (nn.LeakyReLU(), -1.0, False),
        (nn.Softshrink(0.5), 0.4, True),
        (nn.Sequential(nn.Dropout(), nn.ReLU()), -1.0, False),  # not proved: dropout changes numbers
        (nn.Sequential(nn.ReLU(), nn.Dropout()), -1.0, True),
    ],
)
def test_a_unit_without_inputs_is_dead_if_its_activation_makes_a_zero_of_its_bias(activation, bias, is_dead):
    assert bool(dead_units(two_layers(activation, bias))) == is_dead


@pytest.mark.parametrize(
    ("weight", "bias", "mean", "is_dead"),
    [
        (1.0, -1.0, 0.0, True),
        (1.0, -1.0, -9.0, False),  # the running mean makes it positive in evaluation
        (1.0, 1.0, 9.0, False),  # and the batch's in training
        (0.0, -1.0, 3.0, True),
        (0.0, 1.0, 3.0, False),
    ],
)
def test_behind_a_batchnorm_a_unit_must_be_zero_in_training_and_in_evaluation(weight, bias, mean, is_dead):
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.ReLU(), nn.Linear(1, 1))
    model[0].weight.data.zero_()
    for vector, value in ((model[1].weight, weight), (model[1].bias, bias), (model[1].running_mean, mean)):
        vector.data.fill_(value)
    assert bool(dead_units(model, example=torch.zeros(3, 2))) == is_dead


def test_death_spreads_in_both_directions():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    model[2].bias.data.fill_(-1.0)
    model[0].weight.data[0] = 0.0
    model[0].bias.data[0] = -1.0
    model[2].weight.data[1, 1:] = 0.0  # this unit reads the dead one only
    model[4].weight.data[:, 2] = 0.0  # this one is not read
    model[2].weight.data[:2, 2] = 0.0  # so nobody reads this one
    dead = dead_units(model)
    assert dead["0.bias"].tolist() == [True, False, True]
    assert dead["2.bias"].tolist() == [False, True, True]
    assert dead["4.weight"].tolist() == [[False, True, True]] * 2


def test_values_stand_for_what_the_model_holds():
    model = mlp()
    values = {"3.weight": torch.zeros_like(model[3].weight)}
    assert dead_units(model) == {}
    assert dead_units(chains_of(model), values=values)["1.weight"].all()


def test_names_are_those_without_wrappers():
    model = mlp()
    model[3].weight.data.zero_()
    assert (
        list(dead_units(torch.compile(model, backend="eager")))
        == list(dead_units(nn.DataParallel(model)))
        == list(dead_units(model))
    )


# ---- what is left ----------------------------------------------------------------------------------------------------


class Around(nn.Module):
    """A first layer, something, and a second layer."""

    def __init__(self, between, first=None, second=None):
        super().__init__()
        self.first, self.second = first or nn.Linear(4, 6), second or nn.Linear(6, 2)
        self.between = between

    def forward(self, x):
        return self.between(self, x)


def _tied():
    model = Around(lambda m, x: m.second(m.first(x)))
    model.other = nn.Linear(4, 6)
    model.other.weight = model.first.weight
    return model


def _hooked():
    model = Around(lambda m, x: m.second(m.first(x)))
    model.first.register_forward_hook(lambda *given: given[-1] + 1)
    return model


def _masked():
    model = Around(lambda m, x: m.second(m.first(x)))
    model.second.register_buffer("connections", torch.ones(2, 6))
    return model


def _replaced():
    model = Around(lambda m, x: m.second(m.first(x)))
    model.second.forward = lambda x: x[..., :2]
    return model


def _one_memory():
    model = Around(lambda m, x: m.second(m.first(x)), second=nn.Linear(6, 4))
    model.second.weight.data = model.first.weight.data.t()
    return model


def _of_parameters(m, x):
    return m.second(m.first(x)) + sum(p.cumsum(0).sum() for p in m.parameters())


def _of_statistics(m, x):
    return m.second(m.norm(m.first(x))) + m.norm.running_mean.cumsum(0).sum()


def _normed(forward, norm):
    model = Around(forward)
    model.norm = norm
    return model


def _shown(m, x):
    m.shown = {"hidden": [m.first(x)]}
    return m.second(m.shown["hidden"][0])


LEFT = {
    "returned too": (Around(lambda m, x: (m.second(y := m.first(x)), y)), "the model returns them"),
    "residual": (Around(lambda m, x: m.second(torch.relu(y := m.first(x)) + y)), "they meet other numbers in 'add'"),
    "added twice": (Around(lambda m, x: m.second((y := m.first(x)) + y)), "they meet other numbers in 'add'"),
    "mixed": (Around(lambda m, x: m.second(m.first(x).softmax(-1))), "they pass 'softmax'"),
    "softmax module": (nn.Sequential(nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 2)), "they pass '1', a Softmax"),
    "layer norm": (nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), "they pass '1', a LayerNorm"),
    "turned": (Around(lambda m, x: m.second(m.first(x).transpose(0, 1))), "they pass 'transpose'"),
    "called twice": (Around(lambda m, x: m.second(m.first(x) * 0 + m.first(x))), "it is called more than once"),
    "reader called twice": (
        Around(lambda m, x: m.second(m.first(x)) + m.second(x), second=nn.Linear(6, 2)),
        "'second', which reads them, is called more than once",
    ),
    "functional use": (
        Around(lambda m, x: m.second(m.first(x)) + F.linear(x, m.first.weight).sum()),
        "it shares a parameter with another place",
    ),
    "tied": (_tied(), "it shares a parameter with another place"),
    "hooked": (_hooked(), "it has hooks, or a forward of its own"),
    "replaced forward": (_replaced(), "'second', which reads them, has hooks, or a forward of its own"),
    "a buffer of its own": (_masked(), "'second', which reads them, has 'connections' beside its weight"),
    "in place": (
        Around(lambda m, x: (F.relu(y := m.first(x), inplace=True), m.second(y))[1]),
        "'relu' changes them in place, and others read them too",
    ),
    "groups": (
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1, groups=2)),
        "'1', which reads them, has groups of channels",
    ),
    "positions flattened with the batch": (
        Around(lambda m, x: m.second(m.first(x).view(-1, 6)), nn.Conv2d(4, 3, 1)),
        "they pass 'view'",
    ),
    "along the width": (
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Linear(6, 2)),
        "'2' reads them along another dimension",
    ),
    "time flattened": (
        nn.Sequential(nn.Linear(4, 6), nn.Flatten(), nn.Linear(18, 2)),
        "'2' has 18 inputs for 6 units",
    ),
    "normalized over what is not known": (
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)),
        "which dimension '1' normalizes is not known: give an example",
    ),
    "normalized over time": (
        nn.Sequential(nn.Flatten(2), nn.Linear(4, 6), nn.BatchNorm2d(6), nn.Linear(6, 2)),
        "'2' normalizes another dimension",
    ),
    "channels flattened with the batch": (
        Around(lambda m, x: m.second(m.first(x).flatten(end_dim=1)), nn.Conv2d(4, 6, 1)),
        "they pass 'flatten'",
    ),
    "flattened by what is not known": (
        Around(lambda m, x: m.second(m.first(x[0]).flatten(1)), nn.Conv2d(4, 6, 1)),
        "which dimensions 'flatten' takes is not known: give an example",
    ),
    "averaged by another word": (
        Around(lambda m, x: m.second(m.first(x).mean(axis=(2, 3))), nn.Conv2d(4, 6, 1)),
        "they pass 'mean'",
    ),
    "channels averaged": (
        Around(lambda m, x: m.second(m.first(x).mean(1, keepdim=True)), nn.Conv2d(4, 6, 1)),
        "they pass 'mean'",
    ),
    "pooled with the channels": (
        nn.Sequential(nn.Conv1d(4, 6, 1), nn.MaxPool2d(1), nn.Conv1d(6, 2, 1)),
        "they pass '1', a MaxPool2d",
    ),
    "read as positions": (
        nn.Sequential(nn.Conv1d(4, 6, 1), nn.Conv2d(6, 2, 1)),
        "'1' reads them along another dimension",
    ),
    "one memory": (_one_memory(), "it shares a parameter with another place"),
    "what the parameters are": (Around(_of_parameters), "it shares a parameter with another place"),
    "what the statistics are": (
        _normed(_of_statistics, nn.BatchNorm1d(6)),
        "'norm' shares a parameter with another place",
    ),
    "shown": (Around(_shown), "the model keeps them in an attribute"),
    "parametrized": (
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Linear(6, 2)),
        "it is a ParametrizedLinear",
    ),
    "not called": (Around(lambda _, x: x), "no call of it is seen"),
    "not read": (Around(lambda m, x: (m.first(x), x)[1]), "nothing reads them"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_cannot_be_proved_is_left_with_its_reason(case):
    model, reason = LEFT[case]
    chains = chains_of(model)
    assert chains.layers == ()
    assert next(iter(chains.left.values())) == reason


def _widths(*widths, **options):
    """Linear layers and BatchNorm1d of some widths."""
    pairs = [
        (nn.Linear(n, m), nn.BatchNorm1d(m, **options), nn.ReLU()) for n, m in zip((4, *widths), widths, strict=False)
    ]
    return nn.Sequential(*(module for pair in pairs for module in pair), nn.Linear(widths[-1], 2))


class Added(nn.Module):
    """What two BatchNorms give is added behind them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second, self.again = (
            _widths(6, 7)[:2],
            nn.ReLU(),
            nn.Linear(6, 7),
            nn.BatchNorm1d(7),
        )
        self.short, self.last = nn.Linear(4, 7), nn.Linear(7, 2)

    def forward(self, x):
        return self.last(self.short(x) + self.again(self.second(self.norm(self.first(x)))))


def _moved_by_a_hook():
    model = _widths(6, 7)
    model[2].register_forward_hook(lambda _, __, y: y.transpose(-1, -2))
    return model


BY_WIDTHS = {
    "two": (lambda: _widths(6, 7), 2),
    "equal ones and another": (lambda: _widths(6, 6, 7), 3),
    "by their statistics": (lambda: _widths(6, 7, affine=False), 2),
    "by their gains": (lambda: _widths(6, 7, track_running_stats=False), 2),
    "added": (Added, 1),
    "equal": (lambda: _widths(6, 6), 0),
    "one": (lambda: _widths(6), 0),
    "without any number": (lambda: _widths(6, 7, affine=False, track_running_stats=False), 0),
    "another time between": (lambda: nn.Sequential(*_widths(6)[:2], nn.Flatten(0, 1), *_widths(6, 7)[3:]), 0),
    "a hook between": (_moved_by_a_hook, 0),
}


@pytest.mark.parametrize("case", BY_WIDTHS)
def test_batchnorms_of_different_widths_have_no_time_of_two_lengths(case):
    make, n_layers = BY_WIDTHS[case]
    chains = chains_of(make())
    assert len(chains.layers) == n_layers
    if not n_layers:
        assert "which dimension '1' normalizes is not known: give an example" in chains.left.values()


@pytest.mark.parametrize("width", [6, 7])
def test_what_widths_prove_is_true(width):
    """Sequences pass where widths are equal, and are refused by torch where they are not."""
    model = _widths(6, width)
    assert (len(chains_of(model).layers) == 2) == (width == 7)
    with contextlib.nullcontext() if width == 6 else pytest.raises(RuntimeError, match="running_mean"):
        model(torch.randn(3, 6, 4))


def test_another_reader_in_training_is_seen():
    def forward(m, x):
        y = m.first(x)
        return m.second(y) + y.sum() if m.training else m.second(y)

    for training in (True, False):
        model = Around(forward).train(training)
        assert chains_of(model).left["first"] == "they pass 'sum'"
        assert model.training == model.first.training == training


def test_hooks_and_a_forward_of_its_own_are_followed_in_the_model_too():
    def other(self, x):
        y = self.first(x)
        return self.second(y) + y.sum()

    replaced = Around(lambda m, x: m.second(m.first(x)))
    replaced.forward = types.MethodType(other, replaced)
    assert chains_of(replaced).left["first"] == "they pass 'sum'"
    lone = Around(lambda m, x: m.second(m.first(x)))
    lone.forward = lambda x: other(lone, x)
    assert chains_of(lone).left["first"] == "they pass 'sum'"
    hooked = Around(lambda m, x: m.second(m.first(x)))
    hooked.register_forward_hook(lambda m, _, y: y + m.first.weight.sum())
    assert chains_of(hooked).left["first"] == "it shares a parameter with another place"
    hooked = Around(lambda m, x: m.second(m.first(x)))
    hooked.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
    assert len(chains_of(hooked).layers) == 1


def test_what_the_models_code_does_while_it_is_followed_is_undone():
    def forward(m, x):
        m.calls.add_(1)
        m.n_calls += 1
        m.seen.append(y := m.first(x))
        m.last = y
        return m.second(y) + torch.ones(2) + torch.rand(2)

    model = Around(forward)
    model.register_buffer("calls", torch.zeros(()))
    model.n_calls, model.seen = 0, []
    attributes, random_before = dict(vars(model)), torch.get_rng_state()
    for example in (None, torch.zeros(3, 4)):
        chains_of(model, example)
        assert vars(model) == attributes
        assert model.seen == []
        assert int(model.calls) == 0
        assert torch.equal(torch.get_rng_state(), random_before)


def test_an_example_stays_as_it_is():
    x = -torch.ones(3, 4)
    chains_of(Around(lambda m, x: m.second(m.first(x.relu_()))), x)
    assert torch.equal(x, -torch.ones(3, 4))


def test_a_forward_may_take_more_than_it_is_given():
    class More(Around):
        def forward(self, x, other=None, *more, **named):
            x = self.first(x)
            if other is not None or more or named:
                x = x + other
            return self.second(x)

    for example in (None, torch.zeros(2, 4)):
        assert [layer.name for layer in chains_of(More(None), example).layers] == ["first"]
    assert chains_of(More(None), (torch.zeros(2, 4), torch.zeros(2, 6))).layers == ()


def test_an_example_shows_that_a_view_flattens():
    model = Around(lambda m, x: m.second(m.first(x).relu().view(-1, 24)), nn.Conv2d(1, 6, 3), nn.Linear(24, 2))
    assert chains_of(model).layers == ()
    (layer,) = chains_of(model, torch.zeros(5, 1, 4, 4)).layers
    assert layer.readings[0].n_columns == 4
    merged = Around(lambda m, x: m.second(m.first(x).relu().view(-1, 12)), nn.Conv2d(1, 6, 3), nn.Linear(12, 2))
    assert chains_of(merged, torch.zeros(5, 1, 4, 4)).layers == ()
    with pytest.raises(OptionError, match="example does not fit the model"):
        sort_units_(model, example=torch.zeros(5, 2, 4, 4))


class Asking(nn.Module):
    """A model that asks for shapes, behind modules that torch.fx does not look into."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, x):
        if x.ndim == 3:
            x = self.attention(x, x, x)[0][:, 0]
        if x.dim() == 2:
            x = x[..., None, None]
        x = self.norm(self.first(x))
        if x.shape[-1] > 1 and not x.numel() % 2:
            x = F.adaptive_max_pool2d(x.relu(), 1)
        return self.second(x.flatten(1))


def test_an_example_decides_what_hangs_on_shapes_and_nothing_is_computed():
    model = Asking()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_before = torch.get_rng_state()
    with pytest.raises(OptionError, match="cannot be followed through the model"):
        chains_of(model)
    for shape, steps in (
        ((3, 2), ["norm"]),
        ((3, 5, 2), ["norm"]),
        ((3, 2, 4, 4), ["norm", "relu", "adaptive_max_pool2d"]),
    ):
        (layer,) = chains_of(model, torch.zeros(shape)).layers
        assert [step.name for step in layer.readings[0].steps] == steps
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_before)


def test_what_hangs_on_numbers_is_refused_with_an_example_too():
    for number in (lambda _, x: x.sum(), lambda _, x: x.sum().item(), lambda m, _: m.first.weight.sum()):
        model = Around(lambda m, x, number=number: m.second(m.first(x)) if number(m, x) > 0 else x)
        with pytest.raises(OptionError, match="cannot be followed through the model"):
            chains_of(model, torch.ones(3, 4))


def test_what_cannot_be_traced_is_refused_by_its_place():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Branch()), nn.Linear(2, 2))
    for function in (dead_units, remove_dead_, sort_units_, chains_of):
        with pytest.raises(
            OptionError, match=r"^the model cannot be followed through '1.0' \(Branch\), because torch.fx"
        ):
            function(model)
        with pytest.raises(OptionTypeError, match=r"model is an int: it must be a torch\.nn\.Module"):
            function(3)


def test_what_a_pruner_holds_is_not_sorted():
    model = mlp()
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(OptionError, match="finalize that first"):
        sort_units_(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    pruner.finalize()
    assert sort_units_(model)


def test_layers_without_units_or_weights():
    assert dead_units(nn.Linear(2, 2)) == sort_units_(nn.ReLU()) == {}
    with torch.device("meta"):
        assert len(chains_of(mlp()).layers) == 2
