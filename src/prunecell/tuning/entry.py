"""tune(): the smallest file of a model that is good enough, found by trying."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from prunecell.checks import check_count, check_number, check_path, check_seed
from prunecell.choices import names_needed
from prunecell.described import shown
from prunecell.disk.claim import alone_in
from prunecell.disk.targets import check_place
from prunecell.errors import OptionError, OptionTypeError, quoted, some, typed
from prunecell.torch_checks import check_model
from prunecell.training.accuracy import Batches, Metric, evaluate
from prunecell.training.given import takes
from prunecell.tuning.bench import MakeOptimizer
from prunecell.tuning.chance import doubt
from prunecell.tuning.loaders import are_same, check_loader, split
from prunecell.tuning.problem import Problem
from prunecell.tuning.quality import Allowance, Loss, check_batches
from prunecell.tuning.result import Tuned
from prunecell.tuning.search import Engine, in_turn
from prunecell.tuning.strategies import STRATEGIES, Strategy
from prunecell.tuning.trials import LOG


@names_needed("model", "train", "validation", example="tune(model, train=train, validation=validation, max_drop=0.3)")
def tune(  # noqa: PLR0913 - a search has many sides, each with a default
    model: nn.Module,
    *,
    train: Batches,
    validation: Batches | None = None,
    max_drop: float | None = None,
    max_rise: float | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    folder: str | Path = "runs/tune",
    loss: Loss = F.cross_entropy,
    metric: Metric | None = None,
    optimizer: MakeOptimizer | None = None,
    strategies: Sequence[Strategy] = STRATEGIES,
    seed: int = 0,
    engine: Engine = in_turn,
    watch: Callable[[str], None] | None = print,
) -> Tuned:
    """Find the smallest file of a trained model that is still good enough.

    First each layer is pruned alone, to see which are sensitive. Then strategies are tried in turn: pruning at once,
    pruning while the model trains on, and integer weights learned under the price of their bits. Each has one knob, and
    a bisection finds its smallest file that is good enough; the strategy with the best file goes on first. A training
    that will not get there is stopped. Every file is judged as it was written: read back, on the validation data.

    All that was found is in the folder. A search that was killed goes on when it is called again with the same
    arguments, and ends as if it had not been; one that has used up its minutes goes on if it is given more. With
    `epochs` given, the same seed gives the same result on the same machine with one thread.

    Args:
        model: trained; it is not changed.
        train: a DataLoader, or a list of batches (inputs, labels), which is gone through once an epoch.
        validation: the same; the model must never have learned from it, or its drop will seem larger than it is. None:
            a tenth of the training data is held out, with that flaw.
        max_drop: >= 0, what the metric may lose, in points: 0.3 for 99.0 % to 98.7 %. Either this or
        max_rise: >= 0, what the validation loss may rise, relative: 0.05 for 5 %; the loss must be above zero.
        minutes: > 0, wall clock; None: until the search has ended.
        epochs: >= 1, of each trial that trains; None: as many as fit the minutes, at most 20, and 10 without minutes.
        folder: where everything is written; it is made.
        loss: (outputs, labels) -> a scalar, the mean over the samples.
        metric: (model, batches) -> a number, higher is better; None: accuracy as a fraction, see `evaluate`, which
            refuses what is not of a classifier. It is for max_drop alone.
        optimizer: parameters, or groups of them -> their optimizer; None: Adam, at a learning rate that is tried out.
        strategies: what is tried, in this order; see `prunecell.tuning.strategies`.
        seed: in [0, 2**32), of everything random.
        engine: what runs the search; the default tries one trial after the other in this process. For many processes
            see `prunecell.tuning.ray_tune`.
        watch: called with each line that tells what happens; None: nobody.

    A model whose accuracy is near chance, or its loss near that of a constant answer, is warned of, and so is
    validation data that is the training data.

    Raises:
        OptionError: a setting is illegal, or the folder holds another search, one of other data too, or another run
            works in it; the model or the loss fails on a batch; no accuracy can be measured on the validation data, and
            no metric is given.
        OptionTypeError: a setting is of the wrong type, or a loader gives no pairs of tensors.
        PlanError: the model has nothing to prune.
        FormatError: the folder's log is damaged, or its best file is.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))  # a stand-in for a model that is trained
    >>> loader = [(x, net(x).argmax(1)) for x in torch.randn(10, 32, 8)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tune(net, train=loader, max_drop=1, epochs=2, folder=folder, strategies=STRATEGIES[:1], watch=None)
    >>> found.best.passed, found.pareto[-1].quality >= found.best.quality
    (True, True)
    """
    check_model(model)
    allowance = Allowance(max_drop=max_drop, max_rise=max_rise)
    if metric is not None and max_rise is not None:
        raise OptionError("metric= is illegal with max_rise=, which is of the loss: give max_drop=, or no metric")
    _check_functions(loss=loss, engine=engine, metric=metric, optimizer=optimizer, watch=watch)
    watch = watch or _nobody
    check_loader("train", train)
    held_out = validation is None
    if validation is None:
        train, validation = split(train)
        watch("no validation data was given: a tenth of the training data is held out")
    check_loader("validation", validation)
    if are_same(train, validation):
        warnings.warn(
            "validation is the training data, by which no model can be judged that learns from it: give data that it"
            " never learned from, or none, and a tenth of train is held out",
            stacklevel=3,  # in the line that calls tune
        )
    if minutes is not None:
        check_number("minutes", minutes, low=0, open_low=True)
    if epochs is not None:
        check_count("epochs", epochs, low=1)
    check_seed(seed)
    _check_strategies(strategies, model)
    folder = check_path("folder", folder)
    check_place(folder)
    begun, random = time.monotonic(), torch.get_rng_state()
    try:
        problem = Problem(
            model=deepcopy(model).eval(),
            train=train,
            validation=validation,
            held_out=held_out,
            allowance=allowance,
            metric=metric or evaluate,
            loss=loss,
            seconds=math.inf if minutes is None else 60 * minutes,
            epochs=epochs,
            optimizer=optimizer,
            strategies=tuple(strategies),
            seed=seed,
        )
        _check_fit(problem)  # what cannot be measured is told before the folder is made
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            if not (folder / LOG).exists() and (why := doubt(problem.judge, problem.model, problem.dense)) is not None:
                warnings.warn(why, stacklevel=3)
            return engine(problem, folder, watch, begun)
    finally:
        torch.set_rng_state(random)


def _check_fit(problem: Problem) -> None:
    """Measure the dense model, and refuse batches that do not fit it, its metric or the loss, in this order."""
    tried: dict[str, Callable[[], Batches]] = {
        "train": lambda: problem.stream.epoch(0),
        "validation": problem.judge.validation,
    }
    for name, batches in tried.items():
        check_batches(name, problem.model, batches())
    if problem.allowance.max_drop is not None:
        _ = problem.dense
    for name, batches in tried.items():
        check_batches(name, problem.model, batches(), problem.loss)
    _ = problem.dense


def _check_functions(*, loss: object, engine: object, **others: object) -> None:
    given = {name: other for name, other in others.items() if other is not None}
    for name, value in {"loss": loss, "engine": engine, **given}.items():
        if not callable(value) or (name == "engine" and isinstance(value, type)):
            legal = "an engine, as RayTune()" if name == "engine" else "a function"
            raise OptionTypeError(f"{name}={quoted(value)} is illegal: it must be {legal}, not {typed(value)}")
        if name in _ARGUMENTS and not takes(value, len(_ARGUMENTS[name])):
            arguments = ", ".join(_ARGUMENTS[name])
            raise OptionTypeError(f"{name} is illegal: it must be a function of ({arguments}), which it does not take")


_ARGUMENTS = {
    "loss": ("outputs", "labels"),
    "metric": ("model", "batches"),
    "optimizer": ("parameters",),
    "watch": ("line",),
}
"""What functions are called with."""


def _check_strategies(strategies: object, model: nn.Module) -> None:
    if not isinstance(strategies, Sequence) or not strategies or isinstance(strategies, str):
        raise OptionTypeError(f"strategies is {typed(strategies)}: it must be a list of strategies, as {STRATEGIES!r}")
    for strategy in strategies:
        if isinstance(strategy, type) or not callable(getattr(strategy, "make", None)):
            raise OptionTypeError(f"strategies holds {strategy!r}: it must be a list of strategies, as {STRATEGIES!r}")
        if strategies.count(strategy) > 1:
            raise OptionError(f"strategies holds {shown(strategy)} twice")
    trained = [shown(strategy) for strategy in strategies if strategy.trains]
    if trained and not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError(
            f"model has no parameter that requires a gradient, and {some(trained)} would train it: call"
            " model.requires_grad_(), or give strategies that do not train, as [OneShot()]"
        )


def _nobody(line: str) -> None:
    """Hear nothing."""
