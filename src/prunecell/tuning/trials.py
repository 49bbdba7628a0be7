"""Trials: what was tried and what came of it, and the file of JSON lines from which a search goes on."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunecell.errors import FormatError, OptionError, StateError, quoted
from prunecell.kinds import COUNT, FLAG, NUMBER, REAL, SPAN, TEXT, check_fields, optional

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
        file: the archive's name in the folder; "" where there is none.
        recipe: Python text that makes such a model, to paste.
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

    A line is on the disk when it has been added. The last line of a search that was killed may be half of one, which is
    dropped.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on.

        Raises:
            OptionError: the folder holds a search with other settings.
            FormatError: the file is damaged.
        """
        self.path = folder / LOG
        self.facts: dict[str, Any] = {}
        self.trials: list[Trial] = []
        lines = self._read()
        if not lines:
            self._add({"settings": settings})
            return
        held = lines[0].get("settings")
        if not isinstance(held, dict):
            raise FormatError(f"{self.path} is no log of a search, or damaged: use another folder")
        _check_same(held, json.loads(json.dumps(settings)), folder)
        for number, line in enumerate(lines[1:], 2):
            self._take(line, number)

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Keep what was found out before the first trial."""
        self.facts = {**self.facts, **facts}
        self._add({"facts": facts})

    def add_trial(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        self._add({"trial": asdict(trial)})

    def _take(self, line: Mapping[str, Any], number: int) -> None:
        if isinstance(line.get("facts"), dict):
            self.facts |= line["facts"]
            return
        try:
            trial = Trial(**check_fields(line.get("trial"), _TRIAL, f"the trial in line {number}"))
        except StateError as error:
            raise FormatError(f"{self.path} is damaged: {error}: use another folder") from None
        if trial.number != len(self.trials):
            raise FormatError(f"{self.path} is damaged: trial {trial.number} stands in place {len(self.trials)}")
        self.trials.append(trial)

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


def _check_same(held: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> None:
    for name in dict.fromkeys([*held, *given]):
        if held.get(name) != given.get(name):
            raise OptionError(
                f"the folder {folder} holds a search with {name}={quoted(held.get(name))}, not"
                f" {quoted(given.get(name))}: give another folder, or the same settings, to go on"
            )
