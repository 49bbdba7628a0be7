"""Names are shortened so that they fit and can be told apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from prunecell.report.terminal import columns_of, shortened, shortened_apart, visible, visible_lines

NAMES = st.text(st.characters(exclude_categories=["C", "Z", "M"]), max_size=60)


@given(NAMES, st.integers(3, 70))
def test_a_shortened_name_fits_and_keeps_both_its_ends(name, width):
    short = shortened(name, width)
    assert cell_len(short) <= width
    if cell_len(name) <= width:
        assert short == name
    elif width > 8 and name.isascii():
        assert short[0] == name[0]
        assert short[-1] == name[-1]
        assert "…" in short


@given(st.lists(NAMES, max_size=8, unique=True), st.integers(3, 70))
def test_names_that_differ_stay_different(names, width):
    short = shortened_apart(names, width)
    if short is not None:
        assert len(set(short)) == len(names)
        assert all(cell_len(one) <= width for one in short)


@given(st.text(max_size=40))
def test_what_is_visible_is_printable_and_tells_all(text):
    assert visible(text).isprintable()
    assert all(line.isprintable() for line in visible_lines(text).split("\n"))
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize("width", [40, 60, 80, None])
def test_columns_fit_a_terminal_where_words_can_be_shortened(width, monkeypatch):
    monkeypatch.setattr("prunecell.report.terminal.terminal_width", lambda: width)
    rows = [("layer", "n", "connected to"), ("a_layer_of_a_long_name" * 2, "1,605,632", "another_layer_of_a_name" * 2)]
    lines = columns_of(rows, words=(0, 2))
    assert "1,605,632" in lines[1]
    assert width is None or max(map(len, lines)) <= width
    assert width is not None or lines[1].split() == list(rows[1])
