"""RayTune: an engine of `tune` for many processes or machines, on which each strategy searches as a trial of Ray Tune.

It needs the extra `ray`. No other file of prunecell imports this one, and this one imports Ray when it is called.
"""

import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prunecell.checks import check_count, check_mapping, check_number, check_seed
from prunecell.choices import by_name
from prunecell.described import shown
from prunecell.disk.claim import alone_in
from prunecell.errors import OptionError, OptionTypeError, nearest, some
from prunecell.tuning.beginning import begin
from prunecell.tuning.ending import end
from prunecell.tuning.problem import Problem
from prunecell.tuning.result import Tuned
from prunecell.tuning.search import Search
from prunecell.tuning.trials import LOG, Log, Trial, line_of

if TYPE_CHECKING:
    from ray.tune import Callback, RunConfig, TuneConfig

RESULTS = "ray"
"""The folder within a search's folder in which Ray writes its own results."""

_CHECKS: Mapping[str, Callable[[object], None]] = {
    "seed": check_seed,
    "epochs": lambda value: check_count("epochs", value, low=1),
    "lr": lambda value: check_number("lr", value, low=0, open_low=True),
}
"""What a space may hold -> what refuses a value of it."""


@by_name("space", "cpus", example="RayTune(space={'seed': [0, 1, 2]}, cpus=2)")
@dataclass(frozen=True, kw_only=True)
class RayTune:
    """An engine: `tune(..., engine=RayTune())` lets each strategy search in a process of its own.

    The layers' sensitivity and the learning rate are found out once, and given to all. Each search has a folder of its
    own within the folder of all, so the same call goes on where it was killed, and a call with a larger space adds to
    what is there. `minutes` are of each search. Ray is told of every model that a search makes: bytes, quality, drop
    (in points; `rise` where the loss may rise), and best_bytes, the smallest good file of that search until then.

    A Ray that runs already is used; otherwise one is begun on this machine, without its dashboard, and ended. On
    several machines all must see the folder. Ray's usage statistics are off unless RAY_USAGE_STATS_ENABLED is set.

    Attributes:
        space: "seed", "epochs" or "lr" (Adam's learning rate, in place of the one that is tried out) -> a list, of
            which all are tried by each strategy, or a domain of Ray, as `ray.tune.loguniform(1e-4, 1e-2)`.
        cpus: >= 1, of each search: it has as many threads.
        gpus: >= 0, of each search.
        tune_config: Ray's, for a scheduler or a number of samples; None: it looks for the least best_bytes.
        run_config: Ray's, for more loggers or another place of its results; None: the folder `ray` in that of all.

    >>> RayTune(space={"seed": [0, 1, 2]}, cpus=2)
    RayTune(space={'seed': [0, 1, 2]}, cpus=2, gpus=0, tune_config=None, run_config=None)
    """

    space: Mapping[str, Any] = field(default_factory=dict)
    cpus: int = 1
    gpus: float = 0
    tune_config: "TuneConfig | None" = None
    run_config: "RunConfig | None" = None

    def __post_init__(self) -> None:
        check_mapping("space", self.space, "a mapping, as {'seed': [0, 1, 2]}")
        check_count("cpus", self.cpus, low=1)
        check_number("gpus", self.gpus, low=0)
        for name, values in self.space.items():
            if name not in _CHECKS:
                raise OptionError(f"space holds {name!r}{nearest(name, _CHECKS)}")
            if isinstance(values, str | int | float) or not values:
                raise OptionTypeError(f"space[{name!r}]={values!r} is illegal: it must be a list, or a domain of Ray")
            if isinstance(values, Sequence):
                for value in values:
                    _CHECKS[name](value)

    def __call__(self, problem: Problem, folder: Path, watch: Callable[[str], None], begun: float) -> Tuned:
        """Run all searches, and return the best of all that the folder holds.

        Raises:
            OptionError, OptionTypeError, FormatError: as `tune`; Ray is missing; the space does not fit the optimizer;
                what the search is given cannot be sent to another process.
            Exception: what the first search failed by, where all failed; a warning tells where some did.
        """
        try:
            from ray import cloudpickle, tune  # noqa: PLC0415 - an extra
        except ImportError:
            raise OptionError("searches side by side need Ray Tune: pip install 'prunecell[ray]'") from None
        if "lr" in self.space and problem.optimizer is not None:
            raise OptionError("space holds 'lr', which is of Adam, and optimizer= is given: leave one of them out")
        log = Log(folder, {name: told for name, told in problem.settings().items() if name not in _OF_EACH})
        begin(problem, log, folder, watch, begun)
        try:
            packed = cloudpickle.dumps((problem, dict(log.facts)))  # type: ignore[no-untyped-call] # Ray's
        except (TypeError, AttributeError, RuntimeError) as error:
            raise OptionTypeError(f"what tune is given must go to other processes, and cannot: {error}") from None
        space = {name: tune.grid_search([*v]) if isinstance(v, Sequence) else v for name, v in self.space.items()}
        strategies = tune.grid_search([shown(strategy) for strategy in problem.strategies])
        run = self.run_config or tune.RunConfig(storage_path=str(folder.absolute() / RESULTS), verbose=0)
        with self._running():
            results = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_search, packed=packed, folder=folder.absolute(), threads=self.cpus),
                    {"cpu": self.cpus, "gpu": self.gpus},
                ),
                param_space={"strategy": strategies, **space},
                tune_config=self.tune_config or tune.TuneConfig(metric="best_bytes", mode="min"),
                run_config=replace(
                    run,
                    callbacks=[*(run.callbacks or ()), _watching(watch, problem.judge.told, log.facts["dense_bytes"])],
                ),
            ).fit()
        all_results = [results[n] for n in range(len(results))]
        failed = {_name(one.config or {}): getattr(one.error, "cause", one.error) for one in all_results if one.error}
        if failed and len(failed) == len(results):
            raise next(iter(failed.values()))
        if failed:
            told = (f"{name}: {type(error).__name__}: {error}" for name, error in failed.items())
            warnings.warn(f"of {len(results)} searches {len(failed)} failed: {some(told, between='; ')}", stacklevel=3)
        found = end(problem, log.facts, [*_merged(log, folder)], folder)
        watch(f"{found}: {problem.judge.told(found.best.quality)}, dense {problem.judge.told(problem.dense)}")
        return found

    @contextmanager
    def _running(self) -> Iterator[None]:
        """A Ray that runs, or one that is begun for this."""
        import ray  # noqa: PLC0415

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it calls home otherwise
        ray.init(include_dashboard=False, log_to_driver=False)
        try:
            here = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray's
            for name, wanted in (("cpus", self.cpus), ("gpus", self.gpus)):
                if wanted > (there := here.get(name[:-1].upper(), 0)):  # Ray would wait for more machines
                    raise OptionError(f"{name}={wanted} is illegal: Ray finds {there:g} on this machine")
            yield
        finally:
            ray.shutdown()


