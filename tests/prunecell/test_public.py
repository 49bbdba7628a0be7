"""The public names, and what the commands need to start."""

import ast
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import prunecell

SOURCE = Path(__file__).parents[2] / "src"


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_all_lists_every_public_name():
    assert len(prunecell.__all__) <= 40
    assert sorted(prunecell.__all__) == dir(prunecell) == sorted(prunecell._MODULES)
    typed = {name for name in imports(SOURCE / "prunecell" / "__init__.py") if name.startswith("prunecell.")}
    homes = set(prunecell._MODULES.values())
    assert typed == {f"prunecell.{home}.{name}" for name, home in prunecell._MODULES.items()} | {
        f"prunecell.{home}" for home in homes
    } | {"prunecell.errors.nearest"}


def test_nothing_imports_the_command_lines():
    for path in SOURCE.rglob("*.py"):
        if path.name != "__main__.py":
            assert not {"prunecell.cli", "n2d2.cli"} & set(imports(path)), path


def behind(requirements):
    """The names of all distributions that these requirements bring, as far as they are installed here."""
    waiting, found = [Requirement(text) for text in requirements], set()
    while waiting:
        one = waiting.pop()
        if one.name in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(one.name)
        with suppress(metadata.PackageNotFoundError):
            waiting += [Requirement(text) for text in metadata.requires(one.name) or []]
    return found


@pytest.mark.parametrize("extra", ["data", "pcodec", "onnx"])
def test_an_extra_leaves_torch_alone(extra):
    """What it brings needs no torch, so no installer has a reason to change the one that is there."""
    extras = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "torch" not in behind(extras[extra])


def test_the_commands_start_without_the_extras():
    extras = ["onnx", "onnxruntime", "pcodec", "unearth", "sklearn"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}));import prunecell.cli, n2d2.cli, n2d2.experiment.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
