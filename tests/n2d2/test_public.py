import subprocess
import sys
import types

import pytest

import n2d2


def test_every_public_name_is_there_and_none_is_forgotten():
    members = {name for name in n2d2.__all__ if hasattr(n2d2, name)}
    for module in (n2d2.cells, n2d2.cells.nn):
        assert set(module.__all__) <= set(vars(module))
    assert set(n2d2.__all__) == members == set(dir(n2d2))
    assert sorted(n2d2.__all__) == n2d2.__all__


@pytest.mark.parametrize("name", n2d2.cells.nn.__all__)
def test_every_cell_has_both_names(name):
    assert getattr(n2d2.cells, name) is getattr(n2d2.cells.nn, name)


def test_public_modules_are_documented():
    for name in n2d2.__all__:
        member = getattr(n2d2, name)
        assert member.__doc__
        if isinstance(member, types.ModuleType):
            assert member.__name__.startswith("n2d2.")


def test_any_module_can_be_the_first_that_is_imported():
    """The package imports its modules when they are used, so no order of imports may be relied on."""
    code = """
import os, sys, torch
for name in sys.argv[1:]:
    if not os.fork():
        os._exit(not __import__(name))
    assert os.wait()[1] == 0, name
"""
    names = [f"n2d2.{name}" for name in ("target", "network.network", "experiment.run")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "wrong", "meant"),
    [
        ("activation", "Rectifer", "Rectifier"),
        ("cells", "Con", "Conv"),
        ("database", "MNISTT", "MNIST"),
        ("filler", "Constent", "Constant"),
        ("models", "ResNet-18", "ResNet18"),
        ("provider", "DataProvidr", "DataProvider"),
        ("quantizer", "PruneCel", "PruneCell"),
        ("solver", "Adams", "Adam"),
        ("target", "Scor", "Score"),
        ("transform", "Rescal", "Rescale"),
    ],
)
def test_a_module_that_lacks_a_name_offers_the_nearest(module, wrong, meant):
    of = getattr(n2d2, module)
    with pytest.raises(AttributeError, match=f"^n2d2.{module} has no '{wrong}'; did you mean '{meant}'"):
        getattr(of, wrong)
    assert not hasattr(of, "__path_of_nothing__")
