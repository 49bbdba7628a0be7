"""The public names are imported when they are used, and the command line starts without what it does not need."""

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prunecell

SLOW = ["torch", "numpy", "matplotlib", "safetensors", "jinja2", "PIL"]


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["tune", "--help"], ["pack", "--help"], ["inspect", "--help"]]
)
def test_help_loads_no_library_that_it_does_not_need(words):
    code = f"""
import sys
from prunecell.cli import main
sys.argv = ["prunecell", *{words}]
try:
    main()
except SystemExit as end:
    assert not end.code
print("loaded:", *[name for name in {SLOW} if name in sys.modules])
"""
    out = run(code)
    assert "Usage: prunecell" in out
    assert out.endswith("loaded:\n")


def test_the_package_alone_loads_no_library():
    assert run(f"import sys, prunecell\nprint([n for n in {SLOW} if n in sys.modules])") == "[]\n"


def test_the_public_names_are_there_in_a_fresh_interpreter_and_load_no_library_for_printing_and_drawing():
    unwanted = ["matplotlib", "jinja2", "PIL", "rich", "typer", "onnx", "pcodec", "sklearn"]
    code = f"""
import sys, prunecell
print([name for name in prunecell.__all__ if getattr(prunecell, name) is None])
print([name for name in {unwanted} if name in sys.modules])
"""
    assert run(code) == "[]\n[]\n"


@pytest.mark.parametrize("name", prunecell.__all__)
def test_a_public_name_is_always_the_same_object_and_can_be_pickled(name):
    found = getattr(prunecell, name)
    assert getattr(prunecell, name) is found
    assert pickle.loads(pickle.dumps(found)) is found or name == "Plan"  # noqa: S301 - our own; Plan is a Mapping[...]


def test_star_gives_every_public_name():
    names = {}
    exec("from prunecell import *", names)  # noqa: S102 - our own words
    assert names.keys() - {"__builtins__"} == set(prunecell.__all__)


def test_modules_are_reached_through_the_package():
    """Each way first in a process of its own, forked after torch, whose import takes long."""
    ways = [
        "import prunecell; assert prunecell.archive.load is prunecell.load",
        "import prunecell.archive; assert prunecell.archive.load is prunecell.load",
        "from prunecell import errors; assert errors.__name__ == 'prunecell.errors'",
    ]
    run(f"""
import os, torch
for way in {ways}:
    if not os.fork():
        try:
            exec(way)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.wait()[1] == 0, way
""")


def test_the_version_is_that_of_pyproject():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert prunecell.__version__ == project["version"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert not hasattr(prunecell, "__version__")


def test_no_public_name_is_a_modules_name():
    modules = {path.stem for path in Path(prunecell.__file__).parent.iterdir()}
    assert not modules & set(prunecell.__all__)


def test_a_name_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match=r"prunecell has no 'Prunr'; did you mean 'Pruner'\? Legal: Archive, "):
        prunecell.Prunr  # noqa: B018 - asking is all
    with pytest.raises(ImportError):
        exec("from prunecell import Prunr")  # noqa: S102 - our own words
    assert not hasattr(prunecell, "_private")
