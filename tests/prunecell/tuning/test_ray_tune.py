"""RayTune: searches side by side find what they find one by one, Ray sees every model, and failures are told."""

import json
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import ray
import ray.tune
import torch

import prunecell as pc
from prunecell.described import shown
from prunecell.errors import DivergedError, OptionError, OptionTypeError, PlanError
from prunecell.tuning.ray_tune import RayTune
from prunecell.tuning.strategies import OneShot, Rate
from prunecell.tuning.trials import Log

QUICK = {"max_drop": 2, "epochs": 2, "watch": None}


@pytest.fixture(scope="module")
def running():
    """A Ray of two processes, which has the classes of this file by value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr(sys, "argv", ["pytest"])  # Ray takes the arguments of the tests for its own
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A strategy that raises."""

    knob: ClassVar[str] = "knob"
    factor: ClassVar[float] = 0.5
    low: ClassVar[float] = 0.1
    high: ClassVar[float] = 1.0
    trains: ClassVar[bool] = False

    def first(self, _bench, _trials):
        return 0.5

    def make(self, _run, _knob):
        raise PlanError("it does not fit")

    def recipe(self, _bench, _knob):
        return ""


def facts(trials):
    """All that was found, without the clock, the numbers and the folders."""
    same = {"seconds": None, "number": None, "file": None}
    return [vars(trial) | same | {"quality": repr(trial.quality)} for trial in trials]


def results(folder):
    """What Ray was told, by strategy."""
    told = {}
    for path in folder.glob("ray/*/*/result.json"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        told[lines[0]["config"]["strategy"]] = lines
    return told


@pytest.mark.usefixtures("running")
def test_searches_side_by_side_find_what_they_find_one_by_one(trained, data, tmp_path):
    """One has ended in an earlier call, one goes on in a log that was cut, and one cannot do anything."""
    one_by_one = {
        strategy: pc.tune(trained, **data, folder=tmp_path / shown(strategy), strategies=[strategy], **QUICK)
        for strategy in (OneShot(), Rate())
    }
    folder, lines = tmp_path / "ray", []
    for strategy in one_by_one:
        shutil.copytree(tmp_path / shown(strategy), folder / type(strategy).__name__)
    log = folder / "Rate" / "trials.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]) + '{"trial": ')
    settings = QUICK | {"strategies": [Rate(), Failing()], "engine": RayTune(), "watch": lines.append}
    with pytest.warns(UserWarning, match=r"^of 2 searches 1 failed: Failing: PlanError: it does not fit$"):
        found = pc.tune(trained, **data, folder=folder, **settings)

    dense, *others = found.trials
    assert facts([dense]) == facts(one_by_one[Rate()].trials[:1])
    assert facts(others) == facts(trial for one in one_by_one.values() for trial in one.trials[1:])
    assert [trial.number for trial in found.trials] == [*range(len(found.trials))]
    best = min(one_by_one.values(), key=lambda one: one.best.n_bytes)
    assert found.path.read_bytes() == best.path.read_bytes() == (folder / found.best.file).read_bytes()
    assert (found.least, found.dense_bytes, found.sensitivity) == (best.least, best.dense_bytes, best.sensitivity)
    assert all((folder / trial.file).stat().st_size == trial.n_bytes for trial in found.trials if trial.file)
    assert Log(folder / "Failing").facts == Log(folder).facts  # not found out again

    told, one = results(folder), one_by_one[Rate()]
    assert told.keys() == {"Rate()", "Failing()"}
    seen = told["Rate()"]
    assert [line["quality"] for line in seen] == [trial.quality for trial in one.trials]
    assert [line["bytes"] for line in seen if line["passed"]] == [trial.n_bytes for trial in one.trials if trial.passed]
    assert seen[-1]["best_bytes"] == one.best.n_bytes
    assert [line["drop"] for line in seen] == [100 * (dense.quality - trial.quality) for trial in one.trials]
    assert sum(line.startswith("Rate ") for line in lines) == len(one.trials) - 1
    assert len([*folder.glob("ray/*/*/events.out.tfevents.*")]) == 2  # for TensorBoard


class Tuner:
    """In place of Ray's: it runs nothing, and every search has failed."""

    def __init__(self, _trainable, *, param_space, **_):
        self.config = {"strategy": param_space["strategy"]["grid_search"][0]}

    def fit(self):
        return [SimpleNamespace(config=self.config, error=SimpleNamespace(cause=DivergedError("it came to nothing")))]


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        (RayTune(cpus=2), DivergedError, "it came to nothing"),
        (RayTune(cpus=3), OptionError, "cpus=3 is illegal: Ray finds 2 on this machine"),
        (RayTune(gpus=0.5), OptionError, r"gpus=0\.5 is illegal: Ray finds 0 on this machine"),
    ],
)
def test_where_all_fail_the_first_error_is_raised_and_the_ray_that_was_begun_is_ended(
    trained, data, tmp_path, monkeypatch, engine, error, message
):
    calls = []
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray.tune, "Tuner", Tuner)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **how: calls.append((how, os.environ["RAY_USAGE_STATS_ENABLED"])))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("end"))
    with pytest.raises(error, match=message):
        pc.tune(trained, **data, folder=tmp_path, strategies=[OneShot()], engine=engine, **QUICK)
    assert calls == [({"include_dashboard": False, "log_to_driver": False}, "0"), "end"]