_OF_EACH = ("strategies", "seed", "epochs")
"""Settings that may be different in each search of a folder."""


def _search(config: dict[str, Any], *, packed: bytes, folder: Path, threads: int) -> None:
    """One search, in a process of Ray: it goes on where the log of its folder ends."""
    from ray import cloudpickle, tune  # noqa: PLC0415

    begun = time.monotonic()
    torch.set_num_threads(threads)
    whole, facts = cloudpickle.loads(packed)
    for name, check in _CHECKS.items():
        if name in config:  # a domain of Ray may give anything
            check(config[name])
    problem: Problem = replace(
        whole,
        strategies=[one for one in whole.strategies if shown(one) == config["strategy"]],
        seed=config.get("seed", whole.seed),
        epochs=config.get("epochs", whole.epochs),
    )
    facts |= {"epochs": problem.epochs or facts["epochs"], "lr": config.get("lr", facts["lr"])}

    def report(trial: Trial, best: Trial) -> None:
        tune.report(_metrics(problem, facts, trial, best))

    own = folder / _name(config)
    own.mkdir(exist_ok=True)
    with alone_in(own):
        search = Search(problem=problem, folder=own, begun=begun, watch=_nobody, report=report, facts=facts)
        search.run()
    for _, error in search.left_out:
        raise error


def _metrics(problem: Problem, facts: Mapping[str, Any], trial: Trial, best: Trial) -> dict[str, float | int]:
    """What Ray is told of a model."""
    dense = facts["dense"]
    if problem.allowance.max_drop is None:
        lost = {"rise": trial.quality / dense - 1}
    else:
        lost = {"drop": 100 * (dense - trial.quality)}
    return {
        "trial": trial.number,
        "bytes": float("nan") if trial.n_bytes is None else trial.n_bytes,
        "quality": trial.quality,
        **lost,
        "passed": int(trial.passed),
        "best_bytes": best.n_bytes or 0,
        "knob": trial.knob,
        "seconds": trial.seconds,
    }


def _name(config: Mapping[str, Any]) -> str:
    """The folder of a search.

    >>> _name({"strategy": "Structured(flops=0.4)", "seed": 1})
    'Structured-flops=0.4-seed=1'
    """
    words = [str(config.get("strategy")), *(f"{name}={config[name]}" for name in _CHECKS if name in config)]
    return "-".join(re.sub(r"[^\w.=-]+", "-", word).strip("-") for word in words)


def _watching(watch: Callable[[str], None], told: Callable[[float], str], dense_bytes: int) -> "Callback":
    """What tells, in this process, what Ray is told of each model but the dense one."""
    from ray.tune import Callback  # noqa: PLC0415

    class Watching(Callback):
        """Ray calls it, and keeps a copy on the disk, which tells nobody."""

        def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
            return Callback, ()

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:  # noqa: ANN401, ARG002
            """Tell of a model."""
            if not result["trial"]:
                return
            one = Trial(
                number=result["trial"],
                strategy=_name(result["config"]),
                knob=result["knob"],
                n_bytes=None if math.isnan(result["bytes"]) else int(result["bytes"]),
                quality=result["quality"],
                passed=bool(result["passed"]),
                stopped="",
                seconds=result["seconds"],
                file="",
                recipe="",
            )
            watch(line_of(one, width=30, dense_bytes=dense_bytes, quality=told(one.quality)))

    return Watching()


def _merged(log: Log, folder: Path) -> Iterator[Trial]:
    """The dense model and what all searches of the folder made, in the order of their names, under new numbers."""
    yield from log.trials
    number = len(log.trials)
    for path in sorted(folder.glob(f"*/{LOG}")):
        for trial in Log(path.parent).trials[1:]:
            file = f"{path.parent.name}/{trial.file}" if trial.file else ""
            yield replace(trial, number=number, file=file)
            number += 1


def _nobody(_: str) -> None:
    """Hear nothing."""
