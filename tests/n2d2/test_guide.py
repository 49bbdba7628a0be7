"""docs/n2d2.md speaks of every key, option and class, and of none that is not there."""

import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

import n2d2
from n2d2 import cells, cli, ini
from n2d2.activation import ACTIVATIONS
from n2d2.command import export, options
from n2d2.database import DATABASES
from n2d2.filler import FILLERS
from n2d2.ini.effort import LIMITS
from n2d2.ini.expressions import FUNCTIONS
from n2d2.ini.lines import MAX_FILE_BYTES
from n2d2.network import keys, layers, parts, refused, targets
from n2d2.quantizer import PruneCell
from n2d2.solver import POLICIES, SOLVERS
from n2d2.transform import TRANSFORMATIONS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/n2d2.md").read_text()
NAMED = {name for code in re.findall(r"`([^`\n]+)`", GUIDE) for name in re.split(r"[\s,]+", code)}
KINDS = [*ACTIVATIONS.values(), *DATABASES.values(), *FILLERS.values(), *SOLVERS.values(), *TRANSFORMATIONS.values()]
TABLES = {
    "options": [*cli.OPTIONS, *cli.REFUSED, *cli.IDLE],
    "exports": [*export.EXPORTS, *export.REFUSED_EXPORTS],
    "what refused.py refuses or ignores": [
        name
        for table, names in vars(refused).items()
        if table.startswith(("REFUSED_", "IDLE_", "MODELS", "DATATYPES")) and table != "REFUSED_DATABASES"
        for name in names
    ],
    "parameters": [key for kind in KINDS for key in keys.ini_keys(kind)],
    "pruning": ["QWeight", *(f"QWeight.{key}" for key in keys.ini_keys(PruneCell))],
    "cells": [*layers.KINDS, *chain.from_iterable(kind.options for kind in layers.KINDS.values())],
    "targets": [*targets.TARGET],
    "values": [*ACTIVATIONS, *DATABASES, *TRANSFORMATIONS, *POLICIES, *(f"{name}Filler" for name in FILLERS)],
    "solvers": [f"{name}Solver" for name in SOLVERS],
    "classes": [*(name for name in cells.__all__ if name != "nn"), *(kind.__name__ for kind in DATABASES.values())],
    "modules": [f"n2d2.{name}" for name in n2d2.__all__ if name != "cells"] + ["n2d2.cells"],
    "-pruning": [*options.FILLERS],
}


@pytest.mark.parametrize("table", TABLES)
def test_every_name_is_in_the_guide(table):
    assert TABLES[table]
    assert not sorted({*TABLES[table]} - NAMED)


def test_every_name_in_the_first_column_of_a_table_is_in_the_code():
    sources = "".join(path.read_text() for path in (ROOT / "src/n2d2").rglob("*.py"))
    known = {name for names in TABLES.values() for name in names} | {*cli.ALIASES, "n2d2.cells.nn"}
    known |= {"pytorch_to_n2d2", "keras_to_n2d2", "N2D2"}
    first = [row.split("|")[1] for row in GUIDE.splitlines() if row.startswith("| `")]
    names = {name for cell in first for code in re.findall(r"`([^`]+)`", cell) for name in re.split(r"[\s,]+", code)}
    words = {name for name in names if re.fullmatch(r"-?[A-Za-z_][\w.-]*", name)}
    assert len(words) > 150
    unknown = {
        name for name in words - known if not re.search(rf"\b{re.escape(name.removeprefix('Mapping.'))}\b", sources)
    }
    assert not unknown


def test_the_guide_tells_the_limits_of_the_dialect():
    told = " ".join(GUIDE.split())
    assert f"{MAX_FILE_BYTES >> 20} MiB a file" in told
    assert f"{LIMITS['properties, inherited ones included']:,} properties" in told
    assert f"{LIMITS['template steps']:,} template steps" in told
    assert not sorted(name for name in FUNCTIONS if f"`{name}`" not in GUIDE)


def test_a_key_is_added_by_the_one_line_that_the_guide_shows(monkeypatch):
    recipe = GUIDE.partition("## How to add an N2D2 key")[2].partition("\n## ")[0]
    (line,) = re.findall(r"^    (.+)$", recipe, re.MULTILINE)
    fc = layers.KINDS["Fc"]
    monkeypatch.setitem(layers.KINDS, "Fc", replace(fc, options={**fc.options}))
    text = "[fc]\nInput=sp\nType=Fc\nNbOutputs=10\nBiasFree=1"
    inputs = parts.Inputs(("sp",), ((1, 2, 2),))
    assert layers.read_cell(ini.parse(text).section("fc"), inputs).bias is not None
    exec(line, {"KINDS": layers.KINDS, "Section": ini.Section})  # noqa: S102 - our own page
    assert layers.read_cell(ini.parse(text).section("fc"), inputs).bias is None
