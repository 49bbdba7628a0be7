"""The cells of a file in the order of their `Input`, each made when the shapes of its inputs are known."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch

from n2d2.cells.cell import Cell
from n2d2.cells.wiring import Wiring
from n2d2.global_variables import device, dtype
from n2d2.ini import Document, IniError, IniWarning, Section
from n2d2.ini.document import PROVIDERS
from n2d2.ini.errors import hint
from n2d2.network.environment import Environment
from n2d2.network.imported import configure, read_imported
from n2d2.network.layers import KINDS, PRUNABLE, read_cell
from n2d2.network.parts import Inputs, Shape, read_quantizer
from n2d2.network.refused import REFUSED_CELLS
from n2d2.quantizer import PruneCell


@dataclass(eq=False)
class Graph:
    """The cells of a file.

    Attributes:
        cells: by name, each after its inputs.
        inputs: cell -> names of what it takes: cells, or the provider.
        shapes: of all outputs, the provider's too, without the batch: (channels, y, x), or (features,).
        quantizers: cell -> its PruneCell, which is not on it yet.
        outputs: a section that stands for several cells -> those whose outputs are its own.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    quantizers: dict[str, PruneCell] = field(default_factory=dict)
    outputs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def taken(self, section: Section, source: str) -> Inputs:
        """What a section takes; `source` is the provider. Beside cells of a file, the file's section adds nothing."""
        given = _inputs_of(section, source)
        cells = [name for name in given if name not in self.outputs]
        names = tuple(cells or (one for name in given for one in self.outputs[name]))
        return Inputs(names, tuple(self.shapes[name] for name in names))

    def add(
        self,
        cell: Cell,
        inputs: Inputs,
        section: Section,
        quantizer: PruneCell | None,
        came: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Add a cell, which `section` describes, after its inputs; return what it makes of `came`, by default zeros."""
        if cell.name in self.shapes:
            raise IniError(f"{section}there are two cells of the name {cell.name!r}", section.place)
        made = output_of(cell, zeros(inputs.shapes) if came is None else came, section)
        self.shapes[cell.name] = tuple(made.shape[1:])
        self.cells[cell.name], self.inputs[cell.name] = cell, inputs.names
        if quantizer is not None:
            self.quantizers[cell.name] = quantizer
        return made


def read_graph(document: Document, environment: Environment, wanted: Collection[str] = ()) -> Graph:
    """Make all cells of a file.

    Args:
        document: the file.
        environment: its provider; gets the automatic values of the cells.
        wanted: the cells that learn. Beside them and what they hang on, cells of types that are refused are left out.

    Raises:
        IniError: an input is missing or hangs on itself, shapes do not fit, or a section is wrong in itself.
    """
    source = environment.section.name
    graph = Graph(shapes={source: tuple(environment.provider.shape()[1:])})
    sections = document.having("Input")
    files = {one.name: read_imported(document, one) for one in sections if one.get_str("Type") == "ONNX"}
    taken = _taken(document, sections, files, source)
    needed = _needed(wanted, taken, files) if wanted else taken.keys()
    for section in _in_order({section.name: section for section in sections}, taken):
        if section.name not in needed and (why := _left_out(section, graph, source)):
            warnings.warn(f"{section.place}: {section}is left out: {why}, and nothing is learned by it", IniWarning, 2)
            section.skip()
            continue
        inputs = graph.taken(section, source)
        if section.name in files:
            _add_file(document, graph, section, inputs, files[section.name])
        else:
            quantizer = _quantizer(section)
            graph.add(read_cell(section, inputs), inputs, section, quantizer)
            _check_outputs(section, graph.shapes[section.name])
            environment.values |= _automatic_values(section.name, inputs, graph.shapes[section.name])
    return graph


def _quantizer(section: Section) -> PruneCell | None:
    """The PruneCell of a section; what it shares with others may have one that is not for it."""
    kind = section.get_str("Type")
    if kind in PRUNABLE:
        return read_quantizer(section)
    if kind in KINDS and "QWeight" in section.entries and section.entries["QWeight"].section == section.name:
        raise section.refuse("QWeight", f"a {kind} has no weights to prune; {', '.join(PRUNABLE)} have")
    return None


def zeros(shapes: Sequence[Shape]) -> list[torch.Tensor]:
    """One stimulus of zeros of each shape."""
    return [torch.zeros(1, *shape, device=device(), dtype=dtype()) for shape in shapes]


@torch.no_grad()
def output_of(cell: Cell, inputs: Sequence[torch.Tensor], section: Section) -> torch.Tensor:
    """What a cell makes of one stimulus, in testing mode.

    Raises:
        IniError: the inputs do not fit the cell.
    """
    try:
        output: torch.Tensor = cell.eval().forward(*inputs)
    except (RuntimeError, ValueError, IndexError) as error:
        came = " and ".join(" x ".join(map(str, x.shape[1:])) for x in inputs)
        where = "" if cell.name == section.name else f" {cell.name!r}"
        raise IniError(f"{section}an input of {came} does not fit{where}: {error}", section.place) from None
    cell.train()
    return output


def _taken(
    document: Document, sections: Sequence[Section], files: Mapping[str, Wiring], source: str
) -> dict[str, list[str]]:
    """What each section takes; cells of a file by its section."""
    by_name = {section.name: section for section in sections}
    owners = {cell: file for file, wiring in files.items() for cell in wiring.inputs}
    taken = {name: [owners.get(one, one) for one in _inputs_of(section, source)] for name, section in by_name.items()}
    for name, inputs in taken.items():
        for one in inputs:
            if one == name:
                raise by_name[name].error("Input", "a cell cannot take its own output")
            if one != source and one not in by_name:
                raise by_name[name].error("Input", _missing(document, one, [source, *by_name, *owners]))
    return taken


def _needed(wanted: Collection[str], taken: Mapping[str, list[str]], files: Mapping[str, Wiring]) -> set[str]:
    """The sections of these cells, and all that they hang on."""
    owners = {cell: file for file, wiring in files.items() for cell in wiring.inputs}
    found, waiting = set[str](), [owners.get(one, one) for one in wanted]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += taken.get(name, [])
    return found


def _left_out(section: Section, graph: Graph, source: str) -> str:
    """Why a section that nothing needs cannot become a cell; nothing where it can."""
    kind = section.get_str("Type")
    if kind in REFUSED_CELLS:
        return f"Type={kind} is refused"
    missing = [one for one in _inputs_of(section, source) if one not in graph.shapes and one not in graph.outputs]
    return f"[{missing[0]}] is left out" if missing else ""


def _in_order(by_name: Mapping[str, Section], taken: Mapping[str, list[str]]) -> list[Section]:
    """The sections, each after all that it takes."""
    try:
        order = list(TopologicalSorter(taken).static_order())
    except CycleError as error:
        circle = error.args[1]
        shown = " -> ".join(circle if len(circle) <= 10 else [*circle[:10], "..."])  # noqa: PLR2004
        raise by_name[circle[0]].error("Input", f"these cells feed each other: {shown}") from None
    return [by_name[name] for name in order if name in by_name]


def _inputs_of(section: Section, source: str) -> list[str]:
    """What `Input` names, the provider by the name of its section."""
    inputs = section.get_list("Input")
    if not inputs:
        raise section.error("Input", "it must name one or more sections, separated by commas")
    return [source if one in PROVIDERS else one for one in inputs]


def _missing(document: Document, name: str, known: Sequence[str]) -> str:
    if name in document.sections:
        return f"[{name}] is no cell, for it has no Input"
    return f"there is no section [{name}]{hint(name, known)}"


def _add_file(document: Document, graph: Graph, section: Section, came: Inputs, wiring: Wiring) -> None:
    """Add the cells of an ONNX file; between them, the first dimension need not be the batch."""
    known: dict[str, torch.Tensor] = dict(zip(came.names, zeros(came.shapes), strict=True))
    for name, cell in wiring.cells.items():
        names = tuple(
            one for source in wiring.inputs[name] for one in ((source,) if source in wiring.inputs else came.names)
        )
        inputs = Inputs(names, tuple(graph.shapes[one] for one in names))
        quantizer = configure(document, section, cell)
        known[name] = graph.add(cell, inputs, section, quantizer, [known[one] for one in names])
    graph.outputs[section.name] = tuple(wiring.outputs)


def _check_outputs(section: Section, shape: Shape) -> None:
    if "NbOutputs" in section and section.get_int("NbOutputs") != shape[0]:
        raise section.error("NbOutputs", f"this cell has {shape[0]} outputs")


def _automatic_values(name: str, inputs: Inputs, shape: Shape) -> dict[tuple[str, str], Callable[[], Any]]:
    """What other sections may refer to, as `[conv1]_NbOutputs`."""
    found = {
        "_NbChannels": inputs.n_channels,
        "_ChannelsHeight": _side(inputs.shapes[0], 1),
        "_ChannelsWidth": _side(inputs.shapes[0], 2),
        "_NbOutputs": shape[0],
        "_OutputsHeight": _side(shape, 1),
        "_OutputsWidth": _side(shape, 2),
    }
    return {(name, key): partial(int, value) for key, value in found.items()}


def _side(shape: Shape, axis: int) -> int:
    return shape[axis] if axis < len(shape) else 1
