"""The public names, and what the commands need to start."""

import ast
import subprocess
import sys
from pathlib import Path

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
    assert len(prunecell.__all__) <= 30
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


def test_the_commands_start_without_the_extras():
    extras = ["onnx", "onnxruntime", "pcodec", "unearth", "sklearn"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}));import prunecell.cli, n2d2.cli, n2d2.experiment.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
