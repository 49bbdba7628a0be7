"""tune(): the allowance is kept, a search that was killed ends as if it had not been, and mistakes are told."""

import copy
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import prunecell as pc
from prunecell.described import shown
from prunecell.errors import DivergedError, OptionError, OptionTypeError, PlanError
from prunecell.tuning import STRATEGIES
from prunecell.tuning.quality import mean_loss
from prunecell.tuning.search import Search
from prunecell.tuning.strategies import OneShot, PruneAndShare, Rate, Structured
from prunecell.tuning.trials import pareto

QUICK = {"epochs": 2, "watch": None}


@pytest.fixture(scope="module")
def found(trained, data, tmp_path_factory):
    """A whole search by all strategies."""
    return pc.tune(trained, **data, max_drop=2, folder=tmp_path_factory.mktemp("tune"), **QUICK)


def facts(found):
    """All that a search found, without the clock."""
    return [{**vars(trial), "seconds": None, "quality": repr(trial.quality)} for trial in found.trials]


def test_the_file_is_within_the_allowance_and_smaller(trained, data, found):
    dense = pc.evaluate(copy.deepcopy(trained), data["validation"])
    again = pc.load_model(found.path, copy.deepcopy(trained))
    assert pc.evaluate(again, data["validation"]) == found.best.quality >= dense - 0.02
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), found.model.parameters(), strict=True))
    assert found.path.stat().st_size == found.best.n_bytes < found.trials[0].n_bytes
    assert found.ratio == found.dense_bytes / found.best.n_bytes > 1


def test_every_trial_is_judged_by_its_own_file(trained, data, found):
    for trial in found.trials:
        if trial.file:
            again = pc.load_model(found.path.parent / trial.file, copy.deepcopy(trained))
            assert pc.evaluate(again, data["validation"]) == trial.quality
            assert trial.passed == (trial.quality >= found.least)
        else:
            assert trial.stopped
            assert not trial.passed


def test_the_best_is_the_smallest_that_passed_and_the_pareto_set_holds_it(found):
    assert found.best.n_bytes == min(t.n_bytes for t in found.trials if t.passed)
    assert found.pareto == pareto(found.trials)
    assert found.best in found.pareto


def test_all_strategies_had_a_turn(found):
    assert {t.strategy for t in found.trials} == {"dense", *map(shown, STRATEGIES)}


def test_the_model_and_torch_s_random_generator_are_left_alone(trained, data, tmp_path):
    model = copy.deepcopy(trained).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    pc.tune(model, **data, max_drop=1, folder=tmp_path, strategies=[OneShot()], **QUICK)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_and_another_folder_says_nothing(trained, data, found, tmp_path):
    again = pc.tune(trained, **data, max_drop=2, folder=tmp_path, **QUICK)
    assert facts(again) == facts(found)
    assert again.path.read_bytes() == found.path.read_bytes()


class KilledError(Exception):
    """Stands for kill -9."""


CALLS = {"left": math.inf}


def counting_loss(scores, labels):
    CALLS["left"] -= 1
    if CALLS["left"] < 0:
        raise KilledError
    return nn.functional.cross_entropy(scores, labels)


def test_a_search_that_was_killed_anywhere_ends_as_if_it_had_not_been(trained, data, tmp_path, monkeypatch):
    monkeypatch.setattr("prunecell.training.checkpoint.Checkpoint.due", True)  # after every step
    monkeypatch.setattr("os.fsync", lambda _: None)
    few = {"train": data["train"][:5], "validation": data["validation"][:3]}
    CALLS["left"] = math.inf
    strategies = [PruneAndShare(), Rate()]
    whole = pc.tune(
        trained, **few, max_drop=2, folder=tmp_path / "whole", loss=counting_loss, strategies=strategies, **QUICK
    )
    n_kills = 0
    while True:
        CALLS["left"] = 13 if n_kills else 80  # the first 69 try out layers and learning rates
        try:
            killed = pc.tune(
                trained, **few, max_drop=2, folder=tmp_path / "b", loss=counting_loss, strategies=strategies, **QUICK
            )
            break
        except KilledError:
            n_kills += 1
        assert n_kills < 50
    assert n_kills > 3
    same = [{**one, "recipe": None} for one in facts(killed)]
    assert same == [{**one, "recipe": None} for one in facts(whole)]
    assert killed.path.read_bytes() == whole.path.read_bytes()
    assert not [*(tmp_path / "b").glob("*.checkpoint")]


def test_a_search_that_has_ended_is_only_told_again(trained, data, found, monkeypatch):
    monkeypatch.setattr("prunecell.tuning.search.Search._try", None)
    lines = []
    again = pc.tune(trained, **data, max_drop=2, folder=found.path.parent, epochs=2, watch=lines.append)
    assert facts(again) == facts(found)
    assert len(lines) == len(found.trials) + 1


