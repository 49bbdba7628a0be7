import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell import Cubic, Gradual, Static
from prunecell.errors import OptionError, OptionTypeError
from prunecell.schedules import SCHEDULES, Clock, moves, updates_of

DATA = Path(__file__).parents[1] / "data"
EXAMPLES = [
    *(kind(sparsity=0.9, **({"steps": 50} if kind is Cubic else {})) for kind in SCHEDULES.values()),
    Static(sparsity=0.5),
    Gradual(sparsity=0.9, start=0.0, gamma=0.07, every_samples=30),
    Gradual(sparsity=0.9),
    Gradual(sparsity=0.9, start=0.3, gamma=0.1, every_samples=30, float32=True),
    Cubic(sparsity=0.9, epochs=3),
    Cubic(sparsity=0.9, steps=50, start=0.2, begin=10, n_updates=7),
    Cubic(sparsity=0.9, samples=1000),
]


def clocks(batch, steps, epoch_size=100):
    clock = Clock(epoch_size=epoch_size)
    for _ in range(steps):
        yield clock
        clock = clock.advanced(batch)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_laws_that_hold_for_every_schedule(schedule):
    values = [schedule(clock) for clock in clocks(16, 400)]
    assert all(0 <= v <= 1 for v in values)
    assert values == sorted(values)
    assert values[-1] == schedule.sparsity
    assert [schedule(clock) for clock in clocks(16, 400)] == values


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_an_update_is_due_where_the_sparsity_changes(schedule):
    every = [(updates_of(schedule)(clock), schedule(clock)) for clock in clocks(16, 400)]
    assert [update for update, _ in every] == sorted(update for update, _ in every)
    assert len({update for update, _ in every}) == len(set(every)) == len({sparsity for _, sparsity in every})
    assert moves(schedule) == (len(set(every)) > 1)


def test_a_plain_function_is_due_when_it_returns_another_sparsity():
    schedule = lambda clock: min(clock.steps // 2 / 10, 0.9)  # noqa: E731 - a function without a name
    assert [updates_of(schedule)(clock) for clock in clocks(1, 5)] == [0, 0, 0.1, 0.1, 0.2]
    assert moves(schedule)


def test_gradual_fires_when_n2d2_fires():
    with np.load(DATA / "scheduler.npz") as golden:
        for i, every in enumerate(golden["stepsizes"]):
            for j, batch in enumerate(golden["batch_sizes"]):
                if every == 0:  # there: at every mini-batch; documented, and here: once per epoch
                    continue
                schedule = Gradual(sparsity=1.0, every_samples=int(every))
                updates = [schedule.n_updates(clock) for clock in clocks(int(batch), 401)]
                assert np.diff(updates).tolist() == np.unpackbits(golden["fired"][i, j])[:400].tolist()


@given(start=st.integers(0, 1000), gamma=st.integers(1, 1000), end=st.integers(0, 1000))
def test_gradual_passes_the_decimals_that_its_author_wrote(start, gamma, end):
    schedule = Gradual(sparsity=end / 1000, start=start / 1000, gamma=gamma / 1000, every_samples=1)
    passed = [min(at, end) / 1000 for at in range(start, end + gamma, gamma)] if start < end else [start / 1000]
    assert [schedule(clock) for clock in clocks(1, len(passed))] == passed


def test_gradual_adds_in_float32_where_it_is_asked_to():
    schedule = Gradual(sparsity=1.0, start=0.1, gamma=0.3, every_samples=1, float32=True)
    assert [schedule(clock) for clock in clocks(32, 5)] == [0.1, 0.4, 0.70000005, 1.0, 1.0]


def test_gradual_updates_once_per_epoch_by_default():
    schedule = Gradual(sparsity=0.3, start=0.1, gamma=0.1)
    assert [schedule(clock) for clock in clocks(50, 6)] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]


def test_gradual_stays_where_it_starts_above_its_end():
    schedule = Gradual(sparsity=0.3, start=0.5, every_samples=10)
    assert {schedule(clock) for clock in clocks(10, 20)} == {0.5}


def test_a_gamma_lost_in_rounding_is_refused_not_looped_over():
    with pytest.raises(OptionError, match=r"gamma=1e-12 is illegal: too small"):
        Gradual(sparsity=0.9, start=0.5, gamma=1e-12, every_samples=10, float32=True)(Clock())
    with pytest.raises(OptionError, match=r"gamma=1e-17 is illegal: too small to change 0\.9"):
        Gradual(sparsity=0.9, start=0.5, gamma=1e-17)


def test_cubic_is_the_formula():
    schedule = Cubic(sparsity=0.8, start=0.1, epochs=4, begin=1, n_updates=4)
    at = [schedule(Clock(samples=s, epoch_size=100)) for s in range(0, 600, 100)]
    assert at == pytest.approx([0.1, 0.1, *(0.8 - 0.7 * (1 - t / 4) ** 3 for t in (1, 2, 3, 4))])


@given(samples=st.integers(0, 10**9))
def test_epochs_samples_and_steps_say_the_same(samples):
    clock = Clock(samples=samples, steps=samples // 10, epoch_size=1000)
    in_epochs, in_samples = Cubic(sparsity=0.9, epochs=5)(clock), Cubic(sparsity=0.9, samples=5000)(clock)
    assert in_epochs == pytest.approx(in_samples, abs=0.03)


@pytest.mark.parametrize("schedule", [Gradual(sparsity=0.9), Cubic(sparsity=0.9, epochs=3)], ids=repr)
def test_counting_epochs_without_their_size_is_an_error(schedule):
    with pytest.raises(OptionError, match="epoch_size=None is illegal"):
        schedule(Clock(samples=10, steps=1))


@pytest.mark.parametrize(
    "make", [Static, lambda sparsity: Gradual(sparsity=sparsity), lambda sparsity: Cubic(sparsity=sparsity, steps=3)]
)
@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, math.inf])
def test_an_illegal_sparsity_is_refused_by_name(make, value):
    with pytest.raises(OptionError, match=rf"sparsity={value} is illegal: it must be a number in \[0, 1\]"):
        make(sparsity=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -0.1}, r"start=-0.1 is illegal"),
        ({"gamma": 0}, "gamma=0 is illegal: it must be a finite number > 0"),
        ({"gamma": math.nan}, r"gamma=nan is illegal"),
        ({"every_samples": 0}, r"every_samples=0 is illegal: it must be a whole number >= 1"),
    ],
)
def test_illegal_options_of_gradual_are_refused_by_name(options, message):
    with pytest.raises(OptionError, match=message):
        Gradual(sparsity=0.5, **options)


@pytest.mark.parametrize("options", [{}, {"epochs": 1, "steps": 2}])
def test_cubic_needs_exactly_one_length(options):
    with pytest.raises(OptionError, match="exactly one of epochs, steps, samples"):
        Cubic(sparsity=0.5, **options)


def test_wrong_types_are_refused_by_name():
    with pytest.raises(OptionTypeError, match="sparsity=True is illegal"):
        Static(sparsity=True)
    with pytest.raises(OptionTypeError, match=r"every_samples=1\.5 is illegal"):
        Gradual(sparsity=0.5, every_samples=1.5)
