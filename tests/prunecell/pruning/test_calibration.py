"""Calibration: masks from batches at once, and nothing else that changes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell import Cubic, Lowest, Pruner, PruneSpec, Static, global_ranking, uniform
from prunecell.criteria import (
    CRITERIA,
    BlockFisher,
    fisher,
    grasp,
    magnitude,
    movement,
    needs,
    needs_of,
    snip,
    synflow,
    taylor,
    wanda,
)
from prunecell.errors import OptionError, OptionTypeError, StateError
from prunecell.evidence import Needs

MADE = {name: value() if isinstance(value, type) else value for name, value in CRITERIA.items()}
NEEDY = [name for name, criterion in MADE.items() if needs_of(criterion)]
ANYWHERE = [
    name for name in NEEDY if not needs_of(MADE[name]) & (Needs.INPUTS | Needs.NORM_SCALE | Needs.SYNAPTIC_FLOW)
]


def half(criterion, sparsity=0.5, *, allocation=uniform, **options):
    filler = Lowest(criterion=criterion, **options)
    return PruneSpec(schedule=Static(sparsity=sparsity), filler=filler, allocation=allocation)


def batches(task, n=2):
    return [(task.x[i::n], task.y[i::n]) for i in range(n)]


def snapshot(model, solver, pruner):
    """All that a calibration leaves alone; of moments those of weights that nobody prunes."""
    moments = [solver.state[p] for key, p in model.named_parameters() if key not in pruner.masks]
    clock = pruner.state_dict()["samples"]
    modes = [module.training for module in model.modules()]
    return copy.deepcopy((dict(model.named_buffers()), [p.grad for p in model.parameters()], modes, moments, clock))


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("name", ANYWHERE)
def test_masks_are_filled_and_nothing_else_changes(task, name, trains):
    solver = torch.optim.Adam(task.model.parameters())
    task.train(solver, steps=1)
    pruner = Pruner(task.model, half(MADE[name]), optimizer=solver)
    task.model.train(trains)
    next(task.model.children()).train(not trains)
    weights = {name: value.clone() for name, value in task.model.named_parameters()}
    before = snapshot(task.model, solver, pruner)
    pruner.calibrate(batches(task), F.cross_entropy)
    assert pruner.sparsity == pytest.approx(0.5, abs=0.01)
    assert_equal(snapshot(task.model, solver, pruner), before)
    masks = pruner.masks
    for key, value in task.model.named_parameters():
        keep = masks.get(key, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value.detach(), torch.where(keep, weights[key], 0.0))
    task.train(solver, pruner, steps=2)
    assert all(not task.model.get_parameter(key).detach()[~mask].any() for key, mask in masks.items())


@pytest.mark.parametrize("name", [name for name in NEEDY if name not in {"norm_scale", "grasp", "synflow"}])
def test_batches_say_what_a_step_of_training_says(mlp, name):
    other = mlp.make()
    other.load_state_dict(mlp.model.state_dict())
    criterion = BlockFisher(n_gradients=1) if name == "BlockFisher" else MADE[name]
    trained, calibrated = (Pruner(model, half(criterion)) for model in (mlp.model, other))
    mlp.loss().backward()
    trained.step(16)
    calibrated.calibrate([(mlp.x, mlp.y)], F.cross_entropy)
    assert all(torch.equal(mask, calibrated.masks[key]) for key, mask in trained.masks.items())


def test_gradients_are_summed_over_the_batches_and_samples_are_the_last(mlp):
    found = {}

    class Watched:
        needs, n_gradients = Needs.GRADIENT | Needs.GRADIENT_SAMPLES, 2

        def __call__(self, evidence):
            found[evidence.name] = evidence.gradient, evidence.gradient_samples
            return evidence.gradient

    pruner = Pruner(mlp.model, half(Watched()))
    each = [torch.autograd.grad(F.cross_entropy(mlp.model(x), y), mlp.model[0].weight)[0] for x, y in batches(mlp, 4)]
    with torch.no_grad():
        pruner.calibrate(batches(mlp, 4), F.cross_entropy)
    torch.testing.assert_close(found["0.weight"][0], sum(each))
    torch.testing.assert_close(found["0.weight"][1], torch.stack(each[2:]))


# ---- rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revives", [False, True])
@pytest.mark.parametrize("name", NEEDY)
def test_rounds_end_at_the_sparsity_and_pass_those_on_the_way(name, revives):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))
    model.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    nn.init.uniform_(model[1].weight)
    weights = {key: value.clone() for key, value in model.named_parameters()}
    seen = []

    def watched(evidence):
        seen.append(evidence.mask.n_pruned / evidence.mask.shape.numel())
        if revives:
            assert torch.equal(evidence.weight, weights[evidence.name]), "pruned weights are judged by their values"
        return MADE[name](evidence)

    watched.needs, watched.n_gradients = needs_of(MADE[name]), 4
    pruner = Pruner(model, half(watched, 0.9, revives=revives))
    pruner.calibrate([(torch.randn(8, 1, 8, 8), torch.arange(8) % 6)], F.cross_entropy, rounds=4)
    assert [round(s, 1) for s in seen[::2]] == [round(1 - 0.1 ** (k / 4), 1) for k in range(4)]
    assert pruner.sparsity == pytest.approx(0.9, abs=0.02)
    for key, mask in pruner.masks.items():
        assert torch.equal(model.get_parameter(key).detach(), torch.where(mask, weights[key], 0.0))
    assert all(w.hidden is None for w in pruner._weights.values())


@pytest.mark.parametrize("revives", [False, True])
def test_iterative_snip_is_the_loop_of_its_paper(mlp, revives):
    """Each round prunes by |w g|, g of the network that the round before left; FORCE judges pruned weights too."""
    twin, rounds = copy.deepcopy(mlp.model), 5
    whole = {i: twin[i].weight.detach().clone() for i in (0, 2)}
    keep = {i: torch.ones_like(w, dtype=torch.bool) for i, w in whole.items()}
    for k in range(1, rounds + 1):
        gradients = dict(zip(whole, torch.autograd.grad(mlp.loss(twin), [twin[i].weight for i in whole]), strict=True))
        for i, weight in whole.items():
            score = (weight * gradients[i]).abs()
            score = score if revives else score.masked_fill(~keep[i], -1)
            n_kept = weight.numel() - -int(-(1 - 0.1 ** (k / rounds)) * weight.numel() // 1)
            keep[i] = torch.zeros(weight.numel(), dtype=torch.bool).scatter_(0, score.flatten().topk(n_kept).indices, 1)
            keep[i] = keep[i].view_as(weight)
            twin[i].weight.data = weight * keep[i]
    pruner = Pruner(mlp.model, half(snip, 0.9, revives=revives))
    pruner.calibrate([(mlp.x, mlp.y)], F.cross_entropy, rounds=rounds)
    assert all(torch.equal(pruner.masks[f"{i}.weight"], keep[i]) for i in whole)


@pytest.mark.filterwarnings("ignore:all weights of")
def test_synflow_in_rounds_keeps_a_path_where_one_round_loses_a_layer():
    n_kept = []
    for rounds in (1, 30):
        torch.manual_seed(0)
        layers = (
            nn.Linear(16, 16),
            nn.ReLU(),
            nn.Linear(16, 64),
            nn.ReLU(),
            nn.Linear(64, 16),
            nn.ReLU(),
            nn.Linear(16, 4),
        )
        model = nn.Sequential(*layers)
        spec = PruneSpec(schedule=Static(sparsity=0.98), filler=Lowest(criterion=synflow), allocation=global_ranking)
        pruner = Pruner(model, spec)
        pruner.calibrate([(torch.randn(1, 16), None)], F.cross_entropy, rounds=rounds)
        n_kept.append([int(mask.sum()) for mask in pruner.masks.values()])
    assert min(n_kept[0]) == 0
    assert min(n_kept[1]) > 5
    assert sum(n_kept[0]) == sum(n_kept[1]) == 47


def test_criteria_that_need_nothing_keep_their_masks(mlp):
    given = torch.rand(4, 32) < 0.5
    pruner = Pruner(mlp.model, {"0.weight": half(snip), "2.weight": half(magnitude)})
    pruner.set_masks({"2.weight": given})
    pruner.calibrate([(mlp.x, mlp.y)], F.cross_entropy, rounds=2)
    assert torch.equal(pruner.masks["2.weight"], given)
    assert int(pruner.masks["0.weight"].sum()) == 192
    alone = Pruner(mlp.make(), half(magnitude))
    with pytest.raises(
        OptionError, match="nothing to calibrate: no criterion of this plan needs more than the weights"
    ):
        alone.calibrate([(mlp.x, mlp.y)], F.cross_entropy)


# ---- mistakes --------------------------------------------------------------------------------------------------------


class Forgets(nn.Module):
    """A model that does not use one of its layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x):
        return self.a(x)