def test_more_minutes_go_on_where_the_time_was_up(trained, data, tmp_path):
    short = pc.tune(trained, **data, max_drop=2, minutes=1e-4, folder=tmp_path, **QUICK)
    assert len(short.trials) == 1
    assert short.best.strategy == "dense"
    longer = pc.tune(trained, **data, max_drop=2, minutes=5, folder=tmp_path, strategies=STRATEGIES, **QUICK)
    assert len(longer.trials) > 3


def test_a_rise_of_the_loss_may_be_the_allowance(trained, data, tmp_path):
    found = pc.tune(trained, **data, max_rise=0.5, folder=tmp_path, strategies=[OneShot()], **QUICK)
    dense = mean_loss(copy.deepcopy(trained), data["validation"], nn.functional.cross_entropy)
    assert found.least == pytest.approx(-1.5 * dense)
    assert -mean_loss(found.model, data["validation"], nn.functional.cross_entropy) == found.best.quality >= found.least
    assert found.best.number


def negative_distance(model, batches):
    model.eval()
    with torch.no_grad():
        return -sum(float((model(x) - y).square().mean()) for x, y in batches)


def test_a_metric_and_a_loss_may_be_anything(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 2))
    batches = [(x, model(x).detach()) for x in torch.randn(6, 16, 6)]
    found = pc.tune(
        model,
        train=batches,
        max_drop=5,
        metric=negative_distance,
        loss=nn.functional.mse_loss,
        folder=tmp_path,
        strategies=[OneShot(), PruneAndShare()],
        **QUICK,
    )
    assert found.trials[0].quality == 0
    assert found.least == pytest.approx(-0.05)
    assert found.best.number


def test_without_validation_a_tenth_is_held_out(trained, data, tmp_path):
    found = pc.tune(trained, train=data["train"], max_drop=2, folder=tmp_path, strategies=[OneShot()], **QUICK)
    assert found.trials[0].quality == pc.evaluate(copy.deepcopy(trained), data["train"][-1:])


def only_first(search, bench, log, _deadline):
    """In place of a search: the first trial of the first strategy."""
    strategy = search.strategies[0]
    return (strategy, strategy.first(bench, log.trials)) if len(log.trials) == 1 else None


GIVEN = {
    "nothing": {},
    "a loss": {"loss": lambda outputs, labels: nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1)},
    "an optimizer": {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)},
}


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_recipe_makes_what_its_trial_made(trained, data, strategy, given, epochs, tmp_path, monkeypatch):
    """Bit for bit without training. A training sees its batches in another order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Search, "_choose", only_first)
    settings = {"max_drop": 90, "seed": 0, "epochs": epochs, "watch": None, "folder": "search", **GIVEN[given]}
    trial = pc.tune(trained, **data, strategies=[strategy], **settings).trials[1]
    names = {"loss": settings.get("loss"), "make_optimizer": settings.get("optimizer")}
    exec(trial.recipe, {"model": copy.deepcopy(trained), "train": data["train"], **names})  # noqa: S102 - our own words
    n_bytes = Path("small.pcell").stat().st_size
    assert n_bytes == trial.n_bytes if not strategy.trains else 0.8 * trial.n_bytes < n_bytes < 1.25 * trial.n_bytes


def test_the_folder_holds_the_log_and_a_file_for_each_trial(found):
    files = {trial.file for trial in found.trials if trial.file}
    assert {path.name for path in found.path.parent.iterdir()} == {"best.pcell", "trials.jsonl", *files}
    assert len((found.path.parent / "trials.jsonl").read_text().splitlines()) == len(found.trials) + 2
    assert json.loads(json.dumps(found.best.recipe)) == found.recipe


# ---- strategies that fail --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A strategy that raises."""

    error: type
    knob: ClassVar[str] = "knob"
    factor: ClassVar[float] = 0.5
    low: ClassVar[float] = 0.1
    high: ClassVar[float] = 1.0
    trains: ClassVar[bool] = True

    def first(self, _bench, _trials):
        return 0.5

    def make(self, _run, _knob):
        raise self.error("it does not fit")

    def recipe(self, _bench, _knob):
        return ""


def test_a_strategy_that_does_not_fit_the_model_is_left_out(trained, data, tmp_path):
    lines = []
    found = pc.tune(
        trained,
        **data,
        max_drop=2,
        epochs=2,
        folder=tmp_path,
        strategies=[Failing(error=PlanError), OneShot()],
        watch=lines.append,
    )
    assert any("is left out: it does not fit" in line for line in lines)
    assert {t.strategy for t in found.trials} == {"dense", "OneShot()"}


class FailingLate(Failing):
    """One that trains before it raises."""

    def make(self, run, _knob):
        run.train(run.bench.make_optimizer(run.model.parameters()), 1)
        raise self.error("it does not fit")


