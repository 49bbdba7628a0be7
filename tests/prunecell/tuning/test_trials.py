"""Trials: the Pareto set, and the log from which a search goes on."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell.errors import FormatError, OptionError
from prunecell.tuning.trials import LOG, Log, Trial, best_of, pareto

SETTINGS = {"seed": 0, "model": "Net 1234"}


FACTS = {
    "dense": 0.9,
    "dense_bytes": 100,
    "sensitivity": {"loss": 0.1, "sparsities": [0.5, 0.9], "n_weights": {"fc": 10}, "losses": {"fc": [0.2, math.inf]}},
    "lr": 0.001,
    "epochs": 3,
    "seconds": 1.5,
}


def begun(folder, *trials):
    log = Log(folder, SETTINGS)
    log.add_facts(FACTS)
    for one in trials:
        log.add_trial(one)
    return log


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
        file=f"trial-{number:03}.pcell" if n_bytes else "",
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
    log = begun(tmp_path, trial(0), trial(1, None, math.nan, passed=False))
    again = Log(tmp_path, SETTINGS)
    assert again.facts == FACTS
    assert repr(again.trials) == repr(log.trials)  # NaN is not equal to itself
    again.add_trial(trial(2))
    assert len(Log(tmp_path, SETTINGS).trials) == 3


def test_half_a_line_at_the_end_is_dropped(tmp_path):
    log = begun(tmp_path, trial(0))
    whole = log.path.read_bytes()
    log.add_trial(trial(1))
    after = log.path.read_bytes()
    for n in range(len(whole), len(after)):
        log.path.write_bytes(after[:n])
        assert len(Log(tmp_path, SETTINGS).trials) == 1
        assert log.path.read_bytes() == whole


def test_other_settings_are_refused_by_name(tmp_path):
    begun(tmp_path)
    with pytest.raises(OptionError, match=r"holds a search with seed=0, not 1: give another folder"):
        Log(tmp_path, SETTINGS | {"seed": 1})
    with pytest.raises(OptionError, match="holds a search with epochs=None, not 3"):
        Log(tmp_path, SETTINGS | {"epochs": 3})


def test_without_facts_the_folder_is_free(tmp_path):
    Log(tmp_path, SETTINGS)
    Log(tmp_path, {})
    assert not [*tmp_path.iterdir()]


def _with(**fields):
    return json.dumps({"trial": {**vars(trial(0)), **fields}})


FACT_LINES = [
    *("[]", "{}", "3", "null", '"x"'),
    *(json.dumps({k: v for k, v in FACTS.items() if k != name}) for name in FACTS),
    *(json.dumps(FACTS | {name: wrong}) for name in FACTS for wrong in (None, "x", [])),
    *(json.dumps(FACTS | {name: -1}) for name in FACTS if name != "dense"),  # a quality may be negative
    *(json.dumps(FACTS | {"more": 1}), json.dumps(FACTS | {"dense": math.nan}), json.dumps(FACTS | {"epochs": 0})),
    *(
        json.dumps(FACTS | {"sensitivity": FACTS["sensitivity"] | {name: wrong}})
        for name, wrong in [
            *((name, wrong) for name in FACTS["sensitivity"] for wrong in (None, "x", 3 if name != "loss" else [])),
            *(("sparsities", wrong) for wrong in ([], [0.5], [0.5, 2], [0.5, None])),
            *(("n_weights", wrong) for wrong in ({}, {"fc": -1}, {"fc": None}, {"other": 10}, {"fc": 10, "more": 1})),
            *(("losses", wrong) for wrong in ({}, {"fc": 3}, {"fc": []}, {"fc": [0.2, "x"]}, {"fc": [1.0, 2.0, 3.0]})),
        ]
    ),
]


@pytest.mark.parametrize("facts", FACT_LINES)
def test_damaged_facts_are_refused(tmp_path, facts):
    (tmp_path / LOG).write_text(json.dumps({"settings": SETTINGS}) + "\n" + f'{{"facts": {facts}}}\n')
    with pytest.raises(FormatError, match=rf"{LOG} is damaged: .*the facts in line 2.*: use another folder"):
        Log(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    "line",
    [
        *("x", "[]", "3", "null", '{"a": 1}', '{"trial": []}', '{"trial": {}}', "[" * 100_000),
        *(_with(number=3), _with(number=-1), _with(n_bytes=-1), _with(passed=2), _with(file=None), _with(more=1)),
        *(_with(file="../other"), _with(file=""), _with(n_bytes=None), _with(passed=False)),
        *(_with(n_bytes=None, file=""), json.dumps({"facts": FACTS})),
    ],
    ids=lambda line: line[:20],
)
def test_a_damaged_log_is_refused(tmp_path, line):
    log = begun(tmp_path)
    with log.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FormatError, match=LOG):
        Log(tmp_path, SETTINGS)
