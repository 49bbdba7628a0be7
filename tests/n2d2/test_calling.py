"""Calls: what does not fit is refused in one way by all classes and functions."""

import warnings

import pytest

import n2d2.models
import pytorch_to_n2d2  # noqa: F401 - it has classes too
from n2d2 import cells, provider, quantizer, solver, target, tensor
from n2d2.calling import CheckedCall, checked
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType
from n2d2.warning import warn_caller


def below(kind):
    return [kind, *(one for sub in type.__subclasses__(kind) for one in below(sub))]


EVERY = [
    one
    for one in below(object)
    if isinstance(one, CheckedCall) and one.__module__.partition(".")[0] in ("n2d2", "pytorch_to_n2d2")
]
SHARED = sorted({one for one in EVERY if one._shared}, key=lambda one: one.__name__)


class Thing(metaclass=CheckedCall):
    REFUSED = {"colour": "paint it"}  # noqa: RUF012 - a table, as in real ones

    def __init__(self, size, kind="Big", *, deep=False):
        self.given = size, kind, deep


@checked
def function(size, kind="Big", *, deep=False):
    return size, kind, deep


class Owner:
    @checked
    def method(self, size, kind="Big", *, deep=False):
        return size, kind, deep

    @classmethod
    @checked
    def made(cls, size, kind="Big", *, deep=False):
        return size, kind, deep


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("Thing", lambda *args, **kwargs: Thing(*args, **kwargs).given),
        ("function", function),
        ("method", Owner().method),
        ("made", Owner.made),
        ("made", Owner().made),
    ],
)
def test_arguments_reach_what_is_called_or_are_refused_by_name(name, call):
    assert call(1) == (1, "Big", False)
    assert call(1, kind="Small", deep=True) == (1, "Small", True)
    shown = rf"; it is {name}\(size, kind='Big', \*, deep=False\)$"
    for arguments, options, told in (
        ((), {}, "size is missing"),
        ((1, 2, 3), {}, "3 by their place are too many: 2 at most, the others go by their names"),
        ((1,), {"size": 2}, "size is given twice, by its place and by its name"),
    ):
        with pytest.raises(WrongInputType, match=f"^{told}{shown}"):
            call(*arguments, **options)
    with pytest.raises(UndefinedParameterError, match=rf"^{name} has no parameter 'dep'; did you mean 'deep'"):
        call(1, dep=2)


def test_a_missing_argument_is_told_with_what_may_be_meant_by_it():
    class Open(metaclass=CheckedCall):
        def __init__(self, size, **config): ...

    with pytest.raises(
        WrongInputType, match=r"^size is missing \(is 'sizes' misspelt\?\); it is Open\(size, \.\.\.\)$"
    ):
        Open(sizes=3)


def test_a_refused_parameter_is_told_before_anything_else():
    with pytest.raises(ImplementationError, match=r"^colour of Thing is refused: paint it"):
        Thing(colour=1, dep=3)


def test_the_classes_that_users_know_are_among_those_that_cannot_be_made():
    known = (
        cells.NeuralNetworkCell,
        cells.Iterable,
        solver.Solver,
        quantizer.Quantizer,
        provider.Provider,
        target.Target,
    )
    assert set(known) <= set(SHARED)
    assert not {cells.Conv, cells.Block, solver.SGD, quantizer.PruneCell, n2d2.models.VGG} & set(SHARED)


@pytest.mark.parametrize("kind", SHARED, ids=lambda kind: kind.__name__)
def test_what_others_share_cannot_be_made(kind):
    with pytest.raises(WrongInputType, match=f"^{kind.__name__} is what others share, and cannot be made: make "):
        kind()


@pytest.mark.parametrize("kind", [one for one in SHARED if one.__abstractmethods__], ids=lambda kind: kind.__name__)
def test_what_others_share_may_demand_methods(kind):
    lacking = type(kind)("Lacking", (kind,), {})
    with pytest.raises(
        WrongInputType, match=f"^Lacking cannot be made: it must define {', '.join(sorted(kind.__abstractmethods__))}$"
    ):
        lacking()
    whole = type(kind)("Whole", (kind,), dict.fromkeys(kind.__abstractmethods__, lambda *_: None))
    assert not whole.__abstractmethods__


def test_every_class_that_can_be_made_has_what_others_demand():
    assert [one for one in EVERY if one.__abstractmethods__] != []
    assert [one for one in EVERY if one.__abstractmethods__ and not one._shared] == []


def test_a_warning_names_the_line_outside_of_the_package():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_caller("here")
        tensor.Tensor([1]).cuda()
        cells.Conv(1, 1, [1, 1], model="Frame_CUDA")
        solver.SGD(model="Frame_CUDA")
        n2d2.global_variables.default_model = "Frame_CUDA"
        n2d2.global_variables.default_model = "Frame"
    assert {one.filename for one in told} == {__file__}
    assert len(told) == (1 if n2d2.global_variables.cuda_available else 5)
