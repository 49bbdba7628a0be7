import math

import pytest
import torch

from n2d2.cells import Conv, Fc, Sequence
from n2d2.error_handler import WrongInputType, WrongValue
from n2d2.solver import SGD, SOLVERS, Adam, build_optimizer, learning_rate, parse_clamping


def stepped(solver, gradients, *, start=1.0):
    """The values of one parameter of two elements through the steps of a solver."""
    cell = Fc(2, 1, solver=solver, no_bias=True)
    with torch.no_grad():
        cell.weight.fill_(start)
    optimizer = build_optimizer([cell], batch_size=10)
    values = []
    for gradient in gradients:
        cell.weight.grad = torch.tensor(gradient).expand(1, 2).clone()
        optimizer.step()
        values.append(cell.weight[0, 0].item())
    return values


def test_plain_sgd():
    assert stepped(SGD(learning_rate=0.1), [1.0, 2.0]) == pytest.approx([0.9, 0.7])


def test_momentum_and_decay_are_n2d2s():
    rate, momentum, decay, w, m, expected = 0.1, 0.9, 0.01, 1.0, 0.0, []
    for gradient in (1.0, -2.0, 0.5):
        m = momentum * m - rate * gradient - rate * decay * w
        w += m
        expected.append(w)
    solver = SGD(learning_rate=rate, momentum=momentum, decay=decay)
    assert stepped(solver, [1.0, -2.0, 0.5]) == pytest.approx(expected, rel=1e-6)


def test_momentum_keeps_the_rate_it_was_made_with():
    solver = SGD(
        learning_rate=1.0,
        momentum=0.5,
        learning_rate_policy="StepDecay",
        learning_rate_step_size=10,
        learning_rate_decay=0.1,
    )
    first, second = stepped(solver, [1.0, 1.0], start=0.0)
    assert first == -1.0
    assert second == pytest.approx(-1.0 - 0.5 - 0.1)


def test_adam_is_torchs():
    gradients = [1.0, -2.0, 0.5, 3.0]
    parameter = torch.nn.Parameter(torch.ones(1))
    reference, expected = torch.optim.Adam([parameter], lr=0.01), []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        reference.step()
        expected.append(parameter.item())
    assert stepped(Adam(learning_rate=0.01), gradients) == pytest.approx(expected, rel=1e-6)


def test_several_batches_make_one_step():
    assert stepped(SGD(learning_rate=0.1, iteration_size=2), [1.0, 3.0, 1.0, 1.0]) == pytest.approx([1, 0.8, 0.8, 0.7])


@pytest.mark.parametrize(
    ("clamping", "low", "high"),
    [("-0.5:0.5", -0.5, 0.5), (True, -1, 1), (":0.2", -math.inf, 0.2), ("0.1:", 0.1, math.inf)],
)
def test_clamping_keeps_values_in_a_range(clamping, low, high):
    down, up = stepped(SGD(learning_rate=1.0, clamping=clamping), [3.0, -9.0])
    assert down == pytest.approx(max(low, min(high, -2.0)))
    assert up == pytest.approx(min(high, down + 9.0))


@pytest.mark.parametrize("clamping", ["1:-1", "abc", "1", "a:b", "nan:1", 5])
def test_a_clamping_that_is_none_is_refused(clamping):
    with pytest.raises(WrongValue, match="clamping="):
        SGD(clamping=clamping)


def test_no_clamping():
    assert parse_clamping("") is parse_clamping(False) is None  # noqa: FBT003 - N2D2 takes a bool


WARM = {"learning_rate_policy": "CosineDecay", "warm_up_duration": 100, "warm_up_lr_frac": 0.2}


