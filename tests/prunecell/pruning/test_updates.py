"""When masks are filled, on what evidence, and masks that come from outside."""

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from prunecell import Cubic, KeepZeros, Lowest, Pruner, PruneSpec, Random, Static, global_ranking
from prunecell.criteria import CRITERIA, fisher, needs, needs_of, taylor, wanda
from prunecell.errors import OptionError, OptionTypeError, StateError
from prunecell.evidence import Needs
from prunecell.fillers import Traits


@dataclass(frozen=True, kw_only=True)
class Moving:
    """A constant sparsity, and an update every so many steps: as dynamic sparse training wants it."""

    sparsity: float
    every_steps: int
    moves: ClassVar[bool] = True
    counts_epochs: ClassVar[bool] = False

    def __call__(self, _):
        return self.sparsity

    def update(self, clock):
        return clock.steps // self.every_steps


@dataclass(frozen=True)
class Grow:
    """Keep the larger half of the kept weights, and grow where the gradient of pruned weights is largest (RigL)."""

    traits: ClassVar[Traits] = Traits(needs=Needs.GRADIENT)

    def __call__(self, evidence, sparsity):
        n_kept = evidence.weight.numel() - round(sparsity * evidence.weight.numel())
        keep, score = torch.zeros(evidence.weight.numel(), dtype=torch.bool), evidence.weight.abs().flatten()
        keep[score.topk(n_kept // 2).indices] = True
        keep[evidence.gradient.abs().flatten().masked_fill(keep, -1).topk(n_kept - n_kept // 2).indices] = True
        return keep.view_as(evidence.weight)


def trainer(model, spec, **options):
    solver = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return solver, Pruner(model, spec, optimizer=solver, **options)


def test_masks_move_at_a_constant_sparsity_when_an_update_is_due(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Moving(sparsity=0.75, every_steps=3), filler=Random()))
    seen = [pruner.masks["0.weight"]]
    for _ in range(9):
        mlp.train(solver, pruner, steps=1)
        seen.append(pruner.masks["0.weight"])
    changed = [not torch.equal(*pair) for pair in pairwise(seen)]
    assert not any(changed), "what Random pruned stays pruned, so at a constant sparsity nothing moves"


def test_what_grows_by_gradients_moves_at_a_constant_sparsity(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Moving(sparsity=0.75, every_steps=3), filler=Grow()))
    seen = []
    for _ in range(10):
        mlp.train(solver, pruner, steps=1)
        seen.append(pruner.masks["0.weight"])
        assert pruner.sparsity == pytest.approx(0.75)
    changed = [not torch.equal(*pair) for pair in pairwise(seen)]
    assert changed == [False, True, False, False, True, False, False, True, False]


def test_growing_sees_the_gradients_of_pruned_weights(mlp):
    seen = []

    @needs(Needs.GRADIENT)
    def watched(evidence):
        seen.append((evidence.mask.to_bool(), evidence.gradient.clone()))
        return evidence.weight.abs()

    spec = PruneSpec(schedule=Moving(sparsity=0.5, every_steps=2), filler=Lowest(criterion=watched, revives=True))
    solver, pruner = trainer(mlp.model, {"0.weight": spec})
    mlp.train(solver, pruner, steps=1)
    twin = copy.deepcopy(mlp.model)
    (expected,) = torch.autograd.grad(mlp.loss(twin), twin[0].weight)
    mlp.train(solver, pruner, steps=1)
    mask, gradient = seen[-1]
    assert (~mask).any()
    assert gradient[~mask].any()
    torch.testing.assert_close(gradient, expected)


OF_ONE_STEP = Needs.INPUTS | Needs.GRADIENT | Needs.SQUARED_GRADIENT


@pytest.mark.parametrize("name", [name for name, c in CRITERIA.items() if needs_of(c) and needs_of(c) in OF_ONE_STEP])
def test_what_a_criterion_needs_is_collected_before_an_update_and_only_then(mlp, name):
    filler = Lowest(criterion=CRITERIA[name])
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Moving(sparsity=0.5, every_steps=3), filler=filler))
    assert pruner.sparsity == 0, "nothing is known yet"
    active = []
    for _ in range(8):
        active.append([w.collector.active for w in pruner._weights.values()])
        mlp.train(solver, pruner, steps=1)
        assert pruner.sparsity == 0.5
    assert active == [[on, on] for on in (True, False, True, False, False, True, False, False)]
    pruner.finalize()
    assert not any(w.collector.active for w in pruner._weights.values())
    assert not mlp.model[0]._forward_pre_hooks


