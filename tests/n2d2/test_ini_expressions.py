"""$(expression): arithmetic as Python counts, and nothing else."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from n2d2.ini.expressions import MAX_LENGTH, ExpressionError, calculate, printed


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1", 1),
        (" 7 / 2 ", 3.5),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("2 + 3 * (4 - 1)", 11),
        ("2**10", 1024),
        ("-2**2", -4),
        ("1e-3 * 10", 0.01),
        (".5 + 1.", 1.5),
        ("int(64 * 0.75)", 48),
        ("8**(-1.0/(2*2-2)) if 8 > 0 else 1.0", 8**-0.5),
        ("0.0 if 0 > 0 else 1.0", 1.0),
        ("max(1, 2, min(5, 3))", 3),
        ("round(2.6) + ceil(0.1) + floor(1.9) + abs(-1)", 6),
        ("sqrt(16) + log2(8) + exp(0) + log(1) + pow(2, 3) + float(1)", 17),
        ("3 >= 3", 1),
        ("3 != 3", 0),
    ],
)
def test_values(expression, expected):
    assert calculate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ('__import__("os").system("id")', "no part of arithmetic"),
        ("__import__", "'__import__' is not arithmetic. Legal functions: abs, ceil"),
        ("open(1)", r"'open\(1\)' is not arithmetic"),
        ("(1).real", "no part of arithmetic"),
        ("[1]", "no part of arithmetic"),
        ("1 if x else 2", "'x' is not arithmetic"),
        ("lambda: 1", "no part of arithmetic"),
        ("max(key=1)", "no part of arithmetic"),
        ("max(*1)", "not arithmetic|missing"),
        ("1 < 2 < 3", "not arithmetic"),
        ("1, 2", "not arithmetic"),
        ("1\n+2", "no part of arithmetic"),
        ("", "is missing"),
        ("1 +", "is missing"),
        ("(" * 300 + "1" + ")" * 300, "is missing"),
        ("-" * 900 + "1", "nested deeper"),
        ("1" * (MAX_LENGTH + 1), "1,001 characters"),
        ("1 / 0", "divides by zero"),
        ("1 % 0.0", "divides by zero"),
        ("9**9**9", "too large"),
        ("(2**1000)**1000", "too large"),
        ("pow(9, 9999999)", "too large"),
        ("9.0**999", "too large"),
        ("exp(1000)", "too large"),
        ("1e308 * 10", "finite real"),
        ("(-8)**0.5", "finite real"),
        ("(-8)**0.5 < 1", "not supported|finite"),
        ("log(-1)", "math domain error"),
        ("max()", "at least 1 argument"),
        ("sqrt(1, 2)", "takes exactly one argument"),
        ("٣", "no part of arithmetic"),
    ],
)
def test_what_is_not_arithmetic_is_refused(expression, message):
    with pytest.raises(ExpressionError, match=message):
        calculate(expression)


@given(st.text(st.sampled_from("0123456789.eE+-*/%()<>=, ifelsmaxabround_"), max_size=60))
@example("1_000")
@example("0x10")
@example("1if 1<2else 3")
def test_any_text_is_a_finite_number_or_refused(expression):
    try:
        value = calculate(expression)
    except ExpressionError:
        return
    assert math.isfinite(value)


@given(st.one_of(st.integers(-(10**300), 10**300), st.floats(allow_nan=False, allow_infinity=False)))
def test_printed_numbers_read_back_the_same(value):
    assert float(printed(value)) == float(value)


def test_whole_numbers_are_printed_without_a_fraction():
    assert [printed(x) for x in (16, 16.0, -0.0, 0.5, 1e16)] == ["16", "16", "0", "0.5", "1e+16"]
