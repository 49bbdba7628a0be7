"""What messages show: values of any kind and length in few characters, and the first of many names."""

import numpy as np
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
        [torch.zeros(100, 100)],
        {"weight": [torch.zeros(2)]},
        np.zeros((3, 4)),
        torch.nn.UninitializedParameter(),
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.rand(3, 4), "<Tensor of shape (3, 4), torch.float32>"),
        (torch.nn.Parameter(torch.rand(2)), "<Parameter of shape (2,), torch.float32>"),
        (np.zeros((3, 4)), "<ndarray of shape (3, 4), float64>"),
        ([torch.rand(3), 1], "<list of 2>"),
        (torch.tensor(0.5), "tensor(0.5000)"),
        (np.float64(0.5), "np.float64(0.5)"),
        (torch.Size([3, 4]), "torch.Size([3, 4])"),
        (torch.float16, "torch.float16"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_an_array_its_shape_and_dtype_are_shown(value, text):
    assert quoted(value) == text


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