def test_those_who_need_nothing_pay_nothing(mlp):
    _, pruner = trainer(mlp.model, PruneSpec(schedule=Cubic(sparsity=0.9, steps=4)))
    assert not any(w.collector.active for w in pruner._weights.values())
    assert not mlp.model[0]._forward_pre_hooks


def watched(mlp):
    """What a criterion finds of the gradients in its last update, and what trains the model and prunes it."""
    found = {}

    @needs(Needs.GRADIENT | Needs.SQUARED_GRADIENT)
    def criterion(evidence):
        found.update(gradient=evidence.gradient.clone(), squares=evidence.squared_gradient.clone())
        return evidence.weight.abs()

    spec = PruneSpec(schedule=Moving(sparsity=0.5, every_steps=1), filler=Lowest(criterion=criterion))
    return found, *trainer(mlp.model, {"0.weight": spec})


def test_accumulated_gradients_are_whole_where_the_mask_prunes(mlp):
    found, solver, pruner = watched(mlp)
    mlp.train(solver, pruner, steps=1)
    assert pruner.sparsity == 0.5
    halves = [
        torch.autograd.grad(nn.functional.cross_entropy(mlp.model(mlp.x[s]), mlp.y[s]), mlp.model[0].weight)[0]
        for s in (slice(0, 8), slice(8, 16))
    ]
    solver.zero_grad()
    for s in (slice(0, 8), slice(8, 16)):
        nn.functional.cross_entropy(mlp.model(mlp.x[s]), mlp.y[s]).backward()
    torch.nn.utils.clip_grad_norm_(mlp.model.parameters(), 1e-3)
    solver.step()
    pruner.step(16)
    torch.testing.assert_close(found["gradient"], halves[0] + halves[1])
    torch.testing.assert_close(found["squares"], halves[0].square() + halves[1].square())


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(3, 2), (5, 7, 3), lambda x: x.flatten(0, 1).norm(dim=0)[None]),
        (nn.Conv2d(4, 6, 3, groups=2), (5, 4, 8, 8), lambda x: x.transpose(0, 1).flatten(1).norm(dim=1)),
        (nn.Conv1d(4, 6, 3), (4, 8), lambda x: x.norm(dim=1)),
    ],
    ids=["linear", "grouped convolution", "one sample"],
)
def test_norms_of_inputs(layer, shape, expected):
    seen = []

    @needs(Needs.INPUTS)
    def watched(evidence):
        seen.append(evidence.input_norms)
        return evidence.weight.abs() * evidence.input_norms

    pruner = Pruner(layer, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=watched)))
    x = torch.randn(shape)
    layer(x)
    pruner.step(1)
    (norms,) = seen
    want = expected(x)
    if isinstance(layer, nn.Conv2d):
        assert norms.shape == (6, 2, 1, 1)
        want = torch.stack([want[:2]] * 3 + [want[2:]] * 3)[:, :, None, None]
    torch.testing.assert_close(norms.expand_as(want) if norms.ndim == want.ndim else norms[0, :, 0], want)
    assert pruner.sparsity == 0.5


def test_a_weight_of_which_nothing_comes_is_refused_and_nothing_is_left_behind(mlp):
    mlp.model[0].weight.requires_grad_(requires_grad=False)
    with pytest.raises(
        OptionError, match=r"the criterion of '0\.weight' needs gradients, and this parameter is frozen"
    ):
        Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    with pytest.raises(OptionError, match=r"needs the inputs of its layer: they are known for .*, not for LSTM"):
        Pruner(nn.LSTM(4, 4), PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=wanda)))
    solver = torch.optim.SGD(mlp.model.parameters(), lr=0.1)
    with pytest.raises(OptionTypeError, match="the filler returned"):
        Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=lambda *_: None), optimizer=solver)
    assert not solver._optimizer_step_pre_hooks
    assert not mlp.model[2].weight._post_accumulate_grad_hooks


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
@pytest.mark.parametrize("criterion", [taylor, fisher, wanda], ids=lambda c: c.__name__)
def test_collecting_goes_on_after_a_resume_with_the_same_bits(mlp, criterion, stop):
    spec = PruneSpec(schedule=Moving(sparsity=0.5, every_steps=3), filler=Lowest(criterion=criterion, revives=True))

    def run(stops):
        task = type(mlp)("mlp")
        solver, pruner = trainer(task.model, spec)
        for steps in stops:
            if steps is None:
                states = copy.deepcopy([x.state_dict() for x in (task.model, solver, pruner)])
                task = type(mlp)("mlp")
                solver, pruner = trainer(task.model, spec)
                for part, state in zip((task.model, solver, pruner), states, strict=True):
                    part.load_state_dict(state)
            else:
                task.train(solver, pruner, steps=steps)
        return task.model.state_dict()

    whole, resumed = run([8]), run([stop, None, 8 - stop])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# ---- whose budget ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:all weights of")
