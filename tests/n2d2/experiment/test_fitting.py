"""The progress bar; Ctrl-C between two steps, and a SIGINT that is ignored."""

import io
import os
import signal
import threading

import pytest
import torch
from rich.console import Console
from torch import nn

from n2d2.experiment import fitting
from n2d2.experiment.fitting import fit_shown, saved_on_interrupt
from prunecell.report import Report
from prunecell.training.checkpoint import Checkpoint
from prunecell.training.fitting import Task


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(path=tmp_path / "run")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_makes_the_checkpoint_due_and_then_stops(checkpoint):
    with pytest.raises(KeyboardInterrupt), saved_on_interrupt(checkpoint) as check:  # noqa: PT012 - the last one stops
        check()
        os.kill(os.getpid(), signal.SIGINT)
        assert not checkpoint.due
        check()
        assert checkpoint.due
        check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_at_the_end_is_not_lost(checkpoint):
    with pytest.raises(KeyboardInterrupt), saved_on_interrupt(checkpoint):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_that_is_ignored_stays_ignored(checkpoint):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with saved_on_interrupt(checkpoint) as check:
        os.kill(os.getpid(), signal.SIGINT)
        check()
        check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert not checkpoint.due


@pytest.mark.usefixtures("ctrl_c")
def test_another_thread_is_left_alone(checkpoint):
    seen = []

    def work():
        with saved_on_interrupt(checkpoint):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_the_progress_bar_counts_each_epoch_anew(checkpoint, monkeypatch):
    bars, seen = [], []

    class Watched(fitting.Bar):
        def __init__(self, *columns, **options):
            super().__init__(*columns, **options)
            bars.append(self)

    def watch(progress):
        row = bars[-1].tasks[0]  # as it was drawn last
        loss = row.fields["loss"]
        seen.append((row.description, row.completed, row.finished, loss if loss == "-" else "a number"))
        assert progress.epochs or progress.samples

    def trained(epochs):
        seen.clear()
        model = nn.Linear(3, 2)
        batches = [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))] * 3
        task = Task(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01), train=lambda _: batches)
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        fit_shown(task, epochs, checkpoint=checkpoint, epoch_size=12, console=console, watch=watch)
        assert "sparsity" not in console.file.getvalue()
        row = bars[-1].tasks[0]
        assert (row.description, row.completed, row.fields["sparsity"]) == (f"epoch {epochs} of {epochs}", 12, "")
        return seen

    monkeypatch.setattr(fitting, "Bar", Watched)
    epochs = [[(f"epoch {n} of 2", done, done == 12, "a number") for done in (4, 8, 12)] for n in (1, 2)]
    assert trained(2) == [("beginning", 0, False, "-"), *epochs[0], ("epoch 2 of 2", 0, False, "-"), *epochs[1]]
    assert trained(3)[:2] == [("beginning", 0, False, "-"), ("epoch 3 of 3", 4, False, "a number")]


@pytest.mark.parametrize("shown", [True, False])
def test_the_bar_asks_no_keeper(checkpoint, shown):
    class Keeper:
        asked = 0

        @property
        def sparsity(self):
            self.asked += 1
            return 0.25

        def step(self, _n_samples):
            pass

        def report(self):
            return Report(weights=(), n_parameters=0)

        def state_dict(self):
            return {}

    model, keeper = nn.Linear(2, 2), Keeper()
    batches = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))] * 8
    task = Task(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), train=lambda _: batches, keeper=keeper)
    out = io.StringIO()
    console = Console(file=out, force_terminal=shown, width=120)
    fit_shown(task, 2, checkpoint=checkpoint, epoch_size=32, console=console, watch=lambda _: None)
    assert keeper.asked == 3  # the training's own: at the beginning and at the ends
    assert ("sparsity 25.0%" in out.getvalue()) == shown
