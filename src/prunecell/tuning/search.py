"""Search: what one call of `tune` does, from the beginning or from where its folder's log ends."""

import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from prunecell.archive import save
from prunecell.described import described, shown
from prunecell.disk.atomic import replacing
from prunecell.errors import DivergedError, FormatError, OptionError, PlanError, some
from prunecell.files.torch_file import torch_bytes
from prunecell.plan.candidates import candidates
from prunecell.structured.resizing import load_model
from prunecell.training.accuracy import Batches
from prunecell.tuning.bench import Bench, Hopeless, MakeOptimizer, OutOfTime, Run, adam
from prunecell.tuning.bisection import next_knob
from prunecell.tuning.curve import draw_curve
from prunecell.tuning.defaults import RATES, STEPS, fastest
from prunecell.tuning.layers import Sensitivity, sensitivity
from prunecell.tuning.loaders import Stream, some_batches
from prunecell.tuning.quality import Judge, Loss
from prunecell.tuning.result import Tuned
from prunecell.tuning.strategies import Rate, Strategy, Structured
from prunecell.tuning.telling import data_told
from prunecell.tuning.trials import Log, Trial, best_of, file_of

BEST, CURVE, LAYERS = "best.pcell", "curve.png", "sensitivity.png"
"""The files in a search's folder, beside its log, an archive for each trial, and the checkpoint of one that runs."""

_EPOCHS = 10  # of a trial, where no time is given
_MOST_EPOCHS = 20
_TRIALS = 5  # that train, and should find time
_SAMPLES = 1000  # by which the layers' sensitivity is measured
_DRAW_EVERY = 10.0  # seconds
_SAME = 0.005  # relative: other threads or devices move a sample or two over an edge
_PROBED = 0.9  # the sparsity at which learning rates are tried out