def flaky():
    """A loss that is not finite at its third call."""
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return F.cross_entropy(outputs, targets) * (1.0 if len(calls) < 3 else float("nan"))

    return loss


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.filterwarnings("ignore:all weights of")
def test_a_second_calibration_finds_what_is_pruned_and_leaves_it(mlp, name):
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    pruner = Pruner(mlp.model, half(MADE[name], 0.8, revives=False, allocation=global_ranking), optimizer=solver)
    pruner.calibrate(batches(mlp), F.cross_entropy, rounds=3)
    before = pruner.masks
    mlp.train(solver, pruner, steps=1)
    pruner.calibrate(batches(mlp), F.cross_entropy, rounds=3)
    assert all(torch.equal(mask, before[key]) for key, mask in pruner.masks.items())
    pruner.finalize()


PAIR = [(torch.randn(16, 12), torch.arange(16) % 4)]
WRONG = {
    "no samples": (
        wanda,
        [(PAIR[0][0][:0], PAIR[0][1][:0])],
        F.cross_entropy,
        1,
        OptionError,
        "needs did not come from",
    ),
    "no batches": (taylor, [], F.cross_entropy, 1, OptionError, "batches is illegal: it holds none"),
    "an iterator": (taylor, iter(PAIR), F.cross_entropy, 2, OptionError, "can be read once, and it is read 2 times"),
    "an iterator for GraSP": (grasp, iter(PAIR), F.cross_entropy, 1, OptionError, "it is read 2 times: give a list or"),
    "no pairs": (
        taylor,
        [torch.randn(3, 12)],
        F.cross_entropy,
        1,
        OptionTypeError,
        "a batch is a Tensor: it must be a pair",
    ),
    "a tensor": (taylor, torch.randn(3, 12), F.cross_entropy, 1, OptionTypeError, "batches is a Tensor: it must be"),
    "text": (taylor, "mnist", F.cross_entropy, 1, OptionTypeError, "batches is a str: it must be pairs"),
    "a number": (taylor, 3, F.cross_entropy, 1, OptionTypeError, "batches is an int: it must be pairs"),
    "a class": (taylor, PAIR, nn.CrossEntropyLoss, 1, OptionTypeError, r"give an object of it: CrossEntropyLoss\(\)"),
    "a name": (taylor, PAIR, "cross_entropy", 1, OptionTypeError, "loss='cross_entropy' is illegal: .* not a name"),
    "no scalar": (
        taylor,
        PAIR,
        lambda o, _: o,
        1,
        OptionTypeError,
        "the loss returned .*: it must be a tensor with one",
    ),
    "a number as loss": (taylor, PAIR, lambda o, _: o.sum().item(), 1, OptionTypeError, "the loss returned a float"),
    "detached": (taylor, PAIR, lambda o, _: o.detach().sum(), 1, OptionError, "the loss does not depend on any weight"),
    "not finite": (taylor, PAIR, lambda o, _: o.sum() / 0, 1, OptionError, "the loss of a batch is -?inf: it must be"),
    "no gradient": (taylor, PAIR, lambda o, _: (o - o).sum().sqrt(), 1, OptionError, "gradient of '.*' is not finite"),
    "rounds": (taylor, PAIR, F.cross_entropy, 0, OptionError, "rounds=0 is illegal"),
    "a layer unused": (taylor, PAIR, F.cross_entropy, 1, OptionError, "the loss does not depend on 'b.weight'"),
    "inputs unused": (
        wanda,
        PAIR,
        None,
        1,
        OptionError,
        "the criterion of b.weight needs did not come from the batches",
    ),
    "flow unused": (synflow, PAIR, F.cross_entropy, 1, OptionError, "there is no synaptic flow through 'b.weight'"),
    "in the third round": (fisher, PAIR, flaky, 4, OptionError, "the loss of a batch is nan"),
    "in the third pass": (grasp, PAIR, flaky, 4, OptionError, "the loss of a batch is nan"),
    "movement": (movement, PAIR, flaky, 4, OptionError, "the loss of a batch is nan"),
}


