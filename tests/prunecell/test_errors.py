"""What messages show: values of any kind and length in few characters, and the first of many names."""

import pytest
import torch

from prunecell.errors import nearest, quoted, some


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "\x1b[31m\ud800",
        "\ud800" * 1000,
        "x" * 1_000_000,
        10**5000,
        nested(100_000),
        list(range(100_000)),
        {str(n): n for n in range(10_000)},
        torch.zeros(100, 100),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_in_few_characters_of_which_each_is_seen(value):
    text = quoted(value)
    assert 0 < len(text) <= 83
    assert text.isprintable()


def test_a_short_value_is_shown_as_it_is():
    assert quoted("\x1b[31m\ud800") == r"'\x1b[31m\ud800'"
    assert quoted(0.5) == "0.5"


@pytest.mark.parametrize("n", range(1, 8))
def test_some_names_are_shown_and_the_others_counted(n):
    names = [f"w{i}" for i in range(n)]
    text = some(names, 4)
    shown = n if n <= 5 else 4  # "and 1 more" would take the place of the fifth
    assert [name in text for name in names] == [i < shown for i in range(n)]
    assert text.endswith(f"and {n - shown} more") == (n > shown)
    assert some(iter(names), 4) == text


def test_where_nothing_is_legal_nothing_is_offered():
    assert nearest("w", []) == ""