def test_equal_specs_that_are_two_objects_are_two_budgets():
    def layers():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
        model[1].weight.data *= 1e6
        return model

    def spec():
        return PruneSpec(schedule=Static(sparsity=0.5), allocation=global_ranking)

    one = spec()
    together = Pruner(layers(), {"0.weight": one, "1.weight": one}).report().weights
    apart = Pruner(layers(), {"0.weight": spec(), "1.weight": spec()}).report().weights
    assert [w.n_kept for w in together] == [0, 400]
    assert [w.n_kept for w in apart] == [200, 200]


def test_a_global_budget_ranks_as_the_filler_does(mlp):
    spec = PruneSpec(
        schedule=Static(sparsity=0.5), filler=Lowest(criterion=lambda e: -e.weight.abs()), allocation=global_ranking
    )
    before = torch.cat([mlp.model[i].weight.detach().flatten().clone() for i in (0, 2)])
    keep = torch.cat([mask.flatten() for mask in Pruner(mlp.model, spec).masks.values()])
    assert before[keep].abs().max() <= before[~keep].abs().min()


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        (lambda _, s: [s], r"<lambda> returned 1 sparsities for 2 weights"),
        (lambda _, s: [s, 1.5], r"<lambda> returned a sparsity for 2\.weight, which=1\.5 is illegal"),
        (lambda _, s: [s, float("nan")], r"for 2\.weight, which=nan is illegal"),
    ],
)
def test_an_allocation_that_returns_nonsense_is_named(mlp, allocation, message):
    with pytest.raises(OptionError, match=message):
        Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), allocation=allocation))


# ---- masks from outside ----------------------------------------------------------------------------------------------


def test_an_already_sparse_model_keeps_its_zeros(mlp):
    for index, sparsity in ((0, 0.3), (2, 0.7)):
        weight = mlp.model[index].weight
        weight.data[torch.rand_like(weight) < sparsity] = 0
    zeros = {name: int((p == 0).sum()) for name, p in mlp.model.named_parameters() if "weight" in name}
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0), filler=KeepZeros()))
    mlp.train(solver, pruner, steps=5)
    assert {name: int((p == 0).sum()) for name, p in mlp.model.named_parameters() if "weight" in name} == zeros
    pruner.finalize()
    more = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.6), filler=KeepZeros())).report().weights
    assert [w.n_weights - w.n_kept for w in more] == [231, max(zeros["2.weight"], 77)]


def test_a_ticket_keeps_its_mask_while_values_are_rewound(mlp):
    first = copy.deepcopy(mlp.model.state_dict())
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.8)))
    mlp.train(solver, pruner, steps=3)
    ticket = pruner.masks
    mlp.model.load_state_dict(first)
    pruner.zero_pruned_()
    for name, mask in ticket.items():
        assert torch.equal(pruner.masks[name], mask)
        assert torch.equal(mlp.model.get_parameter(name).detach(), first[name] * mask)
    again = Pruner(fresh := mlp.make(), PruneSpec(schedule=Static(sparsity=0)))
    fresh.load_state_dict(first)
    again.set_masks(ticket)
    assert all(torch.equal(again.masks[name], mask) for name, mask in ticket.items())
    assert again.sparsity == pruner.sparsity
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in mlp.model.state_dict().items())