@pytest.mark.parametrize(
    ("options", "samples", "updates", "factor"),
    [
        ({}, 10**6, 10**5, 1),
        (
            {"learning_rate_policy": "StepDecay", "learning_rate_step_size": 100, "learning_rate_decay": 0.5},
            250,
            3,
            0.25,
        ),
        ({"learning_rate_policy": "ExponentialDecay", "learning_rate_step_size": 10}, 30, 3, math.exp(-0.3)),
        ({"learning_rate_policy": "InvTDecay", "learning_rate_step_size": 10}, 30, 3, 1 / 1.3),
        ({"learning_rate_policy": "PolyDecay", "max_iterations": 10, "power": 2.0}, 300, 5, 0.25),
        ({"learning_rate_policy": "PolyDecay", "max_iterations": 10, "power": 1.0}, 300, 15, 0),
        ({"learning_rate_policy": "InvDecay", "power": 0.5}, 300, 30, 0.5),
        ({"learning_rate_policy": "CosineDecay", "max_iterations": 400}, 100, 1, (1 + math.cos(math.pi / 4)) / 2),
        ({"learning_rate_policy": "CosineDecay", "max_iterations": 400, "min_decay": 0.1}, 400, 1, 0.1),
        ({"learning_rate_policy": "CosineDecay", "max_iterations": 400, "min_decay": 0.1}, 200, 1, 0.55),
        ({**WARM, "max_iterations": 300}, 0, 0, 0.2),
        ({**WARM, "max_iterations": 300}, 50, 5, 0.6),
        ({**WARM, "max_iterations": 300}, 200, 20, 0.5),
        ({**WARM, "max_iterations": 300, "learning_rate_step_size": 10}, 500, 5, 0.6),
        ({"warm_up_duration": 100}, 0, 0, 1),  # N2D2's warm-up is a part of CosineDecay
    ],
)
def test_learning_rate_policies(options, samples, updates, factor):
    settings = SGD(learning_rate=0.3, **options).settings()
    assert learning_rate(settings, samples=samples, updates=updates) == pytest.approx(0.3 * factor)


def test_the_optimizer_counts_samples_and_shows_its_rate():
    solver = SGD(learning_rate=0.1, learning_rate_policy="StepDecay", learning_rate_step_size=20)
    cell = Fc(2, 1, solver=solver)
    optimizer = build_optimizer([cell], batch_size=10)
    rates = []
    for _ in range(4):
        cell(torch.ones(1, 2)).sum().backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01])
    assert optimizer.param_groups[0]["samples"] == 40


def test_equal_solvers_share_a_group():
    sgd = SGD(momentum=0.9)
    net = Sequence([Conv(1, 2, [3, 3], solver=sgd), Fc(8, 4, weights_solver=sgd, bias_solver=Adam()), Fc(4, 2)])
    groups = build_optimizer(net).param_groups
    assert [(g["solver"], len(g["params"])) for g in groups] == [("SGD", 3), ("Adam", 1), ("SGD", 2)]


def test_parameters_without_a_cell_are_trained_too():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), Fc(2, 1))
    assert sum(len(g["params"]) for g in build_optimizer(net).param_groups) == 4


def test_the_state_is_plain_and_goes_on_bit_for_bit(tmp_path):
    def make():
        torch.manual_seed(0)
        net = Sequence([Fc(4, 3, solver=SGD(momentum=0.9, decay=0.1, iteration_size=2)), Fc(3, 1, solver=Adam())])
        return net, build_optimizer(net, batch_size=3)

    def train(net, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.ones(2, 4)).sum().backward()
            optimizer.step()

    whole, optimizer = make()
    train(whole, optimizer, 7)
    first, optimizer = make()
    train(first, optimizer, 3)
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state")
    second, optimizer = make()
    states = torch.load(tmp_path / "state", weights_only=True)
    second.load_state_dict(states[0], strict=False)
    for parameter, other in zip(second.parameters(), first.parameters(), strict=True):
        parameter.data.copy_(other)
    optimizer.load_state_dict(states[1])
    train(second, optimizer, 4)
    for parameter, other in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_a_closure_is_evaluated():
    cell = Fc(2, 1)
    optimizer = build_optimizer([cell])

    def closure():
        optimizer.zero_grad()
        loss = cell(torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    assert isinstance(optimizer.step(closure), torch.Tensor)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("SGD", {"learning_rate": -1.0}, "learning_rate=-1.0 is illegal"),
        ("SGD", {"momentum": 1.5}, "momentum=1.5"),
        ("SGD", {"learning_rate_policy": "Step"}, "did you mean 'StepDecay'"),
        ("SGD", {"learning_rates": 1.0}, "did you mean 'learning_rate'"),
        ("SGD", {"polyak_momentum": False}, "polyak_momentum=False"),
        ("Adam", {"beta1": 2.0}, "beta1=2.0"),
        ("Adam", {"momentum": 0.9}, "Adam has no parameter 'momentum'"),
        ("SGD", {"learning_rate_policy": 1}, "learning_rate_policy=1 is illegal: it must be a string"),
    ],
)
def test_illegal_settings_are_refused_by_name(kind, options, message):
    with pytest.raises(ValueError, match=message):
        SOLVERS[kind](**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate_policy": "PolyDecay"}, "max_iterations=0 is illegal with learning_rate_policy='PolyDecay'"),
        (
            {"learning_rate_policy": "CosineDecay"},
            "max_iterations=0 is illegal with learning_rate_policy='CosineDecay'",
        ),
        ({**WARM, "max_iterations": 100}, "max_iterations=100 is illegal.*>= 101"),
    ],
)
def test_a_schedule_without_an_end_is_refused_when_learning_begins(options, message):
    solver = SGD(**options)
    with pytest.raises(WrongValue, match=message):
        solver.check()


