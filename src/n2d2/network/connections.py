"""The `Mapping` keys of a section: which channels of its inputs each output of a cell sees.

A table is bool, (channels, outputs), as `n2d2.cells.mapping` has it. For each input, the first that is given decides:

    Mapping.NbGroups, Mapping.ChannelsPerGroup      blocks along the diagonal
    Mapping(input)                                  the table itself, row by row, a row for each channel
    Mapping(input).Size ..., Mapping.Size ...       a rectangle of `Size` that moves by `Stride` from `Offset` on
    nothing                                         every output sees every channel
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from n2d2.ini import Section
from n2d2.ini.document import PROVIDERS

GROUPS, PER_GROUP = "Mapping.NbGroups", "Mapping.ChannelsPerGroup"
SHAPE = {"Size": 1, "Stride": 1, "Offset": 0}
"""Of the rectangle, each with X along the outputs and Y along the channels."""


def read_mapping(section: Section, inputs: Sequence[tuple[str, int]], n_outputs: int) -> Tensor:
    r"""Read the table of a cell, the channels of its inputs one below the other.

    Args:
        section: of the cell.
        inputs: name and number of channels of each.
        n_outputs: >= 1.

    Raises:
        IniError: a table has another size or other values than 0 and 1, or the groups do not divide the channels.

    >>> from n2d2 import ini
    >>> section = ini.parse("[c]\nMapping.Size=1").section("c")
    >>> read_mapping(section, [("a", 2), ("b", 1)], 2).int().tolist()
    [[1, 0], [0, 1], [1, 1]]
    """
    return torch.cat([_of_input(section, name, n_channels, n_outputs) for name, n_channels in inputs])


def is_mapped(section: Section) -> bool:
    """Tell whether any line of a section speaks of its mapping."""
    return bool(section.names("Mapping"))


def _of_input(section: Section, name: str, n_channels: int, n_outputs: int) -> Tensor:
    local = _local(section, name)
    keys = (GROUPS, PER_GROUP, local)
    given = [key for key in keys if key in section]
    if GROUPS in given and PER_GROUP in given:
        raise section.refuse(PER_GROUP, f"{GROUPS} says the same")
    if GROUPS in given:
        return _grouped(section, GROUPS, section.get_int(GROUPS, low=1), n_channels, n_outputs)
    if PER_GROUP in given:
        size = section.get_int(PER_GROUP, low=1)
        n_groups = n_channels // size if n_channels % size == 0 else 0
        return _grouped(section, PER_GROUP, n_groups, n_channels, n_outputs)
    if local in given:
        return _table(section, local, n_channels, n_outputs)
    if section.names("Mapping.") or section.names(f"{local}."):
        return _moved(section, local, n_channels, n_outputs)
    return torch.ones(n_channels, n_outputs, dtype=torch.bool)


def _local(section: Section, name: str) -> str:
    """`Mapping(conv1)`; for the provider, `Mapping(sp)` or `Mapping(env)`, whatever it is called."""
    names = PROVIDERS if name in PROVIDERS else (name,)
    given = [one for one in names if section.names(f"Mapping({one})")]
    return f"Mapping({given[0] if given else name})"


def _grouped(section: Section, key: str, n_groups: int, n_channels: int, n_outputs: int) -> Tensor:
    if not n_groups or n_channels % n_groups or n_groups > n_outputs:
        raise section.error(key, f"the groups must divide the {n_channels} channels, and not exceed the outputs")
    table = torch.zeros(n_channels, n_outputs, dtype=torch.bool)
    size, first = n_channels // n_groups, 0
    for group in range(n_groups):
        n = (n_outputs - first) // (n_groups - group)  # N2D2 lets the last groups have one output more
        table[group * size : (group + 1) * size, first : first + n] = True
        first += n
    return table


def _table(section: Section, key: str, n_channels: int, n_outputs: int) -> Tensor:
    values = section.get_ints(key)
    if len(values) != n_channels * n_outputs or not {*values} <= {0, 1}:
        raise section.error(
            key, f"it must be {n_channels} rows of {n_outputs} numbers, a row for each channel, all of them 0 or 1"
        )
    return torch.tensor(values).reshape(n_channels, n_outputs).bool()


def _moved(section: Section, local: str, n_channels: int, n_outputs: int) -> Tensor:
    def axis(what: str, name: str) -> int:
        keys = [f"{prefix}.{what}{suffix}" for prefix in (local, "Mapping") for suffix in ("", name)]
        given = [key for key in keys if key in section]
        return section.get_int(given[0]) if given else SHAPE[what]

    keys = [f"{prefix}.NbIterations" for prefix in (local, "Mapping")]
    given = [key for key in keys if key in section]
    n_moves = (section.get_int(given[0]) if given else 0) or max(n_outputs, n_channels)
    width, height = min(axis("Size", "X") or n_outputs, n_outputs), min(axis("Size", "Y") or n_channels, n_channels)
    step_x, step_y = axis("Stride", "X"), axis("Stride", "Y")
    x, y = axis("Offset", "X"), axis("Offset", "Y")
    table = torch.zeros(n_channels, n_outputs, dtype=torch.bool)
    columns, rows = torch.arange(width), torch.arange(height)[:, None]
    for move in range(min(n_moves, math.lcm(n_outputs, n_channels))):  # then it comes round
        table[(y + move * step_y + rows) % n_channels, (x + move * step_x + columns) % n_outputs] = True
    return table
