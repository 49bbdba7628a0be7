"""The picture of a run: sparsity and accuracy over its epochs."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunecell.disk.atomic import replacing
from prunecell.disk.endings import PICTURE, check_ending

Points = Sequence[tuple[float, float]]
"""(epochs since the beginning, a value in [0, 1])."""

_SPARSITY = "tab:blue"
_ACCURACIES = (("tab:gray", "--"), ("tab:orange", "-"), ("tab:green", ":"))


def can_draw() -> bool:
    """Whether matplotlib is there, which only pictures need; a warning tells where it is not."""
    if find_spec("matplotlib"):
        return True
    warnings.warn("no picture is drawn, because matplotlib is not installed: pip install matplotlib", stacklevel=3)
    return False


def new_figure(width: float, height: float) -> Any:  # noqa: ANN401 - matplotlib has no types
    """An empty figure of matplotlib in inches, which needs no screen; only where `can_draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow, and wanted only for pictures
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_ticks(axis: Any) -> None:  # noqa: ANN401 - matplotlib has no types
    """Let a logarithmic axis have ticks at 1, 2, 5, 10, ..., written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415 - as above

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_run(path: Path, *, title: str, sparsity: Points, accuracies: Mapping[str, Points], n_epochs: float) -> None:
    """Draw it into a PNG file, if `can_draw`.

    Args:
        path: where.
        title: one line.
        sparsity: at each of its changes; nothing of a dense run.
        accuracies: label -> points, at most three, the main one second; those without points are left out.
        n_epochs: > 0, where the picture ends.

    Raises:
        OptionError: the path has the ending of another kind of file.
    """
    check_ending(path, PICTURE)
    if not can_draw():
        return
    from matplotlib.ticker import MaxNLocator, PercentFormatter  # noqa: PLC0415 - as above

    figure = new_figure(8, 4.5)
    left = figure.add_subplot()
    right = left.twinx()
    if sparsity:
        times, values = zip(*sparsity, (n_epochs, sparsity[-1][1]), strict=True)
        left.step(times, values, where="post", color=_SPARSITY)
        left.fill_between(times, values, step="post", color=_SPARSITY, alpha=0.12)
    for (label, points), (color, style) in zip(accuracies.items(), _ACCURACIES, strict=False):
        if points:
            right.plot(
                *zip(*points, strict=True), style, marker="o", markersize=4, color=color, label=label, clip_on=False
            )
    left.set(xlabel="epoch", ylim=(0, 1), xlim=(0, n_epochs), title=title)
    left.set_ylabel("sparsity of the prunable weights", color=_SPARSITY)
    right.set_ylabel("accuracy", color=_ACCURACIES[1][0])
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="lower right")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)
