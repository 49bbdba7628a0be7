"""What the command tells and keeps of a learning: a line at every log, the success over time, the best weights."""

import sys
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field, fields
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from n2d2.experiment.experiment import Experiment
from n2d2.network.network import Answers
from prunecell.disk.atomic import replacing
from prunecell.kinds import COUNT, LIST, NUMBER, REAL, SHARE, check_fields
from prunecell.report.picture import draw_run
from prunecell.training.fitting import Keeper
from prunecell.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Row:
    """One log.

    Attributes:
        samples: learned so far.
        loss, learning: the mean loss, and the success in [0, 1], of the samples learned since the last log.
        validation: the success in [0, 1] on the validation stimuli; NaN without any.
        sparsity: of the prunable weights. threshold: the highest that their schedules ask for; NaN of integers, which
            have none.
    """

    samples: int
    loss: float
    learning: float
    validation: float
    sparsity: float
    threshold: float


_ROW = {
    "samples": COUNT,
    "loss": REAL,
    "learning": SHARE,
    "validation": REAL,
    "sparsity": NUMBER,
    "threshold": REAL,
}
_BEST = {"threshold": REAL, "validation": REAL}

CURVES = ("learning", "validation")
"""What is drawn of the rows."""

TITLES = f"{'samples':>11} {'epoch':>7} {'loss':>8} {'learning':>9} {'validation':>10} {'sparsity':>9} {'threshold':>9}"


def line(row: Row, epoch_size: int) -> str:
    """A row as it stands under TITLES."""
    validation = "-" if isnan(row.validation) else f"{row.validation:.2%}"
    epoch = row.samples / epoch_size
    time = f"{row.samples:11,} {epoch:7.2f}"
    threshold = "-" if isnan(row.threshold) else f"{row.threshold:.3f}"
    return f"{time} {row.loss:8.4f} {row.learning:9.2%} {validation:>10} {row.sparsity:9.2%} {threshold:>9}"


@torch.no_grad()
def measure(experiment: Experiment, partition: str, n_stimuli: int = sys.maxsize) -> list[float]:
    """The success of each target on a partition, or its first so many stimuli, in [0, 1]; NaN without any.

    The targets keep what they counted.
    """
    network, provider = experiment.network, experiment.provider
    provider.set_partition(partition)
    experiment.model.eval()
    for target in network.targets:
        target.clear_success(partition)
    seen = 0
    for images, labels in provider.batches(partition, shuffle=False):
        n = min(len(labels), n_stimuli - seen)
        if not n:
            break
        for target, scores in network.answers(experiment.model(images[:n])):
            target.count(scores, labels[:n])
        seen += n
    return [target.get_average_top_n_success() if seen else nan for target in network.targets]


@dataclass(eq=False, kw_only=True)
class Logbook:
    """Counts and logs while a network learns; `loss` and `watch` are for `prunecell.training.fitting`.

    Args:
        experiment: what learns. keeper: the Pruner of its model, or the Quantizer, if there is one.
        every: >= 1, samples between two logs. total: samples of the whole learning; its end is logged too.
        say: prints a line.
        keep: called when the validation was never as good at the threshold of that moment. Every higher threshold
            begins anew, so what was kept last is pruned as far as it came.
    """

    experiment: Experiment
    keeper: Keeper | None
    every: int
    total: int
    say: Callable[[str], None]
    keep: Callable[[], None]
    samples: int = field(default=0, init=False)
    rows: list[Row] = field(default_factory=list, init=False)
    best: tuple[float, float] = field(default=(-1.0, -1.0), init=False)

    def loss(self, made: Answers, labels: torch.Tensor) -> torch.Tensor:
        """The network's loss; every target counts."""
        network = self.experiment.network
        loss = network.loss(made, labels)
        for target, scores in network.answers(made):
            target.count(scores.detach(), labels, loss.item())
        return loss

    def watch(self, progress: Progress) -> None:
        """Log where it is time, after a step."""
        self.samples = progress.total_samples
        logged = self.rows[-1].samples if self.rows else 0
        if self.samples // self.every > logged // self.every or logged < self.samples == self.total:
            self._log()

    def _log(self) -> None:
        target = self.experiment.network.targets[0]
        loss, learning = target.average_loss(), target.get_average_top_n_success()
        validation = measure(self.experiment, "Validation")[0]
        weights = () if self.keeper is None else self.keeper.report().weights
        asked = [weight.target_sparsity for weight in weights if weight.target_sparsity is not None]
        threshold = max(asked, default=0.0 if self.keeper is None else nan)
        self.rows.append(
            Row(
                samples=self.samples,
                loss=loss,
                learning=learning,
                validation=validation,
                sparsity=0.0 if self.keeper is None else self.keeper.sparsity,
                threshold=threshold,
            )
        )
        self.say(line(self.rows[-1], self.experiment.provider.epoch_size))
        reached = (threshold, validation)
        if not any(map(isnan, reached)) and reached > self.best:
            self.best = reached
            self.keep()
        self.begin()

    def begin(self) -> None:
        """Learn, from now on."""
        self.experiment.provider.set_partition("Learn")
        self.experiment.model.train()
        for one in self.experiment.network.targets:
            one.clear_success("Learn")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed learning needs to write the same log."""
        return {"samples": self.samples, "rows": [asdict(row) for row in self.rows], "best": list(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            StateError: it is none of a logbook; nothing was changed.
        """
        check_fields(state, {"samples": COUNT, "rows": LIST, "best": LIST}, "the logbook")
        rows = [Row(**check_fields(row, _ROW, f"row {n} of the logbook")) for n, row in enumerate(state["rows"], 1)]
        best = check_fields(dict(zip(_BEST, state["best"], strict=False)), _BEST, "best of the logbook")
        self.samples, self.rows, self.best = state["samples"], rows, (best["threshold"], best["validation"])
        self.say(f"going on after {self.samples:,} samples")

    def write(self, path: Path, title: str, progress: Progress) -> None:
        """Write the rows to `path`.dat, and draw them as `path`.png, with each change of the sparsity in between."""
        names = " ".join(one.name for one in fields(Row))
        with replacing(path.with_name(f"{path.name}.dat")) as file:
            np.savetxt(file, [astuple(row) for row in self.rows], fmt="%.9g", header=names)
        size = self.experiment.provider.epoch_size
        found = {name: [(row.samples / size, getattr(row, name)) for row in self.rows] for name in CURVES}
        draw_run(
            path.with_name(f"{path.name}.png"),
            title=title,
            sparsity=[(samples / size, sparsity) for samples, sparsity in progress.sparsity],
            accuracies={name: [p for p in found[name] if not isnan(p[1])] for name in CURVES},
            n_epochs=self.samples / size or 1,
        )
