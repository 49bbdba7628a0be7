"""Imports point one way, in both packages: the list in docs/design.md is the law, and every file stands in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def listed():
    """Module -> its row, from the bottom up; the rows of n2d2 stand above those of prunecell."""
    page = (ROOT / "docs" / "design.md").read_text().partition("## Who imports whom")[2]
    rows = {}
    for block in re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2]:
        package, *lines = block.splitlines()
        for line in lines:
            for name in line.split("#")[0].split():
                module = package.strip() if name == "__init__" else f"{package.strip()}.{name.replace('/', '.')}"
                assert module not in rows, f"{module} stands twice"
                rows[module] = len(rows) and max(rows.values()) + 1 if name == line.split()[0] else max(rows.values())
    return rows


ROWS = listed()


def imported(path):
    """All modules of ours that a file imports: at the top, within functions and for type checkers alike."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_file_stands_in_the_list_and_every_name_is_a_file():
    assert sorted(ROWS) == sorted(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    wrong = [
        name for name in imported(MODULES[module]) if name in MODULES and name != module and ROWS[name] >= ROWS[module]
    ]
    assert not [name for name in wrong if (module, name) not in ALLOWED], f"{module} imports upwards: {wrong}"


ALLOWED = {
    (f"prunecell.cli.{command}", module) for command in ("run",) for module in MODULES if module.startswith("n2d2")
}
"""The command `prunecell run` reads INI files; nothing else of prunecell knows n2d2."""


def test_relative_imports_are_not_used():
    for path in MODULES.values():
        assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path
