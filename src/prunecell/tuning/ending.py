"""How a search ends: its smallest file, its curve, and what it returns."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunecell.disk.atomic import replacing
from prunecell.tuning.curve import draw_curve
from prunecell.tuning.layers import Sensitivity
from prunecell.tuning.problem import Problem
from prunecell.tuning.result import Tuned
from prunecell.tuning.trials import Trial, best_of

BEST, CURVE = "best.pcell", "curve.png"
"""The files in a search's folder, beside its log, an archive for each trial, and the checkpoint of one that runs."""


def draw(problem: Problem, facts: Mapping[str, Any], trials: Sequence[Trial], folder: Path) -> None:
    """Draw the curve of what was tried until now."""
    label = "minus the loss" if problem.allowance.max_drop is None else "quality on the validation data"
    least = problem.allowance.least(facts["dense"])
    draw_curve(folder / CURVE, trials, least=least, label=label, dense_bytes=facts["dense_bytes"])


def end(problem: Problem, facts: Mapping[str, Any], trials: Sequence[Trial], folder: Path) -> Tuned:
    """Put the smallest good file under its name, and tell what was found.

    Args:
        problem: what was asked.
        facts: what was found out beforehand.
        trials: in their order; their files lie in the folder.
        folder: of the search.
    """
    draw(problem, facts, trials, folder)
    path = folder / BEST
    with replacing(path) as file, (folder / best_of(trials).file).open("rb") as written:
        shutil.copyfileobj(written, file)
    return Tuned(
        model=problem.read_back(path),
        path=path,
        trials=tuple(trials),
        dense_bytes=facts["dense_bytes"],
        least=problem.allowance.least(facts["dense"]),
        sensitivity=_sensitivity_of(facts["sensitivity"]),
    )


def _sensitivity_of(data: Mapping[str, Any]) -> Sensitivity:
    """What a log's line holds of it."""
    return Sensitivity(
        loss=data["loss"],
        sparsities=tuple(data["sparsities"]),
        n_weights=data["n_weights"],
        losses={name: tuple(losses) for name, losses in data["losses"].items()},
    )
