import pickle
import warnings

import pytest

from n2d2 import error_handler
from n2d2.error_handler import (
    ImplementationError,
    IpOnly,
    IsEmptyError,
    NotInitialized,
    UndefinedModelError,
    UndefinedParameterError,
    WrongInputType,
    WrongValue,
    deprecated,
)
from prunecell.errors import PrunecellError


@pytest.mark.parametrize(
    ("error", "builtin", "message"),
    [
        (
            WrongInputType("x", int, ["str", "list"]),
            TypeError,
            "x is illegal: it must be a str, list, not a <class 'int'>",
        ),
        (WrongInputType(input_name="x", input_type="int", array_of_possible_type=["str"]), TypeError, "x is illegal"),
        (WrongValue("mode", "fast", ["slow"]), ValueError, "mode='fast' is illegal: it must be one of slow"),
        (WrongValue("mode", None, "slow, slower"), ValueError, "mode=None is illegal: it must be one of slow, slower"),
        (WrongValue(input_name="n", input_value=3, accepted_values=[1, 2]), ValueError, "n=3 is illegal"),
        (IsEmptyError("labels"), ValueError, "labels is empty: it must hold one element at least"),
        (NotInitialized("cell"), RuntimeError, "cell is not initialized"),
        (UndefinedParameterError("colour", 1.5), RuntimeError, "float has no parameter 'colour'"),
        (UndefinedModelError("no model"), RuntimeError, "no model"),
        (ImplementationError("not here"), RuntimeError, "not here"),
        (IpOnly(), NotImplementedError, "N2D2-IP"),
    ],
)
def test_errors_are_raised_with_n2d2s_arguments_and_are_builtins(error, builtin, message):
    assert isinstance(error, builtin)
    assert isinstance(error, PrunecellError)
    assert message in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", [WrongValue, WrongInputType, UndefinedParameterError])
def test_a_message_alone_is_the_message(kind):
    assert str(kind("what is wrong")) == "what is wrong"


def test_every_error_of_n2d2s_is_there():
    names = ("WrongInputType", "WrongValue", "IsEmptyError", "NotInitialized", "ImplementationError")
    more = ("UndefinedModelError", "UndefinedParameterError", "IpOnly", "deprecated")
    assert all(hasattr(error_handler, name) for name in names + more)


def test_who_calls_what_is_deprecated_is_warned():
    @deprecated(version="1.2", reason="use new()")
    def old(value):
        """Say it."""
        return value + 1

    with pytest.warns(DeprecationWarning, match=r"^old is deprecated since version 1\.2: use new\(\)$"):
        assert old(value=2) == 3
    assert old.__doc__ == "Say it."
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        deprecated()(len)([])
    assert str(told[0].message) == "len is deprecated"