def listening(model, pruner):
    """Who waits for the next step, as a Pruner does until its first masks are filled."""
    return [w.collector.active for w in pruner._weights.values()], [len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("filled", [False, True])
def test_a_mistake_is_told_and_changes_nothing(name, filled):
    criterion, data, loss, rounds, kind, message = WRONG[name]
    torch.manual_seed(0)
    model = Forgets() if "unused" in name else nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    pruner = Pruner(model, half(criterion, revives=True))
    if filled:
        pruner.set_masks({key: torch.rand(mask.shape) < 0.7 for key, mask in pruner.masks.items()})
    before = copy.deepcopy((model.state_dict(), pruner.state_dict()))
    listened = listening(model, pruner)
    with pytest.raises(kind, match=message):
        pruner.calibrate(data, F.mse_loss if loss is None else loss() if loss is flaky else loss, rounds=rounds)
    after = (model.state_dict(), pruner.state_dict())
    assert_equal(after[0], before[0])
    assert_equal(after[1]["weights"], before[1]["weights"])
    assert listening(model, pruner) == listened


def test_a_finalized_pruner_calibrates_nothing(mlp):
    pruner = Pruner(mlp.model, half(taylor))
    pruner.finalize(early=True)
    with pytest.raises(StateError, match="this Pruner was finalized"):
        pruner.calibrate(batches(mlp), F.cross_entropy)


def test_a_network_that_does_not_grow_with_its_weights_has_no_synaptic_flow(task):
    pruner = Pruner(task.model, half(synflow))
    if task.name != "transformer":
        pruner.calibrate(batches(task), F.cross_entropy, rounds=5)
        assert pruner.sparsity == pytest.approx(0.5, abs=0.01)
        return
    with pytest.raises(
        OptionError, match=r"there is (no|an infinite or negative) synaptic flow through '.*': SynFlow is for"
    ):
        pruner.calibrate(batches(task), F.cross_entropy)


def test_inputs_of_several_parts_and_of_whole_numbers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 12), nn.Linear(12, 4)

        def forward(self, words, x):
            return self.out(self.words(words) + x)

    data = [((torch.arange(4), torch.randn(4, 12)), torch.arange(4))]
    pruner = Pruner(Two(), half(taylor))
    pruner.calibrate(data, F.cross_entropy)
    assert pruner.sparsity == 0.5
    with pytest.raises(OptionTypeError, match="the synaptic flow is of inputs that are ones: a Tensor cannot be"):
        Pruner(Two(), half(synflow)).calibrate(data, F.cross_entropy)