@pytest.mark.parametrize("revives", [False, True])
def test_masks_from_outside_stay_until_an_update_is_due(mlp, revives):
    spec = PruneSpec(schedule=Cubic(sparsity=0.9, steps=8, n_updates=2), filler=Lowest(revives=revives))
    solver, pruner = trainer(mlp.model, spec)
    given = {"0.weight": torch.rand(32, 12) < 0.5}
    pruner.set_masks(given)
    assert pruner.target_sparsity("0.weight") == pytest.approx(float((~given["0.weight"]).float().mean()))
    for step in range(1, 8):
        mlp.train(solver, pruner, steps=1)
        assert torch.equal(pruner.masks["0.weight"], given["0.weight"]) == (step < 4)
        assert not mlp.model[0].weight.detach()[~pruner.masks["0.weight"]].any()


def test_masks_from_outside_for_some_while_the_first_filling_of_the_others_is_pending(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    given = {"0.weight": torch.rand(32, 12) < 0.25}
    pruner.set_masks(given)
    for _ in range(3):
        mlp.train(solver, pruner, steps=1)
        assert torch.equal(pruner.masks["0.weight"], given["0.weight"]), "the schedule asks for nothing new"
        assert int(pruner.masks["2.weight"].sum()) == 64
    assert pruner.target_sparsity("2.weight") == 0.5


@pytest.mark.parametrize("set_to_none", [True, False])
def test_what_was_collected_before_a_zero_grad_is_forgotten(mlp, set_to_none):
    found, solver, pruner = watched(mlp)
    mlp.train(solver, pruner, steps=1)
    (expected,) = torch.autograd.grad(2 * mlp.loss(), mlp.model[0].weight)
    for n_passes in (3, 2):
        solver.zero_grad(set_to_none=set_to_none)
        for _ in range(n_passes):
            mlp.loss().backward()
    solver.step()
    pruner.step(16)
    torch.testing.assert_close(found["gradient"], expected)
    torch.testing.assert_close(found["squares"], expected.square() / 2)


def test_gradients_that_come_by_no_backward_pass_are_collected_too(mlp):
    spec = PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor))
    solver, pruner = trainer(mlp.model, spec)
    for p, g in zip(mlp.model.parameters(), torch.autograd.grad(mlp.loss(), mlp.model.parameters()), strict=True):
        p.grad = g
    solver.step()
    pruner.step(16)
    assert pruner.sparsity == 0.5


def test_a_refill_that_fails_leaves_masks_and_weights(mlp):
    fails = []

    def filler(evidence, _):
        if fails and evidence.name == "2.weight":
            raise KeyboardInterrupt
        return evidence.weight > 0

    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=filler))
    mlp.train(solver, pruner, steps=2)
    before = copy.deepcopy((mlp.model.state_dict(), pruner.state_dict()))
    fails.append(1)
    with pytest.raises(KeyboardInterrupt):
        pruner.refill()
    after = (mlp.model.state_dict(), pruner.state_dict())
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(after[1]["weights"], before[1]["weights"], rtol=0, atol=0)


def test_masks_that_do_not_fit_change_nothing(mlp):
    pruner = Pruner(mlp.model, PruneSpec(schedule=Static(sparsity=0.5)))
    before = mlp.model[0].weight.clone()
    good = torch.zeros(32, 12, dtype=torch.bool)
    for bad, kind, message in [
        ({"1.weight": good}, OptionError, r"name='1\.weight' is illegal: no pruned weight has it; did you mean"),
        ({"2.weight": good}, OptionError, r"the mask of 2\.weight is illegal: its shape is \(32, 12\), not \(4, 32\)"),
        ({"2.weight": torch.zeros(4, 32)}, OptionTypeError, r"must be a bool tensor, not torch\.float32"),
        ({"2.weight": None}, OptionTypeError, r"must be a bool tensor, not NoneType"),
    ]:
        with pytest.raises(kind, match=message):
            pruner.set_masks({"0.weight": good, **bad})
    assert torch.equal(mlp.model[0].weight, before)
    pruner.finalize()
    for late in (lambda: pruner.set_masks({}), pruner.zero_pruned_):
        with pytest.raises(StateError, match="this Pruner was finalized"):
            late()


# ---- what does not come, or is not to be believed --------------------------------------------------------------------


