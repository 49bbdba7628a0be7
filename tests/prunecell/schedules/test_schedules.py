import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell import Cubic, Gradual, Static
from prunecell.errors import OptionError, OptionTypeError
from prunecell.schedules import (
    SCHEDULES,
    Clock,
    Exponential,
    Iterative,
    Moving,
    OneCycle,
    Progressing,
    moves,
    progress_at,
    updates_of,
)

DATA = Path(__file__).parents[2] / "data"
NEEDED = {
    "Cubic": {"steps": 50},
    "Exponential": {"steps": 50},
    "OneCycle": {"steps": 50},
    "Iterative": {"steps": 20},
    "Moving": {"steps": 50, "every": 7},
}
EXAMPLES = [
    *(kind(sparsity=0.9, **NEEDED.get(name, {})) for name, kind in SCHEDULES.items()),
    Static(sparsity=0.5),
    Gradual(sparsity=0.9, start=0.0, gamma=0.07, every_samples=30),
    Gradual(sparsity=0.9),
    Gradual(sparsity=0.9, start=0.3, gamma=0.1, every_samples=30, float32=True),
    Cubic(sparsity=0.9, epochs=3),
    Cubic(sparsity=0.9, steps=50, start=0.2, begin=10, n_updates=7),
    Cubic(sparsity=0.9, samples=1000),
    Exponential(sparsity=0.99, start=0.5, samples=1000),
    OneCycle(sparsity=0.9, epochs=2, start=0.1),
    Iterative(sparsity=0.36, fraction=0.2, epochs=1.1, begin=2),
    Iterative(sparsity=1.0, fraction=1.0, steps=3),
    Iterative(sparsity=0.0, steps=3),
    Moving(sparsity=0.0, epochs=3, every=0.25),
    Moving(sparsity=0.9, samples=1000, every=160, begin=300),
]
TIMED_ALONE = [schedule for schedule in EXAMPLES if isinstance(schedule, Moving)]
LASTING = [schedule for schedule in EXAMPLES if isinstance(schedule, Progressing)]


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


@pytest.mark.parametrize("schedule", [s for s in EXAMPLES if s not in TIMED_ALONE], ids=repr)
def test_an_update_is_due_where_the_sparsity_changes(schedule):
    every = [(updates_of(schedule)(clock), schedule(clock)) for clock in clocks(16, 400)]
    assert [update for update, _ in every] == sorted(update for update, _ in every)
    assert len({update for update, _ in every}) == len(set(every)) == len({sparsity for _, sparsity in every})
    assert moves(schedule) == (len(set(every)) > 1) or schedule.sparsity == 0


@pytest.mark.parametrize("schedule", TIMED_ALONE, ids=repr)
def test_masks_move_every_so_often_at_a_constant_sparsity_until_the_end(schedule):
    every = [(schedule.update(clock), schedule.passed(clock)) for clock in clocks(1, 2000)]
    begun = [min(at for number, at in every if number == n) for n in range(1, every[-1][0] + 1)]
    assert begun == pytest.approx([schedule.every * n for n in range(1, len(begun) + 1)])
    assert len(begun) > 1
    assert begun[-1] < schedule.length <= begun[-1] + schedule.every


@pytest.mark.parametrize("schedule", LASTING, ids=repr)
def test_progress_goes_from_0_to_1_and_updates_come_on_the_way(schedule):
    every = [(schedule.progress(clock), schedule.update(clock)) for clock in clocks(16, 400)]
    assert every == sorted(every)
    assert every[0][0] == 0
    assert every[-1][0] == 1
    assert {update for progress, update in every if progress == 1} == {every[-1][1]}
    assert progress_at(schedule, Clock(epoch_size=100)) == 0


@pytest.mark.parametrize(
    "schedule",
    [
        *(kind(sparsity=0.9, epochs=1e-320) for kind in (Cubic, Exponential, OneCycle, Iterative)),
        Iterative(sparsity=0.9, fraction=1e-17, steps=1e-300),
        Moving(sparsity=0.9, epochs=1, every=1e-320),
        Moving(sparsity=0.9, steps=1e-310, every=1e-320),
    ],
    ids=repr,
)
def test_the_smallest_lengths_are_over_at_once(schedule):
    begun, later = Clock(epoch_size=10), Clock(samples=30, steps=3, epoch_size=10)
    assert schedule.update(begun) == 0
    assert schedule.update(later) > 0
    assert 0 <= schedule(later) <= 0.9


def test_what_does_not_say_how_far_it_is_has_no_progress():
    assert progress_at(Static(sparsity=0.5), Clock(steps=9, samples=9)) == progress_at(lambda _: 0.5, Clock()) == 0


