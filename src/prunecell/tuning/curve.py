"""The trade-off curve of a search: bytes of the files against the quality of the models in them."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunecell.disk.atomic import replacing
from prunecell.report.picture import can_draw, new_figure, plain_ticks
from prunecell.tuning.trials import Trial, pareto

_LOOKS = {
    "dense": ("tab:gray", "o"),
    "OneShot": ("tab:blue", "s"),
    "PruneAndShare": ("tab:orange", "D"),
    "Rate": ("tab:green", "^"),
    "Structured": ("tab:purple", "P"),
}
"""Class of a strategy -> colour and marker, the same in all pictures."""
_COLORS, _MARKERS = ("tab:brown", "tab:pink", "tab:cyan"), "X*<>hdp"
"""Of other classes, by their names; markers also of further strategies of a class."""


def look_of(strategy: str) -> tuple[str, str]:
    """Colour and marker of a strategy, which depend on nothing but how it is written.

    >>> look_of("OneShot()"), look_of("OneShot(criterion=magnitude)")[0]
    (('tab:blue', 's'), 'tab:blue')
    """
    name, _, fields = strategy.partition("(")
    color, marker = _LOOKS.get(name, (_COLORS[zlib.crc32(name.encode()) % len(_COLORS)], ""))
    if marker and fields in ("", ")"):
        return color, marker
    return color, _MARKERS[zlib.crc32(strategy.encode()) % len(_MARKERS)]


def draw_curve(path: Path, trials: Sequence[Trial], *, least: float, label: str, dense_bytes: int) -> None:
    """Draw it into a PNG file, where matplotlib is installed.

    Args:
        path: where.
        trials: those with a file are drawn; the Pareto set is joined by a line.
        least: the quality that is enough, a dashed line.
        label: of the quality.
        dense_bytes: of the dense state_dict; the upper axis tells how many times smaller a file is.
    """
    if not can_draw():
        return
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    drawn = [t for t in trials if t.n_bytes is not None]
    for strategy in dict.fromkeys(t.strategy for t in drawn):
        points = [(t.n_bytes, t.quality) for t in drawn if t.strategy == strategy]
        color, marker = look_of(strategy)
        axes.plot(*zip(*points, strict=True), marker, color=color, linestyle="", label=strategy)
    front = [(t.n_bytes, t.quality) for t in pareto(drawn)]
    axes.plot(*zip(*front, strict=True), color="tab:gray", linewidth=1, drawstyle="steps-post", zorder=0)
    axes.axhline(least, color="tab:red", linestyle="--", linewidth=1, label="enough")
    spread = max((t.quality for t in drawn), default=least) - least
    margin = 0.3 * max(spread, 1e-6)  # so that no point is cut
    axes.set_ylim(bottom=max(min(t.quality for t in drawn) - margin, least - 6 * max(spread, 1e-6)))
    axes.set(xscale="log", xlabel="bytes of the file", ylabel=label)

    def times(n: Any) -> Any:  # noqa: ANN401 - numpy's, and its own inverse
        return dense_bytes / np.maximum(n, 1e-9)

    upper = axes.secondary_xaxis("top", functions=(times, times))
    upper.set_xlabel("times smaller than the dense state_dict")
    plain_ticks(axes.xaxis)
    plain_ticks(upper.xaxis)
    axes.legend(loc="lower right")
    with replacing(path, sync=False) as file:
        figure.savefig(file, format="png", dpi=120)
