"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from prunecell.training import Epoch, Progress

_SPARSITY, _ACCURACY, _DENSE = "tab:blue", "tab:orange", "tab:gray"


def draw_run(path: Path, progress: Progress, *, title: str, reference: Sequence[Epoch] = ()) -> None:
    """Draw sparsity and validation accuracy over the epochs of a run into a PNG file.

    Args:
        path: where.
        progress: of a run with a pruner.
        title: one line.
        reference: the epochs of the dense network, drawn beside it.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right = left.twinx()
    n_epochs = len(progress.epochs)
    per_epoch = max(progress.total_samples, 1) / max(n_epochs, 1)
    times = [samples / per_epoch for samples, _ in progress.sparsity]
    values = [sparsity for _, sparsity in progress.sparsity]
    left.step([*times, n_epochs], [*values, values[-1]], where="post", color=_SPARSITY)
    left.fill_between([*times, n_epochs], [*values, values[-1]], step="post", color=_SPARSITY, alpha=0.12)
    for epochs, color, label, style in (
        (reference, _DENSE, "dense", "--"),
        (progress.epochs, _ACCURACY, "pruned", "-"),
    ):
        known = [(e.number, e.accuracy) for e in epochs if e.accuracy is not None]
        if known:
            right.plot(
                *zip(*known, strict=True), style, marker="o", markersize=4, color=color, label=f"accuracy, {label}"
            )
    left.set(xlabel="epoch", ylim=(0, 1), xlim=(0, n_epochs), title=title)
    left.set_ylabel("sparsity of the prunable weights", color=_SPARSITY)
    right.set_ylabel("validation accuracy", color=_ACCURACY)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="lower right")
    figure.savefig(path, dpi=130)
