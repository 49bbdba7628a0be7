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
from prunecell.errors import DivergedError, FormatError, OptionError, OptionTypeError, PlanError
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
    assert len(lines) == len(found.trials) + 4  # what is enough, the head, the end, the file


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
    strategy = search.problem.strategies[0]
    return (strategy, strategy.first(bench, log.trials)) if len(log.trials) == 1 else None


GIVEN = {
    "nothing": {},
    "a loss": {"loss": lambda outputs, labels: nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1)},
    "no validation data": {"validation": None},
    "an optimizer": {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)},
}


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_recipe_makes_what_its_trial_made(trained, data, strategy, given, epochs, tmp_path, monkeypatch):
    """Bit for bit, whatever torch's random generator has drawn before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Search, "_choose", only_first)
    samples = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*data["train"], strict=True)))
    shuffled = torch.utils.data.DataLoader(samples, 32, shuffle=True)
    settings = {"max_drop": 90, "seed": 3, "epochs": epochs, "watch": None, "folder": "search"} | GIVEN[given]
    validation = settings.pop("validation", data["validation"])
    model = nn.Sequential(trained, nn.Dropout(0.2))
    found = pc.tune(model, train=shuffled, validation=validation, strategies=[strategy], **settings)
    torch.rand(7)
    names = {"loss": settings.get("loss"), "make_optimizer": settings.get("optimizer")}
    exec(found.trials[1].recipe, {"model": copy.deepcopy(model), "train": shuffled, **names})  # noqa: S102 - our own words
    assert Path("small.pcell").read_bytes() == Path("search", found.trials[1].file).read_bytes()


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
    "a seed beyond torch's": (
        {"seed": 1 << 64},
        r"seed=\d+ is illegal: it must be a whole number in \[0, 4294967295\]",
    ),
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
    "a metric that is none": ({"metric": "accuracy"}, "metric='accuracy' is illegal: it must be a function, not a str"),
    "loss": ({"loss": None}, "loss=None is illegal: it must be a function"),
    "optimizer": ({"optimizer": 0.1}, r"optimizer=0\.1 is illegal: it must be a function"),
    "watch": ({"watch": "print"}, "watch='print' is illegal"),
    "a metric beside a loss": (
        {"max_drop": None, "max_rise": 0.1, "metric": pc.evaluate},
        "metric= is illegal with max_rise=, which is of the loss",
    ),
    "labels that are floats": (
        {"validation": [(torch.randn(4, 12), torch.ones(4, 1))]},
        r"the labels are of torch\.float32: .*give a metric= of yours .*max_rise=",
    ),
    "labels of one class": (
        {"model": nn.Linear(12, 1), "validation": [(torch.randn(4, 12), torch.ones(4, dtype=torch.int64))]},
        r"scores of shape \(4, 1\) are of 1 class",
    ),
    "labels of another shape": (
        {"validation": [(torch.randn(4, 12), torch.ones(4, 4, dtype=torch.int64))]},
        r"scores of shape \(4, 4\) do not fit labels of shape \(4, 4\)",
    ),
    "a loss below zero": (
        {"max_drop": None, "max_rise": 0.1, "loss": lambda x, y: nn.functional.cross_entropy(x, y) - 9},
        r"max_rise=0\.1 is relative, and the dense model's loss is -8\..*, which is not above zero: give metric=",
    ),
    "a loss of zero": (
        {"max_drop": None, "max_rise": 0.1, "loss": lambda x, _: 0 * x.mean()},
        "the dense model's loss is 0, which is not above zero",
    ),
    "a loss for each sample": (
        {"max_drop": None, "max_rise": 0.1, "loss": nn.CrossEntropyLoss(reduction="none")},
        r"loss gave a Tensor of shape \(32,\): it must give a scalar",
    ),
    "labels of 32 bits": (
        {"train": [(torch.randn(4, 12), torch.ones(4, dtype=torch.int32))]},
        r"the loss fails on outputs of shape \(4, 4\) with the labels of train, torch\.int32 .*; classes are labels\.",
    ),
    "pixels": (
        {"validation": [(torch.ones(4, 12, dtype=torch.uint8), torch.ones(4, dtype=torch.int64))]},
        r"the model fails on the inputs of validation, torch\.uint8 of shape \(4, 12\): .*inputs\.float\(\) / 255",
    ),
    "inputs of another shape": (
        {"train": [(torch.randn(4, 3, 4), torch.ones(4, dtype=torch.int64))]},
        r"the model fails on the inputs of train, torch\.float32 of shape \(4, 3, 4\): 'mat1 and mat2",
    ),
    "a loss of other outputs": (
        {"loss": nn.functional.binary_cross_entropy_with_logits},
        r"the loss fails on outputs of shape \(32, 4\) with the labels of train, torch\.int64 .*: 'Target size",
    ),
    "a metric of a model": (
        {"metric": lambda _: 1.0},
        r"metric is illegal: it must be a function of \(model, batches\), which it does not take",
    ),
    "a loss of outputs": ({"loss": lambda _: 1.0}, r"loss is illegal: it must be a function of \(outputs, labels\)"),
    "nothing to train": (
        {"model": nn.Linear(12, 4).requires_grad_(False)},  # noqa: FBT003 - torch's
        r"no parameter that requires a gradient, and Rate\(\), Structured\(\), PruneAndShare\(\) would train it",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_before_anything_is_written(trained, data, tmp_path, name):
    arguments, message = WRONG[name]
    arguments = {"model": trained, **data, "max_drop": 1, "folder": tmp_path / "new", **QUICK} | arguments
    with pytest.raises((OptionError, OptionTypeError), match=message):
        pc.tune(arguments.pop("model"), **arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", ["file", "file/in/it", "link"])
def test_a_folder_that_cannot_be_is_told_before_anything_is_measured(trained, data, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OptionError, match=r"folder='.*' is illegal: .*(file|link) is there already, and no folder"):
        pc.tune(trained, **data, max_drop=1, folder=tmp_path / where, metric=lambda *_: 1 / 0, **QUICK)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_frozen_model_is_pruned_by_what_does_not_train(trained, data, tmp_path):
    frozen = copy.deepcopy(trained).requires_grad_(False)  # noqa: FBT003
    assert pc.tune(frozen, **data, max_drop=5, folder=tmp_path, strategies=[OneShot()], **QUICK).best.number


def test_a_search_that_failed_before_its_first_trial_has_no_claim_to_the_folder(trained, data, tmp_path):
    with pytest.raises(OptionTypeError, match="loss gave a Tensor"):
        pc.tune(trained, **data, max_drop=1, folder=tmp_path, loss=nn.CrossEntropyLoss(reduction="none"), **QUICK)
    assert pc.tune(trained, **data, max_drop=1, folder=tmp_path, strategies=[OneShot()], **QUICK).trials


def turned(batches, **how):
    return [(inputs * how.get("by", 1), (labels + how.get("up", 0)) % 4) for inputs, labels in batches]


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize("how", [{"by": 2}, {"up": 1}], ids=str)
def test_other_data_is_another_search(trained, data, found, name, how):
    other = {**data, name: turned(data[name], **how)}
    with pytest.raises(OptionError, match=f"holds a search with {name}='batches: .*, not .*: give another folder"):
        pc.tune(trained, **other, max_drop=2, folder=found.path.parent, **QUICK)


class Passes:
    """A loader that can only be gone through."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_data_that_cannot_be_looked_at_is_known_by_the_dense_model(trained, data, tmp_path):
    settings = {"train": data["train"], "max_drop": 2, "folder": tmp_path, "strategies": [OneShot()], **QUICK}
    first = pc.tune(trained, validation=Passes(data["validation"]), **settings)
    with pytest.raises(
        OptionError, match=r"the dense model had \d+\.\d+%, not \d\.\d+%: its validation data, the metric"
    ):
        pc.tune(trained, validation=Passes(turned(data["validation"], up=1)), **settings)
    assert facts(pc.tune(trained, validation=Passes(data["validation"]), **settings)) == facts(first)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_best_file_that_is_gone_is_told(trained, data, tmp_path, damage):
    settings = {**data, "max_drop": 2, "folder": tmp_path, "strategies": [OneShot()], **QUICK}
    found = pc.tune(trained, **settings)
    damage(tmp_path / found.best.file)
    with pytest.raises(FormatError, match=rf"{found.best.file}, the best file of the search, is not there, or not"):
        pc.tune(trained, **settings)


