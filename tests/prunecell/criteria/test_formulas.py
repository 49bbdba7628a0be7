"""Each criterion against its paper's formula, computed slowly; on tiny networks, from what the engine collects."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell import Lowest, Pruner, PruneSpec, Static
from prunecell.bits.mask import Mask
from prunecell.criteria import (
    BlockFisher,
    fisher,
    fpgm,
    grasp,
    keys_of,
    movement,
    needs_of,
    norm_scale,
    ria,
    snip,
    synflow,
    taylor,
    wanda,
)
from prunecell.errors import OptionError, OptionTypeError
from prunecell.evidence import Evidence, Needs


def net():
    torch.manual_seed(0)
    layers = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)
    return nn.Sequential(*layers).double()


def batches(n=3):
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5, 3, generator=draw, dtype=torch.float64), torch.randint(3, (5,), generator=draw))
        for _ in range(n)
    ]


def scores(model, criterion, data, loss=F.cross_entropy):
    """What a criterion says of every weight, when the model is calibrated."""
    found = {}

    def watched(evidence: Evidence):
        found[evidence.name] = keys_of(criterion, evidence).scores().clone()
        return found[evidence.name]

    watched.needs = needs_of(criterion)
    watched.n_gradients = getattr(criterion, "n_gradients", 0)
    pruner = Pruner(model, PruneSpec(schedule=Static(sparsity=0), filler=Lowest(criterion=watched)))
    if needs_of(criterion):
        pruner.calibrate(data, loss)
    return found


def sum_of_losses(model, data):
    return sum(F.cross_entropy(model(x), y) for x, y in data)


def hessian(model, data):
    """All second derivatives of the sum of the losses by the weights, without biases: (n, n), and the gradient (n,)."""
    weights = [model[0].weight, model[2].weight]
    gradient = torch.cat(
        [g.flatten() for g in torch.autograd.grad(sum_of_losses(model, data), weights, create_graph=True)]
    )
    rows = [torch.cat([r.flatten() for r in torch.autograd.grad(one, weights, retain_graph=True)]) for one in gradient]
    return torch.stack(rows), gradient.detach()


def flat(found):
    return torch.cat([found["0.weight"].flatten(), found["2.weight"].flatten()])


def test_taylor_and_snip_are_the_gradient_of_a_gate_before_each_weight():
    model, data = net(), batches()
    gates = [torch.ones_like(model[i].weight, requires_grad=True) for i in (0, 2)]
    gated = {f"{i}.weight": model[i].weight.detach() * gate for i, gate in zip((0, 2), gates, strict=True)}
    loss = sum(F.cross_entropy(torch.func.functional_call(model, gated, x), y) for x, y in data)
    expected = torch.cat([g.abs().flatten() for g in torch.autograd.grad(loss, gates)])
    for criterion in (taylor, snip):
        torch.testing.assert_close(flat(scores(net(), criterion, data)), expected)


def test_grasp_is_the_weight_times_the_explicit_hessian_times_the_gradient():
    data = batches()
    matrix, gradient = hessian(net(), data)
    weights = flat({f"{i}.weight": net()[i].weight.detach() for i in (0, 2)})
    torch.testing.assert_close(flat(scores(net(), grasp, data)), weights * (matrix @ gradient))


def test_grasp_tells_which_removals_shrink_the_gradient():
    """A small part of a weight is taken away: |g|^2 changes by -2 times the part of the score."""
    data, part = batches(), 1e-5
    found = flat(scores(net(), grasp, data))
    before = hessian(net(), data)[1].square().sum()
    for index in range(0, len(found), 5):
        model = net()
        weight, at = (model[0].weight, index) if index < 12 else (model[2].weight, index - 12)
        weight.data.view(-1)[at] *= 1 - part
        change = hessian(model, data)[1].square().sum() - before
        torch.testing.assert_close(change, -2 * part * found[index], rtol=1e-3, atol=1e-9)


def test_synflow_is_what_flows_through_each_weight_of_the_network_of_sizes():
    model = net()
    first, last = model[0].weight.detach().abs(), model[2].weight.detach().abs()
    model[1] = nn.ReLU()
    found = scores(model, synflow, batches(1))
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(found["0.weight"], (ones @ last)[:, None] * first)
    torch.testing.assert_close(found["2.weight"], last * (first @ ones)[None])


class Normed(nn.Module):
    """Convolutions, BatchNorm with statistics of training, pooling, biases."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.norm, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)
        self.c = nn.Linear(3, 5)
        for _ in range(3):
            self.norm(torch.randn(4, 4, 3, 3) * 3 + 1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.a(x))), 2)
        return self.c(F.relu(self.b(x)).mean((2, 3)))


def test_as_much_synaptic_flow_goes_through_each_layer_whatever_was_trained():
    """The conservation law, by which no layer is ever pruned whole before the others (Tanaka 2020, theorem 2)."""
    model = Normed()
    assert model.norm.running_mean.any()
    assert model.a.bias.any()
    found = scores(model, synflow, [(torch.randn(7, 2, 8, 8), None)])
    sums = torch.stack([found[f"{name}.weight"].sum() for name in "abc"])
    torch.testing.assert_close(sums, sums[:1].expand(3))


def test_fisher_is_the_sum_of_squares():
    model, data = net(), batches()
    squares = sum(torch.autograd.grad(F.cross_entropy(model(x), y), model[0].weight)[0].square() for x, y in data)
    expected = model[0].weight.detach().square() * squares
    torch.testing.assert_close(scores(net(), fisher, data)["0.weight"], expected)


