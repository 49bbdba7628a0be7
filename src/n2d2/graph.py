"""The cells of a file in the order of their `Input`, each made when the shapes of its inputs are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from graphlib import CycleError, TopologicalSorter

import torch

from n2d2.cells.cell import Cell
from n2d2.environment import Environment
from n2d2.global_variables import device, dtype
from n2d2.ini import Document, IniError, Section
from n2d2.ini.errors import hint
from n2d2.layers import PRUNABLE, Inputs, Shape, read_cell, read_quantizer
from n2d2.quantizer import PruneCell


@dataclass(eq=False)
class Graph:
    """The cells of a file.

    Attributes:
        cells: by name, each after its inputs.
        inputs: cell -> names of what it takes.
        shapes: of all outputs, that of the provider too, without the batch: (channels, y, x), or (features,).
        quantizers: cell -> its PruneCell, which is not on it yet.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    quantizers: dict[str, PruneCell] = field(default_factory=dict)


def read_graph(document: Document, environment: Environment) -> Graph:
    """Make all cells of a file.

    Raises:
        IniError: an input is missing or hangs on itself, shapes do not fit, or a section is wrong in itself.
    """
    source = environment.section.name
    graph = Graph(shapes={source: tuple(environment.provider.shape()[1:])})
    for section in _in_order(document, source):
        inputs = _inputs_of(section)
        came = Inputs(inputs, tuple(graph.shapes[name] for name in inputs))
        cell = read_cell(section, came)
        shape = output_shape(cell, came.shapes, section)
        _check_outputs(section, shape)
        graph.cells[section.name], graph.inputs[section.name], graph.shapes[section.name] = cell, inputs, shape
        quantizer = read_quantizer(section) if section.get_str("Type") in PRUNABLE else None
        if quantizer is not None:
            graph.quantizers[section.name] = quantizer
        _note_automatic_values(environment, section.name, came, shape)
    return graph


@torch.no_grad()
def output_shape(cell: Cell, shapes: Sequence[Shape], section: Section) -> Shape:
    """The shape of what a cell makes of inputs of these shapes: of one stimulus of zeros, in testing mode.

    Raises:
        IniError: the inputs do not fit the cell.
    """
    zeros = [torch.zeros(1, *shape, device=device(), dtype=dtype()) for shape in shapes]
    try:
        output = cell.eval()(*zeros)
    except (RuntimeError, ValueError, IndexError) as error:
        came = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
        raise IniError(f"{section}an input of {came} does not fit: {error}", section.place) from None
    cell.train()
    return tuple(output.shape[1:])


def _in_order(document: Document, source: str) -> list[Section]:
    """The sections with an `Input`, each after all that it takes."""
    sections = {section.name: section for section in document.having("Input")}
    inputs = {name: _inputs_of(section) for name, section in sections.items()}
    for name, taken in inputs.items():
        for one in taken:
            if one == name:
                raise sections[name].error("Input", "a cell cannot take its own output")
            if one != source and one not in sections:
                raise sections[name].error("Input", _missing(document, one, [source, *sections]))
    try:
        order = list(TopologicalSorter(inputs).static_order())
    except CycleError as error:
        circle = error.args[1]
        shown = " -> ".join(circle if len(circle) <= 10 else [*circle[:10], "..."])  # noqa: PLR2004
        raise sections[circle[0]].error("Input", f"these cells feed each other: {shown}") from None
    return [sections[name] for name in order if name != source]


def _inputs_of(section: Section) -> tuple[str, ...]:
    inputs = tuple(section.get_list("Input"))
    if not inputs:
        raise section.error("Input", "it must name one or more sections, separated by commas")
    return inputs


def _missing(document: Document, name: str, known: Sequence[str]) -> str:
    if name in document.sections:
        return f"[{name}] is no cell, for it has no Input"
    return f"there is no section [{name}]{hint(name, known)}"


def _check_outputs(section: Section, shape: Shape) -> None:
    if "NbOutputs" in section and section.get_int("NbOutputs") != shape[0]:
        raise section.error("NbOutputs", f"this cell has {shape[0]} outputs")


def _note_automatic_values(environment: Environment, name: str, inputs: Inputs, shape: Shape) -> None:
    """What other sections may refer to, as `[conv1]_NbOutputs`."""
    first = inputs.shapes[0]
    found: Mapping[str, int] = {
        "_NbChannels": inputs.n_channels,
        "_ChannelsHeight": _side(first, 1),
        "_ChannelsWidth": _side(first, 2),
        "_NbOutputs": shape[0],
        "_OutputsHeight": _side(shape, 1),
        "_OutputsWidth": _side(shape, 2),
    }
    for key, value in found.items():
        environment.values[name, key] = partial(int, value)


def _side(shape: Shape, axis: int) -> int:
    return shape[axis] if axis < len(shape) else 1
