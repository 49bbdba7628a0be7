"""Ctrl-C between two steps, and a SIGINT that is ignored."""

import os
import signal
import threading

import pytest

from n2d2.experiment.fitting import saved_on_interrupt
from prunecell.checkpoint import Checkpoint


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
