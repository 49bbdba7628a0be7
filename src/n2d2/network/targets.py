"""The sections `[CELL.Target]`: whose output is measured, and how."""

from collections.abc import Callable, Mapping
from typing import Any

from n2d2.ini import Document, IniError, Section
from n2d2.ini.errors import hint
from n2d2.network.graph import Graph
from n2d2.network.parameters import chosen, located, refuse, warn_of_idle
from n2d2.network.refused import IDLE_TARGET, REFUSED_TARGET_KEYS, REFUSED_TARGETS
from n2d2.provider import DataProvider
from n2d2.target import Score

TARGET: Mapping[str, tuple[str, Callable[[Section, str], Any]]] = {
    "TargetValue": ("target_value", Section.get_float),
    "DefaultValue": ("default_value", Section.get_float),
    "TopN": ("top_n", Section.get_int),
}
"""Key -> the option of a Score, and how it is read."""


def read_targets(document: Document, graph: Graph, provider: DataProvider) -> tuple[str, list[Score]]:
    """The cell whose output is measured, and how.

    Raises:
        IniError: no cell has a target, several have one, or its output is more than one value for each class.
    """
    owners = {name: name.rpartition(".Target")[0] for name in document.sections if ".Target" in name}
    sections = {name: document.section(name) for name, cell in owners.items() if cell in graph.cells}
    if not sections:
        raise _no_target(document, graph)
    targets = [_target(section, provider) for section in sections.values()]
    cell = owners[next(iter(sections))]
    for name, section in sections.items():
        if owners[name] != cell:
            problem = f"{section}is refused: [{cell}] has a target already; several are for detection and segmentation"
            raise IniError(problem, section.place)
        if any(side != 1 for side in graph.shapes[cell][1:]):
            size = " x ".join(map(str, graph.shapes[cell]))
            problem = f"{section}is illegal: [{cell}] gives {size} values; a target takes one value for each class"
            raise IniError(problem, section.place)
    return cell, targets


def _no_target(document: Document, graph: Graph) -> IniError:
    if not graph.cells:
        return IniError(f"{document.file}: no section has an Input, so there is no cell")
    wanted = f"{[*graph.cells][-1]}.Target"
    return IniError(
        f"{document.file}: section [{wanted}] is missing, no other cell has one{hint(wanted, document.sections)}"
    )


def _target(section: Section, provider: DataProvider) -> Score:
    if "Type" in section:
        chosen(section, "Type", {"TargetScore": True}, REFUSED_TARGETS)
    refuse(section, REFUSED_TARGET_KEYS)
    warn_of_idle(section, IDLE_TARGET)
    options = {name: get(section, key) for key, (name, get) in TARGET.items() if key in section}
    with located(section.place, section):
        return Score(provider, name=section.name, **options)
