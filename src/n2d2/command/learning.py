"""Learning as the command does it: `prunecell.training.fit` under a progress bar, with Ctrl-C between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from n2d2.command.logbook import Logbook
from prunecell.training import Checkpoint, Progress, Task, fit


def learn(task: Task, epochs: int, *, checkpoint: Checkpoint, logbook: Logbook, console: Console) -> Progress:
    """Train for so many epochs, going on from the checkpoint if it is there.

    Raises:
        KeyboardInterrupt: Ctrl-C; the checkpoint has all that was learned.
    """
    columns = TextColumn("epoch {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        saved_on_interrupt(checkpoint) as check,
        Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        row = bar.add_task("", total=logbook.network.provider.epoch_size)

        def watched(progress: Progress) -> None:
            check()
            logbook.watch(progress)
            number = min(len(progress.epochs) + 1, epochs)
            bar.update(row, completed=progress.samples, description=f"{number}/{epochs}")

        return fit(task, epochs, checkpoint=checkpoint, watch=watched)


@contextmanager
def saved_on_interrupt(checkpoint: Checkpoint) -> Iterator[Callable[[], None]]:
    """Give a function to be called before each time that the checkpoint may be written.

    After Ctrl-C it makes the checkpoint due, and at its next call, when that was written, raises KeyboardInterrupt.
    A second Ctrl-C interrupts at once.
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

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