@pytest.mark.parametrize("block", [1, 2, 5, 12, 50])
def test_block_fisher_is_what_the_explicit_inverse_says(block):
    model, data = net(), batches(4)
    samples = torch.stack(
        [torch.autograd.grad(F.cross_entropy(model(x), y), model[0].weight)[0].flatten() for x, y in data]
    )
    weight, expected = model[0].weight.detach().flatten(), []
    for start in range(0, 12, block):
        part = samples[:, start : start + block]
        matrix = 1e-3 * torch.eye(part.shape[1], dtype=torch.float64)
        for sample in part:
            matrix += torch.outer(sample, sample) / len(samples)
        inverse = torch.linalg.inv(matrix)
        expected += [weight[start + q] ** 2 / (2 * inverse[q, q]) for q in range(part.shape[1])]
    found = scores(net(), BlockFisher(block_size=block, damping=1e-3), data)["0.weight"]
    torch.testing.assert_close(found.flatten(), torch.stack(expected))


def test_block_fisher_is_the_least_that_the_loss_grows_when_the_others_make_up_for_a_weight():
    """With w_q = 0 and the rest free: min over d of d^T F d / 2 is the score (optimal brain surgeon)."""
    torch.manual_seed(0)
    samples, weight = torch.randn(6, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    matrix = samples.mT @ samples / 6 + 1e-2 * torch.eye(4)
    found = BlockFisher(damping=1e-2)(_with_samples(weight, samples))
    for q in range(4):
        others = [i for i in range(4) if i != q]
        d = torch.empty(4, dtype=torch.float64)
        d[q] = -weight[q]
        d[others] = torch.linalg.solve(matrix[others][:, others], matrix[others, q] * weight[q])
        torch.testing.assert_close(found[q], d @ matrix @ d / 2)


def _with_samples(weight, samples):
    return Evidence(
        name="w",
        weight=weight,
        mask=Mask.full(weight.shape),
        generator=torch.Generator(),
        collected={Needs.GRADIENT_SAMPLES: samples},
    )


def test_block_fisher_with_no_room_for_its_damping_says_so():
    samples = torch.ones(3, 4, dtype=torch.float64) * 1e30
    with pytest.raises(
        OptionError, match=r"damping=1e-07 is illegal for 'w': too small beside squared gradients of 1e"
    ):
        BlockFisher()(_with_samples(torch.ones(4), samples))


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"block_size": 0}, OptionError, "block_size=0 is illegal"),
        ({"damping": 0}, OptionError, "damping=0 is illegal"),
        ({"n_gradients": 0}, OptionError, "n_gradients=0 is illegal"),
        ({"block": 3}, OptionTypeError, "BlockFisher has no field 'block'; did you mean 'block_size'"),
    ],
)
def test_wrong_fields_of_block_fisher_are_refused(values, kind, message):
    with pytest.raises(kind, match=message):
        BlockFisher(**values)


def test_wanda_and_ria_by_loops():
    data = batches()
    x = torch.cat([x for x, _ in data])
    weight = net()[0].weight.detach().abs()
    norms = [float(x[:, j].square().sum()) ** 0.5 for j in range(3)]
    sizes = torch.tensor([[float(weight[i, j]) * norms[j] for j in range(3)] for i in range(4)])
    torch.testing.assert_close(scores(net(), wanda, data)["0.weight"].float(), sizes)
    relative = torch.tensor(
        [
            [
                float(weight[i, j] / weight[:, j].sum() + weight[i, j] / weight[i].sum()) * norms[j] ** 0.5
                for j in range(3)
            ]
            for i in range(4)
        ]
    )
    torch.testing.assert_close(scores(net(), ria, data)["0.weight"].float(), relative)


def test_a_row_of_zeros_has_no_relative_importance():
    model = net()
    model[0].weight.data[1] = 0
    found = scores(model, ria, batches())["0.weight"]
    assert not found[1].any()
    assert found.isfinite().all()


def test_fpgm_by_loops():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 5, 3, bias=False)
    found = scores(layer, fpgm, None)["weight"]
    filters = layer.weight.detach().double()
    for i in range(5):
        distance = sum(float((filters[i] - filters[j]).square().sum()) ** 0.5 for j in range(5))
        torch.testing.assert_close(found[i], torch.full_like(found[i], distance))


def test_norm_scale_is_the_size_of_gamma_in_all_of_a_row():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4))
    nn.init.normal_(model[1].weight)
    found = scores(model, norm_scale, [(torch.randn(2, 2, 5, 5), None)])["0.weight"]
    assert torch.equal(found, model[1].weight.detach().abs()[:, None, None, None].expand(4, 2, 3, 3))


@pytest.mark.parametrize("revives", [False, True])
def test_movement_is_the_sum_over_all_steps_of_minus_weight_times_gradient(revives):
    """The weights are the hidden ones, the gradients those of the pruned network, in every step since the beginning."""
    seen, expected = [], torch.zeros(4, 3, dtype=torch.float64)

    def watched(evidence):
        seen.append(evidence.movement.clone())
        return movement(evidence)

    watched.needs = needs_of(movement)
    model, data = net(), batches(6)
    solver = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    spec = PruneSpec(schedule=lambda clock: clock.steps // 2 / 10, filler=Lowest(criterion=watched, revives=revives))
    pruner = Pruner(model, {"0.weight": spec}, optimizer=solver)
    for step, (x, y) in enumerate(data, 1):
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), model[0].weight)
        (weight,) = (w.values().clone() for w in pruner._weights.values())
        expected -= weight * gradient
        solver.zero_grad()
        for half in (slice(0, 2), slice(2, 5)):
            (F.cross_entropy(model(x[half]), y[half]) * (len(y[half]) / 5)).backward()
        solver.step()
        pruner.step(5)
        if step % 2 == 0 or step == 1:
            torch.testing.assert_close(seen[-1], expected)
    assert len(seen) == 4
    assert pruner.sparsity > 0
