"""Trials: what was tried and what came of it, and the file of JSON lines from which a search goes on."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunecell.errors import FormatError, OptionError, StateError, quoted
from prunecell.kinds import (
    COUNT,
    FLAG,
    LIST,
    MAPPING,
    NUMBER,
    POSITIVE,
    REAL,
    SHARE,
    SPAN,
    TEXT,
    check_fields,
    optional,
)

LOG = "trials.jsonl"
"""The file in a search's folder: its settings, what was found out beforehand, then a line for each trial."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model that was made, and its file.

    Attributes:
        number: from 0, which is the dense model.
        strategy: its name.
        knob: the setting of the strategy's knob.
        n_bytes: of the file; None where the training was stopped.
        quality: on the validation data, of the model in the file where there is one; higher is better. NaN where the
            training diverged.
        passed: whether it is within what may be lost.
        stopped: why the training was stopped; "" where it was not.
        seconds: wall clock.
        file: the archive's name in the folder, behind that of its search if there are several; "" where there is none.
        recipe: Python text that makes this model, bit for bit, to paste.
    """

    number: int
    strategy: str
    knob: float
    n_bytes: int | None
    quality: float
    passed: bool
    stopped: str
    seconds: float
    file: str
    recipe: str

    def __str__(self) -> str:
        """One line, without the recipe."""
        size = "no file" if self.n_bytes is None else f"{self.n_bytes:,} bytes"
        verdict = self.stopped or ("good enough" if self.passed else "too bad")
        return f"trial {self.number}, {self.strategy} at {self.knob:.3g}: {size}, quality {self.quality:.4f}, {verdict}"


_TRIAL = {
    "number": COUNT,
    "strategy": TEXT,
    "knob": NUMBER,
    "n_bytes": optional(COUNT),
    "quality": REAL,
    "passed": FLAG,
    "stopped": TEXT,
    "seconds": SPAN,
    "file": TEXT,
    "recipe": TEXT,
}


_FACTS = {
    "dense": NUMBER,
    "dense_bytes": POSITIVE,
    "sensitivity": MAPPING,
    "lr": SPAN,
    "epochs": POSITIVE,
    "seconds": SPAN,
}
_SENSITIVITY = {"loss": REAL, "sparsities": LIST, "n_weights": MAPPING, "losses": MAPPING}


def file_of(number: int) -> str:
    """The name of a trial's file in the folder.

    >>> file_of(7)
    'trial-007.pcell'
    """
    return f"trial-{number:03}.pcell"


def line_of(trial: Trial, *, width: int, dense_bytes: int, quality: str) -> str:
    """What is told of a trial in one line.

    Args:
        trial: that was made.
        width: of the column of its strategy.
        dense_bytes: of the dense model's state_dict.
        quality: in words.
    """
    size = "no file" if trial.n_bytes is None else f"{trial.n_bytes:,} bytes"
    ratio = "" if trial.n_bytes is None else f"{dense_bytes / trial.n_bytes:.1f} x"
    verdict = trial.stopped or ("good enough" if trial.passed else "too bad")
    words = f"{trial.strategy:<{width}} {trial.knob:<9.3g} {size:>17} {ratio:>8}"
    return f"{words}  {quality}  {trial.seconds:5.0f} s  {verdict}"


def pareto(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Those that no other beats in bytes without losing quality, the smallest file first.

    >>> def trial(number, n_bytes, quality):
    ...     return Trial(number=number, strategy="", knob=1.0, n_bytes=n_bytes, quality=quality, passed=True,
    ...                  stopped="", seconds=0.0, file="", recipe="")
    >>> [t.number for t in pareto([trial(0, 90, 0.9), trial(1, 50, 0.8), trial(2, 60, 0.7)])]
    [1, 0]
    """
    front: list[Trial] = []
    for trial in sorted(
        (t for t in trials if t.n_bytes is not None and t.quality == t.quality),
        key=lambda t: (t.n_bytes, -t.quality, t.number),
    ):
        if not front or trial.quality > front[-1].quality:
            front.append(trial)
    return tuple(front)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The smallest file that passed; of equal ones the better model."""
    passed = [t for t in trials if t.passed and t.n_bytes is not None]
    return min(passed, key=lambda t: (t.n_bytes, -t.quality, t.number))


class Log:
    """The settings, facts and trials of a search, as lines of a file that grows.

    A line is on the disk when it has been added; the settings are with the facts, so that a search that fails before
    has no claim to the folder. The last line of a search that was killed may be half of one, which is
    dropped.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on; without settings, read what is there.

        Raises:
            OptionError: the folder holds a search with other settings.
            FormatError: the file is damaged.
        """
        self.path = folder / LOG
        self.facts: dict[str, Any] = {}
        self.trials: list[Trial] = []
        self._settings: Mapping[str, Any] | None = None
        lines = self._read()
        if not lines:
            self._settings = settings
            return
        held = lines[0].get("settings")
        if not isinstance(held, dict):
            raise FormatError(f"{self.path} is no log of a search, or damaged: use another folder")
        if settings is not None:
            _check_same(held, json.loads(json.dumps(settings)), folder)
        for number, line in enumerate(lines[1:], 2):
            self._take(line, number)

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Keep what was found out before the first trial, once."""
        self.facts = {**facts}
        if self._settings is not None:
            self._add({"settings": self._settings})
        self._add({"facts": facts})

    def add_trial(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        self._add({"trial": asdict(trial)})

    def _take(self, line: Mapping[str, Any], number: int) -> None:
        try:
            if not self.facts:
                self.facts = _checked_facts(line.get("facts"), f"the facts in line {number}")
            else:
                self.trials.append(_checked_trial(line.get("trial"), f"the trial in line {number}", len(self.trials)))
        except StateError as error:
            raise FormatError(f"{self.path} is damaged: {error}: use another folder") from None

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines; half a line at the end is cut off."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        try:
            lines = [json.loads(line) for line in whole.decode().splitlines()]
        except (ValueError, RecursionError):
            lines = [None]
        if not all(isinstance(line, dict) for line in lines):
            raise FormatError(f"{self.path} is no log of a search, or damaged: use another folder")
        return lines

    def _add(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _checked_facts(data: object, what: str) -> dict[str, Any]:
    facts = check_fields(data, _FACTS, what)
    layers = check_fields(facts["sensitivity"], _SENSITIVITY, f"the sensitivity of {what}")
    n, sizes, losses = len(layers["sparsities"]), layers["n_weights"], layers["losses"]
    whole = (
        n
        and sizes
        and sizes.keys() == losses.keys()
        and all(LIST.fits(row) and len(row) == n for row in losses.values())
    )
    numbers = whole and all(map(SHARE.fits, layers["sparsities"])) and all(map(COUNT.fits, sizes.values()))
    if not numbers or not all(REAL.fits(loss) for row in losses.values() for loss in row):
        raise StateError(f"the sensitivity of {what} is none: it must have a loss for each weight and sparsity")
    return {**facts}


def _checked_trial(data: object, what: str, number: int) -> Trial:
    trial = Trial(**check_fields(data, _TRIAL, what))
    if trial.number != number:
        raise StateError(f"{what} is trial {trial.number}, and stands in place {number}")
    if trial.file != ("" if trial.n_bytes is None else file_of(number)):
        raise StateError(f"file={quoted(trial.file)} of {what} is none that a search writes")
    if not (trial.passed or number) or (trial.passed and not trial.file):
        raise StateError(f"passed={trial.passed} of {what} cannot be")
    return trial


def _check_same(held: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> None:
    for name in dict.fromkeys([*held, *given]):
        if held.get(name) != given.get(name):
            raise OptionError(
                f"the folder {folder} holds a search with {name}={quoted(held.get(name))}, not"
                f" {quoted(given.get(name))}: give another folder, or the same settings, to go on"
            )
