"""The picture of the table of layers: how many times faster they are than dense, and what the machine allows."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

HEIGHT = 0.36  # of a bar, where rows are 1 apart
COLORS = {"90 %": "#4477aa", "95 %": "#ee6677"}


class Bar(NamedTuple):
    """One layer: the ratios of dense to sparse time that were reached, and those of the limit, at each of COLORS."""

    name: str
    reached: Sequence[float]
    limit: Sequence[float]


def draw(bars: Sequence[Bar], path: Path) -> None:
    """Write the picture: a bar for each sparsity, and a line where the limit is."""
    figure = Figure(figsize=(8, 0.55 * len(bars) + 1), layout="constrained")
    axes = figure.subplots()
    for i, (sparsity, color) in enumerate(COLORS.items()):
        rows = [row + (i - 0.5) * HEIGHT for row in range(len(bars))]
        reached = [bar.reached[i] for bar in bars]
        drawn = axes.barh(rows, reached, HEIGHT, color=color, label=f"{sparsity} zeros")
        axes.bar_label(drawn, [f"{ratio:.1f}" for ratio in reached], padding=3, fontsize=7)
        ends = [row - HEIGHT / 2 for row in rows], [row + HEIGHT / 2 for row in rows]
        limit = "what the machine allows" if i == 0 else ""
        axes.vlines([bar.limit[i] for bar in bars], *ends, color="black", linewidth=1.5, label=limit)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.set_xlabel("times faster than the fastest dense float32 layer")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)