@pytest.mark.parametrize("kind", [Cubic, Exponential, OneCycle])
@pytest.mark.parametrize("n", [1, 3, 7, 10, 49, 100, 997])
def test_each_of_n_updates_comes_when_it_is_time_however_numbers_round(kind, n):
    in_steps, in_epochs = kind(sparsity=0.9, steps=n, n_updates=n), kind(sparsity=0.9, epochs=n / 10, n_updates=n)
    assert [in_steps.update(Clock(steps=s)) for s in range(n + 2)] == [*range(n + 1), n]
    assert [in_epochs.update(Clock(samples=s, epoch_size=10)) for s in range(n + 2)] == [*range(n + 1), n]
    rounds = Iterative(sparsity=0.99, fraction=0.01, epochs=0.1)
    assert [rounds.update(Clock(samples=s, epoch_size=10)) for s in range(100)] == [*range(100)]


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


def passing(kind, **options):
    """What a ramp in four updates passes."""
    schedule = kind(sparsity=0.8, start=0.1, samples=8, begin=2, n_updates=4, **options)
    return [schedule(Clock(samples=s)) for s in range(0, 14, 2)]


def test_exponential_is_the_formula():
    expected = [1 - 0.9 ** (1 - t / 4) * 0.2 ** (t / 4) for t in range(5)]
    assert passing(Exponential) == pytest.approx([0.1, *expected, 0.8])


def test_one_cycle_is_the_formula():
    a, b = 14, 5
    expected = [0.1 + 0.7 * (1 + math.exp(-a + b)) / (1 + math.exp(-a * t / 4 + b)) for t in range(1, 5)]
    assert passing(OneCycle) == pytest.approx([0.1, 0.1, *expected, 0.8])


@given(sparsity=st.integers(0, 999), fraction=st.integers(1, 100))
def test_rounds_prune_a_fraction_of_what_is_left(sparsity, fraction):
    sparsity, fraction = sparsity / 1000, fraction / 100
    schedule = Iterative(sparsity=sparsity, fraction=fraction, steps=10)
    left, n = 1.0, 0
    while 1 - left < sparsity - 1e-8:
        assert schedule(Clock(steps=10 * n)) == pytest.approx(1 - left)
        left *= 1 - fraction
        n += 1
    assert schedule.n_rounds == n
    assert schedule(Clock(steps=10 * n)) == sparsity


@given(samples=st.integers(0, 10**9))
def test_epochs_samples_and_steps_say_the_same(samples):
    clock = Clock(samples=samples, steps=samples // 10, epoch_size=1000)
    in_epochs, in_samples = Cubic(sparsity=0.9, epochs=5)(clock), Cubic(sparsity=0.9, samples=5000)(clock)
    assert in_epochs == pytest.approx(in_samples, abs=0.03)


@pytest.mark.parametrize(
    "schedule", [Gradual(sparsity=0.9), Cubic(sparsity=0.9, epochs=3), Iterative(sparsity=0.9, epochs=3)], ids=repr
)
def test_counting_epochs_without_their_size_is_an_error(schedule):
    with pytest.raises(OptionError, match="epoch_size=None is illegal"):
        schedule(Clock(samples=10, steps=1))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, math.inf])
def test_an_illegal_sparsity_is_refused_by_name(name, value):
    with pytest.raises(OptionError, match=rf"sparsity={value} is illegal: it must be a number in \[0, 1\]"):
        SCHEDULES[name](sparsity=value, **NEEDED.get(name, {}))


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


@pytest.mark.parametrize("kind", [Cubic, Exponential, OneCycle, Iterative, partial(Moving, every=1)])
@pytest.mark.parametrize("options", [{}, {"epochs": 1, "steps": 2}])
def test_a_length_is_given_in_exactly_one_unit(kind, options):
    with pytest.raises(
        OptionError, match=r"exactly one of epochs, steps, samples to \w+, not (none|epochs, steps): for"
    ):
        kind(sparsity=0.5, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cubic(sparsity=0.5, steps=3, begin=-1), "begin=-1 is illegal"),
        (lambda: OneCycle(sparsity=0.5, steps=0), r"steps=0 is illegal: it must be a finite number > 0"),
        (lambda: Exponential(sparsity=0.5, steps=3, n_updates=0), "n_updates=0 is illegal"),
        (
            lambda: Iterative(sparsity=0.5, steps=3, fraction=0),
            r"fraction=0 is illegal: it must be a number in \(0, 1\]",
        ),
        (lambda: Exponential(sparsity=1, steps=3), "sparsity=1 is illegal: fractions of what is left never reach it"),
        (lambda: Iterative(sparsity=1, steps=3), "rounds that prune 20% of what is left never reach it"),
        (
            lambda: Moving(sparsity=0.5, steps=3, every=3),
            "every=3 is illegal: it must be shorter than the whole length, 3",
        ),
        (lambda: Moving(sparsity=0.5, steps=3, every=0), "every=0 is illegal"),
    ],
)
def test_illegal_options_of_lasting_schedules_are_refused_by_name(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_wrong_types_are_refused_by_name():
    with pytest.raises(OptionTypeError, match="sparsity=True is illegal"):
        Static(sparsity=True)
    with pytest.raises(OptionTypeError, match=r"every_samples=1\.5 is illegal"):
        Gradual(sparsity=0.5, every_samples=1.5)