@dataclass(kw_only=True)
class Search:
    """One call of `tune`: its arguments, checked, and where it is.

    Attributes:
        dense: the quality of the model.
        begun: when the call began, as `time.monotonic` counts.
        left_out: strategies that do not fit the model.
        draw_at: when the curve is drawn again.
        is_late: whether a trial was left out because the time that is left is too short.
    """

    model: nn.Module
    train: Stream
    validation: Batches
    judge: Judge
    loss: Loss
    seconds: float
    epochs: int | None
    folder: Path
    optimizer: MakeOptimizer | None
    strategies: Sequence[Strategy]
    seed: int
    watch: Callable[[str], None]
    dense: float
    begun: float
    left_out: list[Strategy] = field(default_factory=list)
    is_late: bool = False
    draw_at: float = field(default_factory=lambda: time.monotonic() + _DRAW_EVERY)

    def run(self) -> Tuned:
        """All of it, from the beginning or from where the folder's log ends.

        Raises:
            OptionError: the folder holds another search.
            FormatError: its log is damaged, or the file of the best trial is.
        """
        log = Log(self.folder, self._settings())
        spent = sum(t.seconds for t in log.trials) + log.facts.get("seconds", 0)
        deadline = self.begun + self.seconds - spent
        self._check_held(log)
        self._prepare(log)
        bench = self._bench(log)
        if not log.trials:
            log.add_trial(self._dense_trial(log))
        self.watch(f"good enough: {self.judge.told(bench.least)} or better; dense {self.judge.told(bench.dense)}")
        self.watch(f"  # {'strategy':<15} {'knob':<9} {'file':>17} {'smaller':>8}  quality  seconds")
        for trial in log.trials:
            self.watch(self._line(trial, log))
        while (choice := self._choose(bench, log, deadline)) is not None:
            try:
                trial = self._try(*choice, bench, log, deadline)
            except OutOfTime:
                self.watch(f"the time is up in trial {len(log.trials)}; with more minutes it goes on from there")
                break
            except (PlanError, OptionError) as error:
                self.left_out.append(choice[0])
                self.watch(f"{shown(choice[0])} is left out: {error}")
                continue
            log.add_trial(trial)
            self.watch(self._line(trial, log))
            if time.monotonic() > self.draw_at:
                self._draw(log)
        else:
            has_time = not self.is_late and time.monotonic() <= deadline
            self.watch("all strategies have ended" if has_time else "the time is up; with more minutes it goes on")
        self._draw(log)
        return self._result(log)

    def _settings(self) -> dict[str, Any]:
        """All that decides what is found, as plain data."""
        allowance = self.judge.allowance
        return {
            "model": _digest(self.model),
            "train": data_told(self.train.loader),
            "validation": data_told(self.validation),
            "max_drop": allowance.max_drop,
            "max_rise": allowance.max_rise,
            "epochs": self.epochs,
            "seed": self.seed,
            "loss": described(self.loss),
            "metric": described(self.judge.metric),
            "optimizer": described(self.optimizer),
            "strategies": [described(strategy) for strategy in self.strategies],
        }

    def _check_held(self, log: Log) -> None:
        """Refuse a search whose dense model was of another quality, and one whose best file is gone."""
        if not log.facts:
            return
        if not math.isclose(log.facts["dense"], self.dense, rel_tol=_SAME, abs_tol=_SAME / 1000):
            raise OptionError(
                f"the folder {self.folder} holds a search in which the dense model had"
                f" {self.judge.told(log.facts['dense'])}, not {self.judge.told(self.dense)}: its validation data, the"
                " metric or the model's own code is another now: give another folder, or the same, to go on"
            )
        if log.trials:
            best = best_of(log.trials)
            path = self.folder / best.file
            if not path.is_file() or path.stat().st_size != best.n_bytes:
                raise FormatError(
                    f"{path}, the best file of the search, is not there, or not the one of {best.n_bytes:,} bytes that"
                    f" {log.path} tells of: put it back, or use another folder"
                )

    def _prepare(self, log: Log) -> None:
        """Find out what trials build on, once."""
        if log.facts:
            return
        self._tell_of_norms()
        found = sensitivity(self.model, some_batches(self.judge.validation(), _SAMPLES), loss=self.loss)
        found.draw(self.folder / LAYERS)
        self.watch(str(found))
        rate, step_seconds = self._tried_out()
        epochs = self.epochs or self._fitting_epochs(time.monotonic() - self.begun, step_seconds)
        log.add_facts(
            {
                "dense": self.dense,
                "dense_bytes": len(torch_bytes(self.model)),
                "sensitivity": vars(found),
                "lr": rate,
                "epochs": epochs,
                "seconds": time.monotonic() - self.begun,
            }
        )

    def _tell_of_norms(self) -> None:
        """Say which weights `Rate` must leave as they are, because their layer divides by their norm."""
        normed = [one.name for one in candidates(self.model) if one.normed is not None]
        if normed and any(isinstance(strategy, Rate | Structured) for strategy in self.strategies):
            self.watch(
                f"{some(normed)}: no integers are made of a weight whose layer divides by its norm, so the files are"
                " larger; they get smaller if the norm is removed first (torch.nn.utils.parametrize"
                ".remove_parametrizations, or torch.nn.utils.remove_weight_norm)"
            )

    def _tried_out(self) -> tuple[float, float]:
        """The learning rate, 0 for an optimizer that was given, and the seconds that a step takes."""
        if not any(strategy.trains for strategy in self.strategies):
            return 0.0, 0.0
        makers = {0.0: self.optimizer} if self.optimizer else {rate: adam(rate) for rate in RATES}
        started = time.monotonic()
        rate = fastest(self.model, self.train, self.loss, makers, sparsity=_PROBED, seed=self.seed)
        step_seconds = (time.monotonic() - started) / (len(makers) * STEPS)
        if not self.optimizer:
            self.watch(f"learning rate of Adam: {rate:g}, the best of those tried out")
        return rate, step_seconds

    def _fitting_epochs(self, spent: float, step_seconds: float) -> int:
        """How many epochs a trial has, so that several trials find time."""
        epoch_seconds = step_seconds * self.train.n_batches
        if self.seconds == math.inf or not epoch_seconds:
            return _EPOCHS
        return min(max(int((self.seconds - spent) / (_TRIALS * epoch_seconds)), 1), _MOST_EPOCHS)

    def _bench(self, log: Log) -> Bench:
        return Bench(
            model=self.model,
            train=self.train,
            judge=self.judge,
            loss=self.loss,
            dense=log.facts["dense"],
            least=self.judge.allowance.least(log.facts["dense"]),
            epochs=log.facts["epochs"],
            make_optimizer=self.optimizer or adam(log.facts["lr"]),
            lr=None if self.optimizer else log.facts["lr"],
            seed=self.seed,
        )

    def _choose(self, bench: Bench, log: Log, deadline: float) -> tuple[Strategy, float] | None:
        """What to try next: the strategy with the smallest good file, until it has ended; then one without any turn.

        What needs no training comes first, because it costs nothing. A strategy that failed with a file no smaller than
        the best one is given up: what passes would be larger still.
        """
        open_ones, best, self.is_late = [], best_of(log.trials).n_bytes or 0, False
        for place, strategy in enumerate(self.strategies):
            tried = [t for t in log.trials if t.strategy == shown(strategy)]
            if strategy in self.left_out or any(not t.passed and (t.n_bytes or 0) >= best for t in tried):
                continue
            knob = next_knob([(t.knob, t.passed) for t in tried], strategy.first(bench, log.trials), strategy.factor)
            late = strategy.trains and tried and time.monotonic() + max(t.seconds for t in tried) > deadline
            is_legal = knob is not None and strategy.low <= knob <= strategy.high
            self.is_late |= bool(is_legal and late)
            if knob is not None and is_legal and not late:
                smallest = min((t.n_bytes for t in tried if t.passed and t.n_bytes), default=None)
                turn = 0 if not strategy.trains else 1 if smallest else 2 if not tried else 3
                open_ones.append(((turn, smallest or 0, place), strategy, knob))
        if not open_ones or time.monotonic() > deadline:
            return None
        _, strategy, knob = min(open_ones, key=lambda one: one[0])
        return strategy, knob

    def _try(self, strategy: Strategy, knob: float, bench: Bench, log: Log, deadline: float) -> Trial:
        """Make a model, write its file, read it back and judge it."""
        number = len(log.trials)
        path = self.folder / file_of(number)
        what = zlib.crc32(f"{shown(strategy)} {knob!r}".encode())  # a longer search may give it another number
        stem = self.folder / f"training-{what:08x}"
        started = time.monotonic()
        quality, stopped, n_bytes = math.nan, "", None
        run = Run(bench=bench, stem=stem, deadline=deadline if strategy.trains else math.inf)
        try:
            small, values = strategy.make(run, knob)
            save(small, path, values=values)
            n_bytes = path.stat().st_size
            quality = self.judge(self._read_back(path))
        except Hopeless as late:
            quality, stopped = late.quality, "hopeless"
        except DivergedError:
            stopped = "diverged"
        except (PlanError, OptionError):
            run.end()
            raise
        run.end()
        return Trial(
            number=number,
            strategy=shown(strategy),
            knob=knob,
            n_bytes=n_bytes,
            quality=quality,
            passed=n_bytes is not None and quality >= bench.least,
            stopped=stopped,
            seconds=time.monotonic() - started,
            file=path.name if n_bytes is not None else "",
            recipe=strategy.recipe(bench, knob),
        )

    def _read_back(self, path: Path) -> nn.Module:
        """The model in a file, which may have fewer units than the dense one."""
        return load_model(path, deepcopy(self.model)).eval()

    def _dense_trial(self, log: Log) -> Trial:
        """The model as it is, without any loss: what is found where nothing else is good enough."""
        path = self.folder / file_of(0)
        save(self.model, path)
        return Trial(
            number=0,
            strategy="dense",
            knob=1.0,
            n_bytes=path.stat().st_size,
            quality=log.facts["dense"],
            passed=True,
            stopped="",
            seconds=0.0,
            file=path.name,
            recipe='import prunecell as pc\n\npc.save(model, "small.pcell")\n',
        )

    def _line(self, trial: Trial, log: Log) -> str:
        """What is told of a trial."""
        size = "no file" if trial.n_bytes is None else f"{trial.n_bytes:,} bytes"
        ratio = "" if trial.n_bytes is None else f"{log.facts['dense_bytes'] / trial.n_bytes:.1f} x"
        verdict = trial.stopped or ("good enough" if trial.passed else "too bad")
        best = ", the smallest so far" if trial == best_of(log.trials[: trial.number + 1]) and trial.number else ""
        words = f"{trial.strategy:<15} {trial.knob:<9.3g} {size:>17} {ratio:>8}"
        return f"{trial.number:>3} {words}  {self.judge.told(trial.quality)}  {trial.seconds:5.0f} s  {verdict}{best}"

    def _draw(self, log: Log) -> None:
        self.draw_at = time.monotonic() + _DRAW_EVERY
        bench = self._bench(log)
        label = "minus the loss" if self.judge.allowance.max_drop is None else "quality on the validation data"
        draw_curve(
            self.folder / CURVE, log.trials, least=bench.least, label=label, dense_bytes=log.facts["dense_bytes"]
        )

    def _result(self, log: Log) -> Tuned:
        best = best_of(log.trials)
        path = self.folder / BEST
        with replacing(path) as file, (self.folder / best.file).open("rb") as written:
            shutil.copyfileobj(written, file)
        found = Tuned(
            model=self._read_back(path),
            path=path,
            trials=tuple(log.trials),
            dense_bytes=log.facts["dense_bytes"],
            least=self._bench(log).least,
            sensitivity=_sensitivity_of(log.facts["sensitivity"]),
        )
        told = self.judge.told
        self.watch(f"{found}: {told(found.best.quality)}, dense {told(log.facts['dense'])}")
        return found


def _digest(model: nn.Module) -> str:
    """A text that differs where the weights, or the names of the layers' classes, do."""
    kinds = [f"{path}: {type(module).__qualname__}" for path, module in model.named_modules()]
    told = json.dumps([kinds, described(dict(model.state_dict()))])
    return f"{type(model).__qualname__} {zlib.crc32(told.encode()):08x}"


def _sensitivity_of(data: Mapping[str, Any]) -> Sensitivity:
    """What a log's line holds of it."""
    return Sensitivity(
        loss=data["loss"],
        sparsities=tuple(data["sparsities"]),
        n_weights=data["n_weights"],
        losses={name: tuple(losses) for name, losses in data["losses"].items()},
    )