class Samples(torch.utils.data.IterableDataset):
    """Samples without a number."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for inputs, labels in self.batches:
            yield from zip(inputs, labels, strict=True)


@pytest.mark.parametrize("strategy", [Rate(), PruneAndShare()], ids=repr)
def test_a_stream_is_counted_by_going_through_it(trained, data, strategy, tmp_path, monkeypatch):
    monkeypatch.setattr(Search, "_choose", only_first)
    monkeypatch.chdir(tmp_path)
    loader = torch.utils.data.DataLoader(Samples(data["train"]), 32)
    settings = {"max_drop": 90, "folder": tmp_path / "tune", "strategies": [strategy], **QUICK}
    trial = pc.tune(trained, train=loader, validation=data["validation"], **settings).trials[1]
    listed = pc.tune(trained, **data, **settings | {"folder": tmp_path / "list"}).trials[1]
    assert trial.n_bytes == listed.n_bytes
    exec(trial.recipe, {"model": copy.deepcopy(trained), "train": loader})  # noqa: S102 - our own words
    assert Path("small.pcell").exists()


@pytest.mark.filterwarnings("ignore:.*is pruned, not:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:the dense model:UserWarning")  # it is not trained
def test_a_weight_under_a_norm_is_hinted_at(data, tmp_path):
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(12, 64))
    model, lines = nn.Sequential(normed, nn.ReLU(), nn.Linear(64, 4)), []
    settings = {**data, "max_drop": 90, "minutes": 1e-6, "epochs": 1, "watch": lines.append}
    pc.tune(model, **settings, folder=tmp_path / "one", strategies=[Rate()])
    assert any(line.startswith("0.weight.original1: no integers are made of") for line in lines)
    lines.clear()
    nn.utils.parametrize.remove_parametrizations(normed, "weight")
    pc.tune(model, **settings, folder=tmp_path / "two", strategies=[Rate()])
    assert not any("no integers" in line for line in lines)


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


@pytest.mark.parametrize("same", ["a list", "loaders of one data set"])
def test_validation_data_that_is_the_training_data_is_warned_of(trained, data, tmp_path, same):
    both = {"train": data["train"], "validation": data["train"]}
    if same != "a list":
        whole = torch.utils.data.TensorDataset(*(torch.cat(parts) for parts in zip(*data["train"], strict=True)))
        loader = torch.utils.data.DataLoader
        both = {"train": loader(whole, 32, shuffle=True), "validation": loader(whole, 64)}
    with pytest.warns(UserWarning, match="validation is the training data, by which no model can be judged") as caught:
        pc.tune(trained, **both, max_drop=2, folder=tmp_path, strategies=[OneShot()], **QUICK)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("epochs", "is_told"), [(None, True), (1, False)])
def test_the_number_of_epochs_that_it_chose_is_told(trained, data, tmp_path, monkeypatch, epochs, is_told):
    monkeypatch.setattr("prunecell.tuning.beginning._EPOCHS", 1)
    lines = []
    pc.tune(
        trained, **data, max_drop=99, epochs=epochs, folder=tmp_path, strategies=[PruneAndShare()], watch=lines.append
    )
    assert ("epochs of each trial that trains: 1; epochs= is another number" in lines) == is_told


def test_what_is_printed_of_a_search_is_short(found):
    for trial in found.trials:
        assert str(trial).startswith(f"trial {trial.number}, {trial.strategy} at ")
        assert len(str(trial)) < 120
        assert "\\n" not in str(trial)