def test_what_is_pruned_stays_pruned_where_nothing_revives(mlp):
    @needs(Needs.GRADIENT)
    def movement(evidence):
        return -evidence.weight * evidence.gradient

    for criterion in (movement, taylor, lambda e: -e.weight.abs()):
        task = type(mlp)("mlp")
        spec = PruneSpec(schedule=Cubic(sparsity=0.9, steps=6), filler=Lowest(criterion=criterion))
        solver, pruner = trainer(task.model, spec)
        before = pruner.masks
        for _ in range(8):
            task.train(solver, pruner, steps=1)
            assert not any((mask & ~before[name]).any() for name, mask in pruner.masks.items())
            before = pruner.masks
        zeros = sum(int((task.model[i].weight == 0).sum()) for i in (0, 2))
        assert pruner.sparsity == pytest.approx(zeros / 512, abs=0.01)


def test_gradients_that_overflowed_are_waited_for(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    for factor in (float("inf"), float("nan")):
        solver.zero_grad()
        (mlp.loss() * factor).backward()
        pruner.step(16)
        assert pruner.sparsity == 0
    mlp.train(solver, pruner, steps=1)
    assert pruner.sparsity == 0.5


def test_what_was_collected_of_one_weight_is_kept_until_that_of_the_others_comes(mlp):
    """Layers that are trained in turn: no step has the gradients of both."""
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    for place in ("0", "2"):
        assert pruner.sparsity == 0
        solver.zero_grad()
        (gradient,) = torch.autograd.grad(mlp.loss(), mlp.model.get_parameter(f"{place}.weight"))
        mlp.model.get_parameter(f"{place}.weight").grad = gradient
        solver.step()
        pruner.step(16)
    assert pruner.sparsity == 0.5


def test_a_layer_that_is_never_used_is_told_of_by_name(mlp):
    model = nn.Sequential(mlp.model, nn.Linear(4, 4))
    solver, pruner = trainer(model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=taylor)))
    with pytest.warns(RuntimeWarning, match=r"no GRADIENT of 1\.weight came in 10 steps, so no mask of this spec"):
        mlp.train(solver, pruner, steps=12, model=mlp.model)
    assert pruner.sparsity == 0


def test_products_of_half_precision_do_not_underflow():
    torch.manual_seed(0)
    weight, gradient = torch.randn(64, 64) * 1e-2, torch.randn(64, 64) * 1e-4
    masks = []
    for dtype in (torch.float16, torch.float32):
        layer = nn.Linear(64, 64, bias=False).to(dtype)
        layer.weight.data = weight.half().to(dtype)
        pruner = Pruner(layer, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=fisher)))
        (layer.weight * gradient.half().to(dtype)).sum().backward()
        pruner.step(1)
        masks.append(pruner.masks["weight"])
    assert float((masks[0] != masks[1]).float().mean()) < 0.01


def test_validation_is_no_training(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=wanda)))
    mlp.model.eval()
    with torch.no_grad():
        mlp.model(torch.randn(50, 12) * 1e6)
    mlp.model.train()
    mlp.train(solver, pruner, steps=1)
    other = type(mlp)("mlp")
    solver, alone = trainer(other.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=wanda)))
    other.train(solver, alone, steps=1)
    assert all(torch.equal(mask, alone.masks[name]) for name, mask in pruner.masks.items())


def test_a_copy_that_collects_has_one_hook_and_lets_go_of_it(mlp):
    solver, pruner = trainer(mlp.model, PruneSpec(schedule=Static(sparsity=0.5), filler=Lowest(criterion=wanda)))
    model, _, other = copy.deepcopy((mlp.model, solver, pruner))
    assert len(model[0]._forward_pre_hooks) == 1
    other.finalize(early=True)
    assert not model[0]._forward_pre_hooks
    assert len(mlp.model[0]._forward_pre_hooks) == 1


def test_states_hold_plain_numbers_only(mlp, tmp_path):
    class Numpy:
        moves, counts_epochs = True, False

        def __call__(self, _):
            return np.float64(0.5)

        def update(self, clock):
            return np.int64(clock.steps)

    for schedule in (Numpy(), Static(sparsity=np.float64(0.5)), Static(sparsity=np.float32(0.5))):
        pruner = Pruner(mlp.make(), PruneSpec(schedule=schedule))
        pruner.step(1)
        torch.save(pruner.state_dict(), tmp_path / "state.pt")
        pruner.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