def one_step(cells):
    for cell in cells:
        with torch.no_grad():
            cell.weight.zero_()
        cell(torch.ones(1, 2)).sum().backward()
        cell.update()
    return [cell.weight[0, 0].item() for cell in cells]


def test_what_is_set_on_a_solver_counts_from_the_next_step_on_in_all_cells_that_have_it():
    shared, own = SGD(learning_rate=1.0), SGD(learning_rate=1.0)
    cells = [Fc(2, 1, weights_solver=one) for one in (shared, shared, own)]
    assert one_step(cells) == [-1, -1, -1]
    shared.learning_rate = 0.5
    assert one_step(cells) == [-0.5, -0.5, -1]
    own.set_parameter("clamping", "-0.25:")
    assert one_step(cells) == [-0.5, -0.5, -0.25]


def test_a_change_keeps_the_momentum_and_parts_a_group_where_it_must():
    one, two = SGD(learning_rate=1.0, momentum=0.5), SGD(learning_rate=1.0, momentum=0.5)
    net = Sequence([Fc(2, 1, weights_solver=one, no_bias=True), Fc(1, 1, weights_solver=two, no_bias=True)])
    optimizer = build_optimizer(net)
    assert len(optimizer.param_groups) == 1

    def step():
        for parameter in net.parameters():
            parameter.data.zero_()
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return [float(parameter.flatten()[0].detach()) for parameter in net.parameters()]

    assert step() == [-1, -1]
    one.learning_rate = 0.25
    assert step() == [-0.75, -1.5]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]
    one.learning_rate = two.learning_rate = 0.0
    assert step() == [0, 0]


def test_a_change_that_does_not_fit_is_told_at_the_next_step():
    cell = Fc(2, 1, solver=SGD())
    one_step([cell])
    cell.weights_solver.learning_rate_policy = "PolyDecay"
    with pytest.raises(WrongValue, match="max_iterations=0 is illegal with learning_rate_policy='PolyDecay'"):
        one_step([cell])


@pytest.mark.parametrize("kind", SOLVERS.values())
def test_a_copy_is_another_solver(kind):
    solver = kind(learning_rate=0.5)
    copied = solver.copy()
    copied.learning_rate = 0.25
    assert (solver.learning_rate, copied.learning_rate, copied.get_type()) == (0.5, 0.25, solver.get_type())


def test_schedules_stand_still_after_max_iterations_as_in_n2d2():
    solver = SGD(
        learning_rate=1.0,
        learning_rate_policy="StepDecay",
        learning_rate_step_size=10,
        learning_rate_decay=0.5,
        max_iterations=2,
    )
    assert stepped(solver, [1.0] * 4, start=0.0) == [-1, -1.5, -1.75, -2]


def test_the_rate_of_an_update_is_that_of_its_first_batch():
    solver = SGD(
        learning_rate=1.0,
        learning_rate_policy="StepDecay",
        learning_rate_step_size=20,
        learning_rate_decay=0.5,
        iteration_size=2,
    )
    assert stepped(solver, [1.0] * 4, start=0.0) == [0, -1, -1, -1.5]


def test_only_solvers_are_solvers():
    with pytest.raises(WrongInputType, match=r"weights_solver=0.1 is illegal: it must be one of SGD, Adam"):
        Fc(2, 2, weights_solver=0.1)
