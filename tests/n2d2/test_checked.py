"""What is called or set under a wrong name or in a wrong number is told by N2D2's errors, in every class alike."""

import copy
import pickle

import pytest

from n2d2.database import DATABASES, Database, Numpy
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType
from n2d2.provider import DataProvider
from n2d2.transform import TRANSFORMATIONS, Composite, Flip

ARGUMENTS = {  # of those that need some
    "ChannelExtraction": ["Gray"],
    "ColorSpace": ["HSV"],
    "Composite": [[Flip()]],
    "DataProvider": [Database(), [4, 4, 1]],
    "PadCrop": [4, 4],
    "RandomResizeCrop": [4, 4],
    "Rescale": [4, 4],
    "Reshape": [4],
    "SliceExtraction": [4, 4],
}
KINDS = [*DATABASES.values(), Database, Numpy, *TRANSFORMATIONS.values(), Composite, DataProvider]


def made(kind):
    return kind(*ARGUMENTS.get(kind.__name__, []))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_tells_what_it_does_not_have(kind):
    one, name = made(kind), kind.__name__
    for use in (
        lambda: kind(*ARGUMENTS.get(name, []), absent=1),
        lambda: one.get_parameter("absent"),
        lambda: one.set_parameter("absent", 1),
        lambda: setattr(one, "absent", 1),
        lambda: one.absent,
    ):
        with pytest.raises(UndefinedParameterError, match=rf"^{name} has no parameter 'absent'"):
            use()
    with pytest.raises(WrongInputType, match=rf"^(20 by their place are too many|0 has no name): .*; it is {name}\("):
        kind(*range(20))
    if name in ARGUMENTS:
        with pytest.raises(WrongInputType, match=rf"^[\w, ]+ (is|are) missing; it is {name}\("):
            kind()
    for refused, instead in kind.REFUSED.items():
        with pytest.raises(ImplementationError) as error:
            kind(*ARGUMENTS.get(name, []), **{refused: 1})
        assert str(error.value) == f"{refused} of {name} is refused: {instead}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_parameter_can_be_read_by_its_name(kind):
    one = made(kind)
    names = [name for name in one._parameters() if name != "self"]
    assert [one.get_parameter(name) for name in names] == [getattr(one, name) for name in names]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_copies_and_pickles_have_the_same_parameters(kind):
    one = made(kind)
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - our own
        assert repr(other) == repr(one)
