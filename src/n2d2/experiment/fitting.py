"""Training as both commands do it: `prunecell.training.fit` under a progress bar, with Ctrl-C between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task, fit
from prunecell.training.progress import Progress


def fit_shown(
    task: Task,
    epochs: int,
    *,
    checkpoint: Checkpoint,
    epoch_size: int,
    console: Console,
    watch: Callable[[Progress], None],
) -> Progress:
    """Train for so many epochs, going on from the checkpoint if it is there.

    Args:
        task: what is trained.
        epochs: >= 0; those of the checkpoint count.
        checkpoint: where to write, and to go on from.
        epoch_size: training samples in an epoch.
        console: has the progress bar, where it is a terminal.
        watch: called after every step and after every epoch.

    Raises:
        KeyboardInterrupt: Ctrl-C; the checkpoint has all that was learned.
        DivergedError, FormatError: as `fit`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}{task.fields[sparsity]}"),
        TimeRemainingColumn(),
    )
    with (
        saved_on_interrupt(checkpoint) as check,
        Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        row = bar.add_task("beginning", total=epoch_size, loss="-", sparsity="")

        def watched(progress: Progress) -> None:
            check()
            watch(progress)
            if bar.disable or len(progress.epochs) == epochs:
                return  # the bar stays full until it is taken away
            epoch = f"epoch {len(progress.epochs) + 1} of {epochs}"
            if epoch != bar.tasks[0].description:
                bar.reset(row)  # else rich holds it to be finished from the first epoch on, and estimates no time
            bar.update(
                row,
                completed=progress.samples,
                description=epoch,
                loss=f"{progress.loss_sum / progress.samples:.4f}" if progress.samples else "-",
                sparsity=f"  sparsity {progress.sparsity[-1][1]:.1%}" if progress.sparsity else "",  # as noted last
            )

        return fit(task, epochs, checkpoint=checkpoint, watch=watched)


@contextmanager
def saved_on_interrupt(checkpoint: Checkpoint) -> Iterator[Callable[[], None]]:
    """Give a function to be called before each time that the checkpoint may be written.

    After Ctrl-C it makes the checkpoint due, and at its next call, when that was written, raises KeyboardInterrupt; so
    does the end, where every checkpoint is written. A second Ctrl-C interrupts at once. A SIGINT that is ignored, as
    under nohup or in the background, stays ignored; outside of the main thread, which alone gets signals, nothing is
    done.
    """
    interrupted = due = False

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's arguments
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check() -> None:
        nonlocal due
        if due:
            raise KeyboardInterrupt
        if interrupted:
            checkpoint.every_seconds, due = 0.0, True

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
