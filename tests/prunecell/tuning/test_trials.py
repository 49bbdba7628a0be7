"""Trials: the Pareto set, and the log from which a search goes on."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell.errors import FormatError, OptionError
from prunecell.tuning.trials import LOG, Log, Trial, best_of, pareto

SETTINGS = {"seed": 0, "model": "Net 1234"}


def trial(number, n_bytes=100, quality=0.9, *, passed=True):
    return Trial(
        number=number,
        strategy="OneShot()",
        knob=0.5,
        n_bytes=n_bytes,
        quality=quality,
        passed=passed,
        stopped="" if n_bytes else "hopeless",
        seconds=1.5,
        file=f"trial-{number:03}.pcell",
        recipe="pass\n",
    )


points = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(1, 20)), st.one_of(st.just(math.nan), st.integers(0, 10).map(float)))
)


@given(points)
def test_the_pareto_set_is_what_nothing_beats(given):
    trials = [trial(number, *point) for number, point in enumerate(given)]
    real = [t for t in trials if t.n_bytes is not None and not math.isnan(t.quality)]
    front = pareto(trials)
    assert [t.n_bytes for t in front] == sorted({t.n_bytes for t in front})
    assert [t.quality for t in front] == sorted({t.quality for t in front})
    for t in real:
        beaten = any(o.n_bytes <= t.n_bytes and o.quality >= t.quality and o != t for o in front)
        assert beaten or t in front


def test_the_best_is_the_smallest_that_passed():
    trials = [trial(0, 100, 0.9), trial(1, 50, 0.8), trial(2, 50, 0.85), trial(3, 40, 0.1, passed=False)]
    assert best_of(trials).number == 2


def test_a_log_is_read_back_and_goes_on(tmp_path):
    log = Log(tmp_path, SETTINGS)
    log.add_facts({"dense": 0.9})
    log.add_trial(trial(0))
    log.add_trial(trial(1, None, math.nan, passed=False))
    again = Log(tmp_path, SETTINGS)
    assert again.facts == {"dense": 0.9}
    assert repr(again.trials) == repr(log.trials)  # NaN is not equal to itself
    again.add_trial(trial(2))
    assert len(Log(tmp_path, SETTINGS).trials) == 3


def test_half_a_line_at_the_end_is_dropped(tmp_path):
    log = Log(tmp_path, SETTINGS)
    log.add_trial(trial(0))
    whole = log.path.read_bytes()
    log.add_trial(trial(1))
    after = log.path.read_bytes()
    for n in range(len(whole), len(after)):
        log.path.write_bytes(after[:n])
        assert len(Log(tmp_path, SETTINGS).trials) == 1
        assert log.path.read_bytes() == whole


def test_other_settings_are_refused_by_name(tmp_path):
    Log(tmp_path, SETTINGS)
    with pytest.raises(OptionError, match=r"holds a search with seed=0, not 1: give another folder"):
        Log(tmp_path, SETTINGS | {"seed": 1})
    with pytest.raises(OptionError, match="holds a search with epochs=None, not 3"):
        Log(tmp_path, SETTINGS | {"epochs": 3})


def _with(**fields):
    return json.dumps({"trial": {**vars(trial(0)), **fields}})


@pytest.mark.parametrize(
    "line",
    [
        *("x", "[]", "3", "null", '{"a": 1}', '{"trial": []}', '{"trial": {}}', "[" * 100_000),
        *(_with(number=3), _with(number=-1), _with(n_bytes=-1), _with(passed=2), _with(file=None), _with(more=1)),
    ],
    ids=lambda line: line[:20],
)
def test_a_damaged_log_is_refused(tmp_path, line):
    log = Log(tmp_path, SETTINGS)
    with log.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FormatError, match=LOG):
        Log(tmp_path, SETTINGS)
