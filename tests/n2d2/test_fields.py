import copy

import pytest

from n2d2 import activation, filler, quantizer, solver
from n2d2.checked import Declared
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue
from n2d2.fields import accepted, choice, count, flag, number


class Thing(Declared):
    REFUSED = {"colour": "paint it"}  # noqa: RUF012 - a table, as in real ones
    size: float = number(1.0, low=0, high=2, open_low=True)
    times: int = count(1, low=1)
    kind: str = choice("Big", "Small")
    on: bool = flag(default=True)
    extra: str = accepted(default="")


def test_printing_and_comparing_come_from_the_fields():
    thing = Thing(size=0.5, kind="Small")
    assert str(thing) == "Thing(extra=, kind=Small, on=True, size=0.5, times=1)"
    assert thing.brief() == "Thing(kind=Small, size=0.5)"
    assert thing == Thing(size=0.5, kind="Small")
    assert thing != Thing()
    assert copy.deepcopy(thing) == thing
    assert thing.settings() == {"size": 0.5, "times": 1, "kind": "Small", "on": True, "extra": ""}


def test_model_and_datatype_are_accepted_everywhere():
    assert str(Thing(model="Frame", datatype="double")) == str(Thing())


def test_parameters_by_name():
    thing = Thing()
    thing.set_parameter("times", 4)
    assert thing.get_parameter("times") == thing.times == 4
    with pytest.raises(ImplementationError, match=r"Thing\.N2D2 is refused: there is no C\+\+ object"):
        thing.N2D2()


def test_a_name_that_does_not_exist_is_told_in_every_way():
    thing, told = Thing(), "Thing has no parameter 'sise'; did you mean 'size'"
    for use in (thing.get_parameter, lambda name: getattr(thing, name), lambda name: thing.set_parameter(name, 1)):
        with pytest.raises(UndefinedParameterError, match=told):
            use("sise")


def test_parameters_have_names():
    with pytest.raises(WrongInputType, match=r"'Big' has no name: .*; it is Thing\(\*, .*size=1.0, .*kind='Big'"):
        Thing("Big", 0.3)


KINDS = [*solver.SOLVERS.values(), *filler.FILLERS.values(), *activation.ACTIVATIONS.values(), quantizer.PruneCell]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1, "x", None, 10**30, [1], True])
def test_a_range_in_a_message_is_the_parameters_own(kind, value):
    """Every parameter takes a value or tells, in its own words, what it must be; nothing else is ever raised."""
    for name in kind().settings():
        told = f"{name}={value!r} is illegal"
        try:
            kind(**{name: value})
        except (ValueError, TypeError) as error:
            told = str(error)
        start, _, legal = told.partition(" is illegal")
        assert start == f"{name}={value!r}"
        assert "inf]" not in legal
        assert "1000000000" not in legal


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, WrongValue, r"size=0 is illegal: it must be a number in \(0, 2\]"),
        ({"times": 0}, WrongValue, "times=0 is illegal: it must be a whole number >= 1"),
        ({"times": 1.5}, WrongInputType, "times=1.5"),
        ({"kind": "big"}, WrongValue, "kind='big' is illegal; did you mean 'Big'"),
        ({"kind": 3}, WrongInputType, "kind=3 is illegal: it must be a string, not a int; legal: Big, Small"),
        ({"on": "yes"}, WrongInputType, "on='yes' is illegal: it must be True or False"),
        ({"model": "Frame_Cuda"}, WrongValue, "model='Frame_Cuda' is illegal; did you mean 'Frame_CUDA'"),
        ({"datatype": "flaot"}, WrongValue, "datatype='flaot' is illegal; did you mean 'float'"),
        ({"colour": "red"}, ImplementationError, "colour of Thing is refused: paint it"),
        ({"kind": 3}, WrongValue, "kind=3"),  # N2D2 raises now the one error and now the other
        ({"sise": 1}, UndefinedParameterError, "Thing has no parameter 'sise'; did you mean 'size'"),
    ],
)
def test_every_field_is_checked_when_made_and_when_set(options, error, message):
    with pytest.raises(error, match=message):
        Thing(**options)
    thing = Thing()
    ((name, value),) = options.items()
    with pytest.raises(error, match=message):
        setattr(thing, name, value)
    assert thing == Thing()
