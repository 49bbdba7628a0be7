"""The search for the best setting of one knob, against monotone and noisy answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecell.tuning.bisection import CLOSE, MOST_STEPS, next_knob


def search(first, factor, is_good):
    tried = []
    while (knob := next_knob(tried, first, factor)) is not None:
        tried.append((knob, is_good(knob)))
        assert len(tried) < 20
    return tried


@given(first=st.floats(1e-3, 1e3), factor=st.sampled_from([0.5, 0.7, 2.0, 3.0]), edge=st.floats(0.3, 3.0))
def test_it_ends_close_to_the_edge_on_the_good_side(first, factor, edge):
    edge *= first

    def is_good(knob):
        return knob >= edge if factor < 1 else knob <= edge

    tried = search(first, factor, is_good)
    good = [knob for knob, passed in tried if passed]
    best = min(good) if factor < 1 else max(good)
    assert is_good(best)
    assert max(best / edge, edge / best) <= CLOSE * 1.01  # knobs have three digits


@given(answers=st.lists(st.booleans(), min_size=20, max_size=20), factor=st.sampled_from([0.5, 3.0]))
def test_it_ends_whatever_the_answers(answers, factor):
    wanted = iter(answers)
    tried = search(1.0, factor, lambda _: next(wanted))
    assert len({knob for knob, _ in tried}) == len(tried)


@pytest.mark.parametrize("always", [True, False])
def test_it_gives_up_where_no_answer_changes(always):
    assert len(search(1.0, 0.5, lambda _: always)) == MOST_STEPS + 1
