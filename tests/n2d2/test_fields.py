import copy

import pytest

from n2d2.error_handler import UndefinedParameterError, WrongInputType, WrongValue
from n2d2.fields import Declared, accepted, choice, count, flag, number


class Thing(Declared):
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
    assert str(Thing(model="Frame_CUDA", datatype="double")) == str(Thing())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, WrongValue, r"size=0 is illegal: it must be a number in \(0, 2\]"),
        ({"times": 0}, WrongValue, "times=0 is illegal: it must be a whole number >= 1"),
        ({"times": 1.5}, WrongInputType, "times=1.5"),
        ({"kind": "big"}, WrongValue, "kind='big' is illegal; did you mean 'Big'"),
        ({"kind": 3}, WrongInputType, "kind=3 is illegal: it must be a string, not a int; legal: Big, Small"),
        ({"on": "yes"}, WrongInputType, "on='yes' is illegal: it must be True or False"),
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
