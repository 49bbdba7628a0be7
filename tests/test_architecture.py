"""Imports point one way, in all packages: the list in docs/design.md is the law, and every file stands in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGES = ("prunecell", "n2d2", "pytorch_to_n2d2", "keras_to_n2d2", "N2D2")
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def listed():
    """Module -> its row, from the bottom up; the rows of each package follow those of the one before."""
    page = (ROOT / "docs" / "design.md").read_text().partition("## Who imports whom")[2]
    lines = "".join(re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).splitlines()
    rows, package = {}, ""
    for row, line in enumerate(lines):
        if line in PACKAGES:
            package = line
            continue
        for name in line.partition("#")[0].split():
            module = package if name == "__init__" else f"{package}.{name.replace('/', '.')}"
            assert module not in rows, f"{module} stands twice"
            rows[module] = row
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


def knows_n2d2(module, name):
    """The command `prunecell run` reads INI files; nothing else of prunecell knows n2d2."""
    return module == "prunecell.cli" and name.startswith("n2d2.experiment.")


def test_imports_point_one_way():
    wrong = []
    for module, path in MODULES.items():
        ours = [name for name in imported(path) if name in MODULES and name != module]
        wrong += [(module, name) for name in ours if ROWS[name] >= ROWS[module] and not knows_n2d2(module, name)]
    assert not wrong, f"these import what stands beside or below them in the list: {wrong}"


def test_relative_imports_are_not_used():
    for path in MODULES.values():
        assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path


AT_THE_TOP = {"prunecell", "n2d2"}  # whose files stand in docs/design.md


def told_by(package):
    """The modules that the table of a package's docstring lists: rows of names, and what they are."""
    text = ast.get_docstring(ast.parse(MODULES[package].read_text())).partition("\n\n")[2]
    rows = re.findall(r"^ *(\w+(?:, \w+)*)(?:   *\S.*)$", text, re.MULTILINE)
    return [name for row in rows for name in row.split(", ")]


PACKAGED = [name for name, path in MODULES.items() if path.stem == "__init__" and name not in AT_THE_TOP]


@pytest.mark.parametrize("package", PACKAGED)
def test_the_docstring_of_a_package_lists_its_files(package):
    inside = [name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == package]
    assert sorted(told_by(package)) == sorted(inside)
