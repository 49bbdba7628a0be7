"""The Python code in the documentation runs, file by file, from top to bottom."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__"}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102 - our own pages
    capsys.readouterr()


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`((?:docs|examples|benchmarks|tests|tools|src)/[\w./-]+)`", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("thing", ["criterion", "granularity", "allocation", "schedule", "filler"])
def test_a_recipe_takes_ten_lines_at_most(thing):
    page = (ROOT / "docs" / "pruning.md").read_text()
    recipe = re.search(rf"^### an? {thing}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)[1]
    (code,) = re.findall(r"^```python\n(.*?)^```", recipe.partition("They go together")[0], re.MULTILINE | re.DOTALL)
    assert 1 <= len([line for line in code.splitlines() if line and not line.startswith("from")]) <= 10
