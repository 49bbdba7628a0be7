"""The sections `[CELL.Target]`: whose output is measured and learned, and how.

A target that is not about classification is left out, with a warning, where another one is.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from n2d2.cells.operators import Softmax
from n2d2.cells.wiring import ends
from n2d2.ini import Document, IniError, IniWarning, Section
from n2d2.ini.errors import hint
from n2d2.network.graph import Graph
from n2d2.network.parameters import located, warn_of_idle
from n2d2.network.refused import IDLE_TARGET, REFUSED_TARGET_KEYS, REFUSED_TARGETS
from n2d2.provider import DataProvider
from n2d2.target import Score
from n2d2.tensor import Tensor

TARGET: Mapping[str, tuple[str, Callable[[Section, str], Any]]] = {
    "TargetValue": ("target_value", Section.get_float),
    "DefaultValue": ("default_value", Section.get_float),
    "TopN": ("top_n", lambda section, key: section.get_int(key, low=1)),
}
"""Key -> the option of a Score, and how it is read."""


class Scores:
    """The targets of several cells as one: they learn together; what is asked for otherwise is that of the first.

    Args:
        targets: one for each output of the network, in their order.
    """

    def __init__(self, targets: Sequence[Score]) -> None:
        self.targets = list(targets)

    def __call__(self, outputs: Sequence[Tensor]) -> Tensor:
        """The sum of the losses."""
        losses = [target(output) for target, output in zip(self.targets, outputs, strict=True)]
        made = Tensor.from_torch(torch.stack([loss.values for loss in losses]).sum())
        cells = (cell for loss in losses for cell in loss.trace.cells)
        made.trace = replace(losses[0].trace, cells=tuple(dict.fromkeys(cells)))
        return made

    def clear_success(self, partition: str | None = None) -> None:
        """Begin to count anew."""
        for target in self.targets:
            target.clear_success(partition)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "targets":  # a copy has none yet
            raise AttributeError(name)
        return getattr(self.targets[0], name)


def target_sections(document: Document) -> dict[str, str]:
    """The sections that are named like targets -> the cells that they are named after."""
    return {name: name.rpartition(".Target")[0] for name in document.sections if ".Target" in name}


def learned_cells(document: Document) -> set[str]:
    """The cells that have a target of classification, as far as their sections tell before the cells are made."""
    owners = target_sections(document)
    return {cell for name, cell in owners.items() if _other_subject(document.section(name)) is None}


def read_targets(document: Document, graph: Graph, provider: DataProvider) -> dict[str, list[Score]]:
    """The cells whose outputs are measured, in the order of their sections -> how.

    Raises:
        IniError: no cell has a target, or no target is about classification.
    """
    owners = target_sections(document)
    sections = {name: cell for name, cell in owners.items() if cell in graph.cells}
    if not sections:
        return _of_files(document, graph, provider)
    for name in owners.keys() - sections.keys():
        _skip(document, document.section(name), owners[name], graph)
    found: dict[str, list[Score]] = {}
    others: dict[str, IniError] = {}
    for name, cell in sections.items():
        section = document.section(name)
        problem = _other_subject(section) or _not_one_value(section, cell, graph)
        if problem is None:
            found.setdefault(cell, []).append(_target(section, provider))
        else:
            others[name] = problem
    if not found:
        raise next(iter(others.values()))
    for name, problem in others.items():
        document.section(name).skip()
        learned = ", ".join(f"[{target.name}]" for targets in found.values() for target in targets)
        warnings.warn(f"{problem}; it is left out, {learned} is learned", IniWarning, stacklevel=2)
    return found


def _other_subject(section: Section) -> IniError | None:
    """Why a target is not about classification; None where it is."""
    kind = section.get_str("Type", "TargetScore")
    if kind in REFUSED_TARGETS:
        return section.refuse("Type", REFUSED_TARGETS[kind], shown=f"Type={kind}")
    section.get_choice("Type", ["TargetScore"], "TargetScore")
    given = (key for key in REFUSED_TARGET_KEYS if key in section and section.get_str(key) not in ("0", ""))
    key = next(given, None)
    return section.refuse(key, REFUSED_TARGET_KEYS[key]) if key else None


def _not_one_value(section: Section, cell: str, graph: Graph) -> IniError | None:
    if all(side == 1 for side in graph.shapes[cell][1:]):
        return None
    size = " x ".join(map(str, graph.shapes[cell]))
    problem = f"{section}is illegal: [{cell}] gives {size} values; a target takes one value for each class"
    return IniError(problem, section.place)


def _of_files(document: Document, graph: Graph, provider: DataProvider) -> dict[str, list[Score]]:
    """The targets that a network of an ONNX file has where no section gives one: each Softmax at its end, as in N2D2.

    Raises:
        IniError: there is none.
    """
    last = [name for name in ends(graph.inputs) if isinstance(graph.cells[name], Softmax)]
    found = {name: [Score(provider, name=f"{name}.Target")] for name in last if name not in document.sections}
    if not found:
        raise _no_target(document, graph)
    return found


def _no_target(document: Document, graph: Graph) -> IniError:
    if not graph.cells:
        return IniError(f"{document.file}: no section has an Input, so there is no cell")
    wanted = f"{[*graph.cells][-1]}.Target"
    return IniError(
        f"{document.file}: section [{wanted}] is missing, no other cell has one{hint(wanted, document.sections)}"
    )


def _skip(document: Document, section: Section, cell: str, graph: Graph) -> None:
    """Pass over the target of a cell that was left out."""
    if cell not in document.sections or "Input" not in document.section(cell):
        raise IniError(f"{section}is illegal: there is no cell [{cell}]{hint(cell, graph.cells)}", section.place)
    section.skip()


def _target(section: Section, provider: DataProvider) -> Score:
    for key in REFUSED_TARGET_KEYS:
        section.asked.add(key)
    warn_of_idle(section, IDLE_TARGET)
    options = {name: get(section, key) for key, (name, get) in TARGET.items() if key in section}
    with located(section.place, section):
        return Score(provider, name=section.name, **options)