def test_a_strategy_that_fails_after_training_leaves_nothing_to_the_next_one(trained, data, tmp_path):
    strategies = [FailingLate(error=OptionError), Rate()]
    found = pc.tune(trained, **data, max_drop=2, folder=tmp_path, strategies=strategies, **QUICK)
    assert {t.strategy for t in found.trials} == {"dense", "Rate()"}
    assert not [*tmp_path.glob("*.checkpoint")]


def test_a_training_that_diverges_is_a_trial_that_failed(trained, data, tmp_path):
    found = pc.tune(trained, **data, max_drop=2, folder=tmp_path, strategies=[Failing(error=DivergedError)], **QUICK)
    assert [t.stopped for t in found.trials[1:]] == ["diverged"] * (len(found.trials) - 1)
    assert found.best.strategy == "dense"


def counting_metric(model, batches):
    CALLS["left"] -= 1
    if CALLS["left"] < 0:
        raise KilledError
    return pc.evaluate(model, batches)


def slow(parameters):
    return torch.optim.SGD(parameters, lr=1e-9)


def test_a_hopeless_training_is_stopped_and_again_after_a_kill_while_it_is_judged(trained, data, tmp_path):
    few = {"train": data["train"][:3], "validation": data["validation"]}
    settings = {"max_drop": 0.1, "epochs": 4, "strategies": [PruneAndShare()], "optimizer": slow, "watch": None}

    def search(folder, *, n_calls):
        CALLS["left"] = n_calls
        return pc.tune(trained, **few, folder=tmp_path / folder, metric=counting_metric, **settings)

    found = search("whole", n_calls=1000)
    assert "hopeless" in {t.stopped for t in found.trials}
    assert all(not t.file for t in found.trials if t.stopped)
    with pytest.raises(KilledError):
        search("killed", n_calls=1)  # the dense model is judged, and then the first that trains
    assert facts(search("killed", n_calls=1000)) == facts(found)


# ---- mistakes --------------------------------------------------------------------------------------------------------

WRONG = {
    "no allowance": ({"max_drop": None}, "give exactly one of max_drop and max_rise, not none"),
    "both": ({"max_rise": 0.1}, "give exactly one of max_drop and max_rise, not max_drop and max_rise"),
    "negative": ({"max_drop": -1}, "max_drop=-1 is illegal"),
    "text": ({"max_drop": "1"}, "max_drop='1' is illegal: it must be a finite number >= 0"),
    "minutes": ({"minutes": 0}, "minutes=0 is illegal"),
    "epochs": ({"epochs": 0}, "epochs=0 is illegal"),
    "seed": ({"seed": -1}, "seed=-1 is illegal"),
    "folder": ({"folder": ""}, "folder='' is illegal"),
    "train": ({"train": 3}, "train is an int"),
    "validation": ({"validation": iter([])}, "validation is a list_iterator, which can be gone through only once"),
    "strategies": ({"strategies": []}, "strategies is a list: it must be a list of strategies"),
    "a name": ({"strategies": ["OneShot"]}, "strategies holds 'OneShot'"),
    "a class": ({"strategies": [OneShot]}, "strategies holds <class"),
    "twice": ({"strategies": [OneShot(), OneShot()]}, r"strategies holds OneShot\(\) twice"),
    "model": ({"model": 3}, "model is an int"),
    "a metric without a number": ({"metric": lambda *_: "good"}, "metric gave a str"),
    "a metric that is NaN": ({"metric": lambda *_: math.nan}, "the dense model's quality is nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_before_anything_is_written(trained, data, tmp_path, name):
    arguments, message = WRONG[name]
    arguments = {"model": trained, **data, "max_drop": 1, "folder": tmp_path / "new", **QUICK} | arguments
    with pytest.raises((OptionError, OptionTypeError), match=message):
        pc.tune(arguments.pop("model"), **arguments)
    if "metric" not in arguments:
        assert not (tmp_path / "new").exists()


def test_a_folder_has_one_search(trained, data, found):
    with pytest.raises(OptionError, match=r"holds a search with max_drop=2, not 1.0: give another folder"):
        pc.tune(trained, **data, max_drop=1.0, folder=found.path.parent, **QUICK)
    with pytest.raises(OptionError, match="holds a search with model="):
        pc.tune(nn.Sequential(nn.Linear(12, 4)), **data, max_drop=2, folder=found.path.parent, **QUICK)


def test_without_torch_pruning_the_strategy_that_needs_it_is_left_out(trained, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    lines = []
    pc.tune(trained, **data, max_drop=2, epochs=1, folder=tmp_path, strategies=[Structured()], watch=lines.append)
    assert any("Structured() is left out" in line and "prunecell[structured]" in line for line in lines)
