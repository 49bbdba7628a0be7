"""Which layers bear pruning: each weight tensor alone at a ladder of sparsities, and what the loss becomes."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.checks import check_number, check_path
from prunecell.disk.atomic import replacing
from prunecell.disk.endings import PICTURE, check_ending
from prunecell.errors import OptionError
from prunecell.plan import resolve
from prunecell.plan.spec import PruneSpec
from prunecell.pruning import Pruner
from prunecell.report.picture import can_draw, new_figure, plain_ticks
from prunecell.schedules import Schedule, Static
from prunecell.training.accuracy import Batches
from prunecell.tuning.loaders import check_loader
from prunecell.tuning.quality import Loss, mean_loss

if TYPE_CHECKING:
    from rich.console import Group

LADDER = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What the loss becomes when one weight tensor alone is pruned. It prints as a table.

    Attributes:
        loss: of the dense model, the mean over the samples.
        sparsities: the ladder, ascending.
        n_weights: name -> how many weights the tensor has.
        losses: name -> the loss at each sparsity of the ladder.
    """

    loss: float
    sparsities: tuple[float, ...]
    n_weights: Mapping[str, int]
    losses: Mapping[str, tuple[float, ...]]

    def plan(
        self, sparsity: float, *, schedule: Callable[[float], Schedule] = lambda one: Static(sparsity=one)
    ) -> dict[str, PruneSpec | None]:
        """A plan under which the loss of every tensor rises alike, each pruned alone.

        Args:
            sparsity: of all these weights together, in [0, the end of the ladder].
            schedule: a tensor's sparsity -> its schedule.

        Raises:
            OptionError: it is beyond the ladder.
        """
        check_number("sparsity", sparsity, low=0, high=1)
        if sparsity > self.sparsities[-1]:
            raise OptionError(f"sparsity={sparsity!r} is illegal: the ladder ends at {self.sparsities[-1]}")
        sizes = np.array([*self.n_weights.values()], dtype=float)
        low, high = 0.0, max(map(max, self._rises().values())) + 1e-9
        for _ in range(60):  # the rise that all share, halving the gap
            rise = (low + high) / 2
            reached = float(np.average(self._borne(rise), weights=sizes))
            low, high = (rise, high) if reached < sparsity else (low, rise)
        borne = (round(float(one), 4) for one in self._borne(high))
        return {
            name: PruneSpec(schedule=schedule(one)) if one else None
            for name, one in zip(self.n_weights, borne, strict=True)
        }

    def draw(self, path: str | Path) -> None:
        """Draw the rise of the loss into a PNG file, where matplotlib is installed.

        Raises:
            OptionError: the path has the ending of another kind of file.
        """
        path = check_path("path", path)
        check_ending(path, PICTURE)
        if not can_draw():
            return
        figure = new_figure(8, 4.5)
        axes = figure.add_subplot()
        for name, losses in self.losses.items():
            axes.plot(self.sparsities, losses, marker="o", markersize=4, label=f"{name} ({self.n_weights[name]:,})")
        axes.axhline(self.loss, color="tab:gray", linestyle="--", linewidth=1, label="dense")
        axes.set(xlabel="sparsity of this weight alone", ylabel="loss", yscale="log" if self.loss > 0 else "linear")
        if self.loss > 0:
            plain_ticks(axes.yaxis)
        axes.legend(loc="upper left", fontsize="small")
        with replacing(path, sync=False) as file:
            figure.savefig(file, format="png", dpi=120)

    def __rich__(self) -> "Group":
        """The table."""
        from prunecell.report.table import rendered  # noqa: PLC0415 - rich takes 20 ms, which only printing needs

        columns = [
            ("weight", [*self.n_weights], "dense"),
            ("weights", [f"{n:,}" for n in self.n_weights.values()], f"{sum(self.n_weights.values()):,}"),
            *(
                (f"{sparsity:.4g}", [f"{losses[at]:.4g}" for losses in self.losses.values()], f"{self.loss:.4g}")
                for at, sparsity in enumerate(self.sparsities)
            ),
        ]
        return rendered(columns, [], caption="the loss with each weight alone at these sparsities", n_words=1)

    def __str__(self) -> str:
        """The same as plain text."""
        from prunecell.report.table import plain  # noqa: PLC0415

        return plain(self.__rich__())

    def _rises(self) -> dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
        """Name -> how much the loss rises at 0 and along the ladder, never falling; what is no number is endless."""
        return {
            name: np.maximum.accumulate(np.nan_to_num([0.0, *(np.array(losses) - self.loss)], nan=1e30, posinf=1e30))
            for name, losses in self.losses.items()
        }

    def _borne(self, rise: float) -> list[float]:
        """The sparsity that each tensor bears at this rise of the loss, between the rungs by interpolation."""
        ladder = np.array([0.0, *self.sparsities])
        tilt = 1e-12 * np.arange(len(ladder))  # of equal rises the last one counts
        return [float(np.interp(rise, rises + tilt * (1 + rises[-1]), ladder)) for rises in self._rises().values()]


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    batches: Batches,
    *,
    sparsities: Sequence[float] = LADDER,
    loss: Loss = F.cross_entropy,
) -> Sensitivity:
    """Prune each weight tensor alone by magnitude and measure the loss; the model is not changed.

    One pass over the batches for each tensor and each rung of the ladder: a few hundred samples are enough to compare
    layers.

    Args:
        model: any module; the tensors are those that a `Pruner` prunes by default.
        batches: (inputs, labels), to be gone through many times, on the model's device.
        sparsities: the ladder, each in [0, 1], ascending.
        loss: (outputs, labels) -> a scalar, the mean over the samples.

    Raises:
        OptionError: a sparsity is out of range, or they do not ascend; the batches are used up after one pass.
        PlanError: the model has nothing to prune.

    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> x = torch.randn(32, 8)
    >>> found = sensitivity(net, [(x, x[:, :4].argmax(1))], sparsities=(0.5, 0.9))
    >>> list(found.losses), len(found.losses["0.weight"])
    (['0.weight', '2.weight'], 2)
    """
    check_loader("batches", batches)
    ladder = tuple(sparsities)
    for rung in ladder:
        check_number("sparsities", rung, low=0, high=1)
    if not ladder or any(a >= b for a, b in pairwise(ladder)):
        raise OptionError(f"sparsities={ladder!r} is illegal: they must ascend, and there must be one at least")
    twin = deepcopy(model)
    targets, _ = resolve(twin, PruneSpec(schedule=Static(sparsity=0.0)))
    return Sensitivity(
        loss=mean_loss(twin, batches, loss),
        sparsities=ladder,
        n_weights={target.name: target.parameter.numel() for target in targets},
        losses={
            target.name: tuple(_loss_at(twin, target.name, target.parameter, rung, batches, loss) for rung in ladder)
            for target in targets
        },
    )


def _loss_at(twin: nn.Module, name: str, weight: Tensor, sparsity: float, batches: Batches, loss: Loss) -> float:
    """The loss with one tensor pruned; it has its values back afterwards."""
    values = weight.clone()
    Pruner(twin, {name: PruneSpec(schedule=Static(sparsity=sparsity))}).finalize()
    found = mean_loss(twin, batches, loss)
    weight.copy_(values)
    return found