def test_without_ray_it_says_what_to_install(trained, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"pip install 'prunecell\[ray\]'"):
        pc.tune(trained, **data, folder=tmp_path, engine=RayTune(), **QUICK)


WRONG = {
    "another name": ({"space": {"strategy": []}}, "space holds 'strategy'; legal: epochs, lr, seed"),
    "a number": ({"space": {"seed": 3}}, r"space\['seed'\]=3 is illegal: it must be a list, or a domain of Ray"),
    "nothing": ({"space": {"seed": []}}, r"space\['seed'\]=\[\] is illegal: it must be a list"),
    "no seed": ({"space": {"seed": [0, -1]}}, "seed=-1 is illegal"),
    "a seed that tune refuses": ({"space": {"seed": [1 << 32]}}, "seed=4294967296 is illegal"),
    "another field": ({"cpu": 2}, "RayTune has no field 'cpu'; did you mean 'cpus'?"),
    "no epochs": ({"space": {"epochs": [0]}}, "epochs=0 is illegal"),
    "no rate": ({"space": {"lr": [0.0]}}, r"lr=0\.0 is illegal"),
    "no space": ({"space": [1]}, "space is a list: it must be a mapping"),
    "cpus": ({"cpus": 0}, "cpus=0 is illegal"),
    "gpus": ({"gpus": -1}, "gpus=-1 is illegal"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_when_it_is_made(name):
    arguments, message = WRONG[name]
    with pytest.raises((OptionError, OptionTypeError), match=message):
        RayTune(**arguments)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def test_a_learning_rate_is_of_adam_alone(trained, data, tmp_path):
    engine = RayTune(space={"lr": [1e-3]})
    with pytest.raises(OptionError, match=r"space holds 'lr', which is of Adam, and optimizer= is given"):
        pc.tune(trained, **data, folder=tmp_path, optimizer=sgd, engine=engine, **QUICK)


def test_what_cannot_be_sent_to_another_process_is_told(trained, data, tmp_path):
    def loss(outputs, labels, _lock=threading.Lock()):  # noqa: B008
        return torch.nn.functional.cross_entropy(outputs, labels)

    with pytest.raises(OptionTypeError, match=r"must go to other processes, and cannot: .*lock"):
        pc.tune(trained, **data, folder=tmp_path, loss=loss, engine=RayTune(), **QUICK)


def test_an_engine_is_a_value_not_its_class(trained, data, tmp_path):
    with pytest.raises(OptionTypeError, match=r"engine=<class .* is illegal"):
        pc.tune(trained, **data, folder=tmp_path, engine=RayTune, **QUICK)