def test_a_linear_loss_has_no_second_derivative(mlp):
    found = []

    @needs(Needs.HESSIAN_GRADIENT)
    def watched(evidence):
        found.append(evidence.hessian_gradient)
        return evidence.weight

    model = nn.Linear(12, 4)
    Pruner(model, half(watched)).calibrate([(mlp.x, mlp.y)], lambda o, _: o.sum())
    assert not found[0].any()


def test_a_compiled_model_is_calibrated_as_the_plain_one(mlp):
    plain, wrapped = mlp.make(), mlp.make()
    wrapped.load_state_dict(plain.state_dict())
    for criterion in (wanda, grasp, synflow):
        masks = []
        for model in (plain, torch.compile(wrapped, backend="eager")):
            pruner = Pruner(model, half(criterion))
            pruner.calibrate(batches(mlp), F.cross_entropy)
            masks.append(pruner.masks)
            pruner.finalize()
        assert_equal(*masks)


def test_frozen_weights_have_synaptic_flow_and_no_gradients(mlp):
    mlp.model.requires_grad_(requires_grad=False)
    Pruner(mlp.model, half(synflow)).calibrate(batches(mlp), F.cross_entropy)
    assert int(mlp.model[0].weight.count_nonzero()) == 192
    with pytest.raises(
        OptionError, match=r"the criterion of '0\.weight' needs gradients, and this parameter is frozen"
    ):
        Pruner(mlp.make().requires_grad_(requires_grad=False), half(grasp))


def test_each_weight_gets_what_its_own_criterion_needs():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 32),
    ]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 4))
    nn.init.uniform_(model[1].weight)
    chosen = {"0": "norm_scale", "3": "synflow", "6": "wanda", "8": "grasp", "10": "BlockFisher"}
    data = [(torch.randn(8, 1, 8, 8), torch.arange(8) % 4)]
    pruner = Pruner(model, {f"{place}.weight": half(MADE[name]) for place, name in chosen.items()})
    pruner.calibrate(data, F.cross_entropy)
    for place in chosen:
        assert float(pruner.masks[f"{place}.weight"].float().mean()) == pytest.approx(0.5, abs=0.02)
    assert int((~pruner.masks["0.weight"]).flatten(1).all(1).sum()) == 3, "whole filters, by the scale"


def test_values_that_may_come_back_are_kept_where_the_schedule_goes_on(mlp):
    def made(model):
        schedule = Cubic(sparsity=0.9, start=0.5, steps=4, n_updates=4)
        spec = PruneSpec(schedule=schedule, filler=Lowest(criterion=snip, revives=True))
        solver = torch.optim.SGD(model.parameters(), lr=0.1)
        return solver, Pruner(model, spec, optimizer=solver)

    whole = {key: value.clone() for key, value in mlp.model.named_parameters()}
    solver, pruner = made(mlp.model)
    pruner.calibrate(batches(mlp), F.cross_entropy, rounds=3)
    for key, weight in pruner._weights.items():
        assert torch.equal(weight.values(), whole[key])
        assert len(weight.hidden) == weight.mask.n_pruned
    made(mlp.make())[1].load_state_dict(pruner.state_dict())
    mlp.train(solver, pruner, steps=6)
    assert pruner.sparsity == pytest.approx(0.9, abs=0.01)
