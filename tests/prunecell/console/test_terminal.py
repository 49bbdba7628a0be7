"""Names are shortened so that they fit and can be told apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from prunecell.console.terminal import as_a_command, columns_of, listed, shortened, visible, visible_lines

NAMES = st.text(st.characters(exclude_categories=["C", "Z", "M"]), max_size=60)


DOTTED = st.lists(
    st.sampled_from(["model", "layers", "0", "1", "self_attn", "q_proj", "out_proj", "weight"]), min_size=1
)


@given(st.lists(NAMES | DOTTED.map(".".join), max_size=8, unique=True), st.integers(3, 70))
def test_names_are_cut_once_and_stay_different_and_long_enough(names, width):
    short = shortened(names, width)
    if all(cell_len(name) <= width for name in names):
        assert short == names
    elif short is None:
        assert width < 24 or len(names) > 1
    else:
        assert width >= 24
        assert len(set(short)) == len(names)
        for name, one in zip(names, short, strict=True):
            assert cell_len(one) <= width
            if one != name:
                assert one.count("…") == name.count("…") + 1 or "…" in name
                if name.isascii():
                    head, tail = one.split("…")
                    assert name.startswith(head)
                    assert name.endswith(tail)
                    assert min(len(head), len(tail)) >= (width - 1) // 4


@given(st.text(max_size=40))
def test_what_is_visible_is_printable_and_tells_all(text):
    assert visible(text).isprintable()
    assert all(line.isprintable() for line in visible_lines(text).split("\n"))
    if text.isprintable():
        assert visible(text) == text


@pytest.mark.parametrize("width", [40, 60, 80, None])
def test_columns_fit_a_terminal_where_words_can_be_shortened(width, monkeypatch):
    monkeypatch.setattr("prunecell.console.terminal.terminal_width", lambda: width)
    rows = [("layer", "n", "connected to"), ("a_layer_of_a_long_name" * 2, "1,605,632", "another_layer_of_a_name" * 2)]
    lines = columns_of(rows, words=(0, 2))
    assert "1,605,632" in lines[1]
    assert width is None or max(len(line) for row in lines for line in row.split("\n")) <= width
    assert width is not None or lines[1].split() == list(rows[1])


@pytest.mark.parametrize("width", [30, 40, 80])
def test_where_a_name_would_be_too_short_it_stands_whole_above_its_row(width, monkeypatch):
    monkeypatch.setattr("prunecell.console.terminal.terminal_width", lambda: width)
    names = [f"layers.{n}.attention.q_proj" for n in range(3)]
    lines = columns_of([("layer", "n"), *((name, "1,605,632 of 16,056,320") for name in names)])
    assert len(lines) == 4
    below = [line.split("\n") for line in lines[1:]]
    assert [row[0].split(" ")[0] for row in below] == names
    assert all((len(row) == 2) == (width < 80) for row in below)


@pytest.mark.parametrize("n", range(1, 9))
def test_a_list_hides_two_names_or_none_and_a_pipe_gets_all(n, monkeypatch):
    names = [f"fc{k}.layer.bias" for k in range(n)]
    assert listed(names) == ", ".join(names)
    monkeypatch.setattr("prunecell.console.terminal.terminal_width", lambda: 80)
    assert listed(names) == ", ".join(names if n <= 5 else names[:4]) + (f" and {n - 4} more" if n > 5 else "")


@pytest.mark.parametrize(
    ("use", "asked"),
    [
        (lambda: torch.empty(10**16, dtype=torch.uint8), ", for 10000000000000000 bytes were wanted at once"),
        (lambda: np.empty(2**60, np.uint8), ", for 1.00 EiB were wanted at once"),
        (lambda: bytearray(10**16), ""),
    ],
    ids=["torch", "numpy", "Python"],
)
def test_a_command_without_memory_ends_with_a_message(use, asked, capsys):
    with pytest.raises(SystemExit), as_a_command():
        use()
    told = f"error: there is too little memory{asked}: smaller images, layers or batches take less\n"
    assert capsys.readouterr().err == told


def test_a_command_hides_no_fault_of_its_own():
    with pytest.raises(RuntimeError, match="a fault"), as_a_command():
        raise RuntimeError("a fault")
