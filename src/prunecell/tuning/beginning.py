"""How a search begins: what it finds out once, and the dense model as the first of its trials."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prunecell.archive import save
from prunecell.errors import FormatError, OptionError, some
from prunecell.files.torch_file import torch_bytes
from prunecell.plan.candidates import candidates
from prunecell.tuning.bench import adam
from prunecell.tuning.defaults import RATES, STEPS, fastest
from prunecell.tuning.layers import sensitivity
from prunecell.tuning.loaders import some_batches
from prunecell.tuning.problem import Problem
from prunecell.tuning.strategies import Rate, Structured
from prunecell.tuning.trials import Log, Trial, best_of, file_of

LAYERS = "sensitivity.png"
"""The picture in a search's folder."""

_EPOCHS = 10  # of a trial, where no time is given
_MOST_EPOCHS = 20
_TRIALS = 5  # that train, and should find time
_SAMPLES = 1000  # by which the layers' sensitivity is measured
_SAME = 0.005  # relative: other threads or devices move a sample or two over an edge
_PROBED = 0.9  # the sparsity at which learning rates are tried out


def begin(problem: Problem, log: Log, folder: Path, watch: Callable[[str], None], begun: float) -> None:
    """Fill a log that is empty, and look whether one that is not is of this search.

    Args:
        problem: what is asked.
        log: of the folder.
        folder: where everything is written.
        watch: is told what was found out.
        begun: when the call began, as `time.monotonic` counts.

    Raises:
        OptionError: the folder holds a search with another dense quality.
        FormatError: its best file is gone.
    """
    _check_held(problem, log, folder)
    if not log.facts:
        log.add_facts(_found_out(problem, folder, watch, begun))
    if not log.trials:
        log.add_trial(_dense_trial(problem, log.facts, folder))


def _check_held(problem: Problem, log: Log, folder: Path) -> None:
    """Refuse a search whose dense model was of another quality, and one whose best file is gone."""
    if not log.facts:
        return
    held, told = log.facts["dense"], problem.judge.told
    if not math.isclose(held, problem.dense, rel_tol=_SAME, abs_tol=_SAME / 1000):
        raise OptionError(
            f"the folder {folder} holds a search in which the dense model had {told(held)}, not"
            f" {told(problem.dense)}: its validation data, the metric or the model's own code is another now: give"
            " another folder, or the same, to go on"
        )
    if log.trials:
        best = best_of(log.trials)
        path = folder / best.file
        if not path.is_file() or path.stat().st_size != best.n_bytes:
            raise FormatError(
                f"{path}, the best file of the search, is not there, or not the one of {best.n_bytes:,} bytes that"
                f" {log.path} tells of: put it back, or use another folder"
            )


def _found_out(problem: Problem, folder: Path, watch: Callable[[str], None], begun: float) -> Mapping[str, Any]:
    """What all trials build on."""
    _tell_of_norms(problem, watch)
    found = sensitivity(problem.model, some_batches(problem.judge.validation(), _SAMPLES), loss=problem.loss)
    found.draw(folder / LAYERS)
    watch(str(found))
    rate, step_seconds = _tried_out(problem, watch)
    epochs = problem.epochs or _fitting_epochs(problem, time.monotonic() - begun, step_seconds)
    if problem.epochs is None and step_seconds:
        fitting = "" if problem.seconds == math.inf else ", as many as fit the minutes"
        watch(f"epochs of each trial that trains: {epochs}{fitting}; epochs= is another number")
    return {
        "dense": problem.dense,
        "dense_bytes": len(torch_bytes(problem.model)),
        "sensitivity": vars(found),
        "lr": rate,
        "epochs": epochs,
        "seconds": time.monotonic() - begun,
    }


def _tell_of_norms(problem: Problem, watch: Callable[[str], None]) -> None:
    """Say which weights `Rate` must leave as they are, because their layer divides by their norm."""
    normed = [one.name for one in candidates(problem.model) if one.normed is not None]
    if normed and any(isinstance(strategy, Rate | Structured) for strategy in problem.strategies):
        watch(
            f"{some(normed)}: no integers are made of a weight whose layer divides by its norm, so the files are"
            " larger; they get smaller if the norm is removed first (torch.nn.utils.parametrize"
            ".remove_parametrizations, or torch.nn.utils.remove_weight_norm)"
        )


def _tried_out(problem: Problem, watch: Callable[[str], None]) -> tuple[float, float]:
    """The learning rate, 0 for an optimizer that was given, and the seconds that a step takes."""
    if not any(strategy.trains for strategy in problem.strategies):
        return 0.0, 0.0
    makers = {0.0: problem.optimizer} if problem.optimizer else {rate: adam(rate) for rate in RATES}
    started = time.monotonic()
    rate = fastest(problem.model, problem.stream, problem.loss, makers, sparsity=_PROBED, seed=problem.seed)
    step_seconds = (time.monotonic() - started) / (len(makers) * STEPS)
    if not problem.optimizer:
        watch(f"learning rate of Adam: {rate:g}, the best of those tried out")
    return rate, step_seconds


def _fitting_epochs(problem: Problem, spent: float, step_seconds: float) -> int:
    """How many epochs a trial has, so that several trials find time."""
    epoch_seconds = step_seconds * problem.stream.n_batches
    if problem.seconds == math.inf or not epoch_seconds:
        return _EPOCHS
    return min(max(int((problem.seconds - spent) / (_TRIALS * epoch_seconds)), 1), _MOST_EPOCHS)


def _dense_trial(problem: Problem, facts: Mapping[str, Any], folder: Path) -> Trial:
    """The model as it is, without any loss: what is found where nothing else is good enough."""
    path = folder / file_of(0)
    save(problem.model, path)
    return Trial(
        number=0,
        strategy="dense",
        knob=1.0,
        n_bytes=path.stat().st_size,
        quality=facts["dense"],
        passed=True,
        stopped="",
        seconds=0.0,
        file=path.name,
        recipe='import prunecell as pc\n\npc.save(model, "small.pcell")\n',
    )
