"""Lottery tickets: rounds beside a slow twin, learning rates that start over, runs that go on."""

import copy

import pytest
import torch

from prunecell import Checkpoint, Pruner, PruneSpec
from prunecell.errors import OptionError, OptionTypeError, StateError
from prunecell.fillers import exact_count
from prunecell.schedules import Iterative
from prunecell.training import Rewind
from prunecell.training.fitting import Task, fit

pytestmark = pytest.mark.filterwarnings("ignore::prunecell.errors.UnfinishedWarning")  # they let go halfway

ROUND = 5


class Run:
    """A task that is trained in rounds."""

    def __init__(self, task, *, at=0, weights=True, solver=torch.optim.Adam, fraction=0.5):
        self.task = task
        self.solver = solver(task.model.parameters(), lr=0.02)
        self.rates = torch.optim.lr_scheduler.StepLR(self.solver, 2, gamma=0.5)
        spec = PruneSpec(schedule=Iterative(sparsity=0.8, fraction=fraction, steps=ROUND, begin=at))
        self.pruner = Pruner(task.model, spec, optimizer=self.solver)
        self.rewind = Rewind(
            self.pruner, model=task.model, optimizer=self.solver, beside={"rates": self.rates}, at=at, weights=weights
        )
        self.parts = [task.model, self.solver, self.rates, self.pruner, self.rewind]

    def train(self, steps):
        """Returns the learning rate of each step, and the steps after which the run went back."""
        used, went = [], []
        for _ in range(steps):
            used.append(self.solver.param_groups[0]["lr"])
            self.task.train(self.solver, self.pruner, steps=1)
            self.rates.step()
            if self.rewind.step():
                went.append(self.pruner.steps)
        return used, went


def prune_(model, masks, sparsity):
    """The smallest magnitudes, by sorting all."""
    for name, keep in masks.items():
        sizes = model.get_parameter(name).detach().abs().flatten()
        keep.view(-1)[sizes.sort(stable=True).indices[: exact_count(sparsity, len(sizes))]] = False


class Twin:
    """The plain algorithm: masks multiplied by hand, all states loaded anew in each round."""

    def __init__(self, task, masks):
        self.task, self.masks = task, masks
        self.solver = torch.optim.Adam(task.model.parameters(), lr=0.02)
        self.rates = torch.optim.lr_scheduler.StepLR(self.solver, 2, gamma=0.5)
        self.parts = (task.model, self.solver, self.rates)

    def train(self, steps):
        for _ in range(steps):
            self.solver.zero_grad()
            self.task.loss().backward()
            for name, keep in self.masks.items():
                self.task.model.get_parameter(name).grad.mul_(keep)
            self.solver.step()
            self.rates.step()

    @torch.no_grad()
    def go_back(self, early):
        for part, state in zip(self.parts, copy.deepcopy(early), strict=True):
            part.load_state_dict(state)
        for name, keep in self.masks.items():
            parameter = self.task.model.get_parameter(name)
            for moment in self.solver.state[parameter].values():
                moment.mul_(keep if moment.ndim else 1)
            parameter.mul_(keep)


@pytest.mark.parametrize("at", [0, 3])
def test_a_ticket_is_that_of_the_plain_algorithm(task, at):
    run = Run(copy.deepcopy(task), at=at)
    twin = Twin(task, {name: torch.ones_like(mask) for name, mask in run.pruner.masks.items()})
    _, went = run.train(at + 4 * ROUND)
    assert went == [at + ROUND, at + 2 * ROUND, at + 3 * ROUND]
    twin.train(at)
    early = copy.deepcopy([part.state_dict() for part in twin.parts])
    for sparsity in (0.5, 0.75, 0.8):
        twin.train(ROUND)
        prune_(task.model, twin.masks, sparsity)
        twin.go_back(early)
    twin.train(ROUND)
    assert all(torch.equal(run.pruner.masks[name], keep) for name, keep in twin.masks.items())
    for name, value in run.task.model.state_dict().items():
        torch.testing.assert_close(value, task.model.state_dict()[name], msg=name)


