"""docs/n2d2_reference.md is what the code says, and no documented name is forgotten."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("n2d2_reference", ROOT / "tools/n2d2_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_documented_name_works_or_is_refused_by_name(tool):
    told = tool.rows()
    assert len(told) > 2500
    assert not [row for row in told if row[-1] is tool.Status.missing]


def test_the_page_is_that_of_the_code(tool):
    assert tool.page() == (ROOT / "docs/n2d2_reference.md").read_text(), "python tools/n2d2_reference.py writes it"


def test_every_difference_is_told(tool):
    page = tool.page()
    assert [name for name, how in tool.DIFFERS.items() if f"differs: {how}" not in page] == []


def test_what_is_missing_is_seen(tool, monkeypatch):
    monkeypatch.setitem(tool.NAMES, "n2d2.cells.Dropout", {"parameters": ["dropouts"], "members": ["forget"]})
    missing = [row[:3] for row in tool.rows() if row[-1] is tool.Status.missing]
    assert missing == [("n2d2.cells.Dropout", "dropouts", ""), ("n2d2.cells.Dropout", "", "forget")]
