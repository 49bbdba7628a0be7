"""Search: what is tried, one trial after the other, from the beginning or from where the folder's log ends."""

import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunecell.archive import save
from prunecell.described import shown
from prunecell.errors import DivergedError, OptionError, PlanError
from prunecell.tuning.beginning import begin
from prunecell.tuning.bench import Bench, Hopeless, OutOfTime, Run
from prunecell.tuning.bisection import next_knob
from prunecell.tuning.ending import draw, end
from prunecell.tuning.problem import Problem
from prunecell.tuning.result import Tuned
from prunecell.tuning.strategies import Strategy
from prunecell.tuning.trials import Log, Trial, best_of, file_of, line_of

Engine = Callable[[Problem, Path, Callable[[str], None], float], Tuned]
"""(problem, its folder, what is told each line, when the call began) -> what was found; the folder is locked."""

_DRAW_EVERY = 10.0  # seconds


def in_turn(problem: Problem, folder: Path, watch: Callable[[str], None], begun: float) -> Tuned:
    """The engine of one process: one trial after the other, because each knob follows from the verdict before."""
    return Search(problem=problem, folder=folder, watch=watch, begun=begun).run()


@dataclass(kw_only=True)
class Search:
    """A search in a folder, which nobody else works in, and where it is.

    Attributes:
        problem: what is asked.
        folder: where everything is written.
        begun: when the call began, as `time.monotonic` counts.
        watch: is told what happens.
        report: is given each trial, those of the log too, and the smallest good one until then.
        facts: what another search has found out before the first trial; empty: nothing.
        left_out: strategies that do not fit the model, and why.
        draw_at: when the curve is drawn again.
        is_late: whether a trial was left out because the time that is left is too short.
    """

    problem: Problem
    folder: Path
    begun: float
    watch: Callable[[str], None]
    report: Callable[[Trial, Trial], None] = lambda _trial, _best: None
    facts: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[tuple[Strategy, Exception]] = field(default_factory=list)
    is_late: bool = False
    draw_at: float = field(default_factory=lambda: time.monotonic() + _DRAW_EVERY)

    def run(self) -> Tuned:
        """All of it, from the beginning or from where the folder's log ends.

        Raises:
            OptionError: the folder holds another search.
            FormatError: its log is damaged, or the file of the best trial is.
        """
        log = Log(self.folder, self.problem.settings())
        if self.facts and not log.facts:
            log.add_facts(self.facts)
        spent = sum(t.seconds for t in log.trials) + log.facts.get("seconds", 0)
        deadline = self.begun + self.problem.seconds - spent
        begin(self.problem, log, self.folder, self.watch, self.begun)
        bench, told = self.problem.bench(log.facts), self.problem.judge.told
        self.watch(f"good enough: {told(bench.least)} or better; dense {told(bench.dense)}")
        self.watch(f"  # {'strategy':<15} {'knob':<9} {'file':>17} {'smaller':>8}  quality  seconds")
        for n in range(len(log.trials)):
            self._tell(log, n)
        while (choice := self._choose(bench, log, deadline)) is not None:
            try:
                trial = self._try(*choice, bench, len(log.trials), deadline)
            except OutOfTime:
                self.watch(f"the time is up in trial {len(log.trials)}; with more minutes it goes on from there")
                break
            except (PlanError, OptionError) as error:
                self.left_out.append((choice[0], error))
                self.watch(f"{shown(choice[0])} is left out: {error}")
                continue
            log.add_trial(trial)
            self._tell(log, trial.number)
            if time.monotonic() > self.draw_at:
                draw(self.problem, log.facts, log.trials, self.folder)
                self.draw_at = time.monotonic() + _DRAW_EVERY
        else:
            has_time = not self.is_late and time.monotonic() <= deadline
            self.watch("all strategies have ended" if has_time else "the time is up; with more minutes it goes on")
        found = end(self.problem, log.facts, log.trials, self.folder)
        self.watch(f"{found}: {told(found.best.quality)}, dense {told(bench.dense)}")
        return found

    def _choose(self, bench: Bench, log: Log, deadline: float) -> tuple[Strategy, float] | None:
        """What to try next: the strategy with the smallest good file, until it has ended; then one without any turn.

        What needs no training comes first, because it costs nothing. A strategy that failed with a file no smaller than
        the best one is given up: what passes would be larger still.
        """
        open_ones, best, self.is_late = [], best_of(log.trials).n_bytes or 0, False
        for place, strategy in enumerate(self.problem.strategies):
            tried = [t for t in log.trials if t.strategy == shown(strategy)]
            if any(strategy == one for one, _ in self.left_out) or any(
                not t.passed and (t.n_bytes or 0) >= best for t in tried
            ):
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

    def _try(self, strategy: Strategy, knob: float, bench: Bench, number: int, deadline: float) -> Trial:
        """Make a model, write its file, read it back and judge it."""
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
            quality = self.problem.judge(self.problem.read_back(path))
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

    def _tell(self, log: Log, number: int) -> None:
        """Tell of a trial, and whether it was the best until then."""
        trial, best = log.trials[number], best_of(log.trials[: number + 1])
        smallest = ", the smallest so far" if trial is best and number else ""
        quality = self.problem.judge.told(trial.quality)
        line = line_of(trial, width=15, dense_bytes=log.facts["dense_bytes"], quality=quality)
        self.watch(f"{trial.number:>3} {line}{smallest}")
        self.report(trial, best)