@pytest.mark.parametrize("at", [0, 2])
def test_rewinding_the_learning_rate_keeps_the_weights(mlp, at):
    run = Run(mlp, at=at, weights=False)
    first, _ = run.train(at + ROUND - 1)
    before, moments = copy.deepcopy(mlp.model.state_dict()), copy.deepcopy(run.solver.state_dict()["state"])
    lr = run.solver.param_groups[0]["lr"]
    mlp.train(run.solver, run.pruner, steps=1)
    kept = {name: p.detach().clone() for name, p in mlp.model.named_parameters()}
    assert run.rewind.step()
    assert all(torch.equal(p, kept[name]) for name, p in mlp.model.named_parameters())
    assert not torch.equal(before["0.weight"], kept["0.weight"])
    assert run.solver.state_dict()["state"].keys() == moments.keys()
    assert float(run.solver.state[mlp.model[0].weight]["step"]) == at + ROUND
    second, went = run.train(ROUND)
    assert went == [at + 2 * ROUND]
    assert second == [*first, lr][at:]
    assert run.rates.last_epoch == at


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("stop", [1, 3, 5, 7, 12, 16])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(mlp, weights, stop, tmp_path):
    make = lambda: Run(type(mlp)("mlp"), at=2, weights=weights)  # noqa: E731
    whole, stopped, resumed = make(), make(), make()
    rates, _ = whole.train(20)
    stopped.train(stop)
    torch.save([part.state_dict() for part in stopped.parts], tmp_path / "run.pt")
    for part, state in zip(resumed.parts, torch.load(tmp_path / "run.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    assert resumed.train(20 - stop)[0] == rates[stop:]
    ends = [run.task.model.state_dict() for run in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_it_goes_with_fit_and_its_checkpoint(mlp, tmp_path):
    class StopHereError(Exception):
        pass

    def run(stop=None, checkpoint=None):
        task = type(mlp)("mlp")
        made = Run(task)
        beside = {"rewind": made.rewind, "rates": made.rates}

        def watch(progress):
            made.rewind.step()
            if progress.total_samples == stop:
                raise StopHereError

        fit(
            Task(
                model=task.model,
                optimizer=made.solver,
                train=lambda _: [(task.x, task.y)] * 4,
                keeper=made.pruner,
                beside=beside,
            ),
            4,
            checkpoint=checkpoint,
            watch=watch,
        )
        return task.model.state_dict()

    whole = run()
    kept = Checkpoint(path=tmp_path / "run.checkpoint", every_seconds=0.000001)
    with pytest.raises(StopHereError):
        run(stop=16 * 11, checkpoint=kept)
    resumed = run(checkpoint=kept)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_pruning_before_the_early_state_is_refused(mlp):
    run = Run(mlp, at=0)
    run.rewind = Rewind(run.pruner, model=mlp.model, optimizer=run.solver, at=7)
    with pytest.raises(StateError, match="weights were pruned at step 5, before step 7, to whose state they are to go"):
        run.train(6)
    with pytest.raises(OptionError, match="at=2 is illegal: the pruner has made 5 steps already"):
        Rewind(run.pruner, model=mlp.model, optimizer=run.solver, at=2)
    with pytest.raises(OptionError, match="at=-1 is illegal"):
        Rewind(run.pruner, model=mlp.model, optimizer=run.solver, at=-1)
    with pytest.raises(OptionError, match="beside has 'model', which is an argument of its own"):
        Rewind(run.pruner, model=mlp.model, optimizer=run.solver, at=9, beside={"model": run.rates})


def test_another_model_than_the_pruners_is_refused_and_a_wrapper_is_not(mlp):
    run = Run(mlp)
    for other in copy.deepcopy(mlp.model), torch.nn.Linear(2, 2):
        with pytest.raises(OptionError, match="model is another one than that of the pruner"):
            Rewind(run.pruner, model=other, optimizer=run.solver)
    Rewind(run.pruner, model=torch.nn.Sequential(mlp.model), optimizer=run.solver)
    run.pruner.finalize()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pruner": None}, "pruner is a NoneType: it must be a Pruner"),
        ({"model": None}, "model is a NoneType: it must have a state_dict and a load_state_dict"),
        ({"optimizer": "adam"}, "optimizer is a str: it must have"),
        ({"beside": {"rates": 0.1}}, "rates is a float: it must have"),
        ({"beside": [1]}, "beside is a list: it must be a mapping"),
    ],
)
def test_what_cannot_go_back_is_refused_by_name(mlp, given, message):
    run = Run(mlp)
    parts = {"pruner": run.pruner, "model": mlp.model, "optimizer": run.solver, **given}
    with pytest.raises(OptionTypeError, match=message):
        Rewind(parts.pop("pruner"), **parts)
    run.pruner.finalize()


@pytest.mark.parametrize("weights", [True, False])
def test_a_wrong_state_is_refused_and_changes_nothing_or_is_taken(mlp, mutants, state_refusal, weights):
    rewind = Run(mlp, weights=weights, solver=torch.optim.SGD).rewind
    n_refused = 0
    for changed in mutants(rewind.state_dict()):
        before = rewind._early
        if message := state_refusal(rewind, changed):
            n_refused += 1
            assert len(message) < 2000
            assert rewind._early is before
            assert rewind._sparsity == 0
        else:
            rewind._sparsity, rewind._early = 0, before
    assert n_refused > 100
