"""Parts of a section that cells of several types share, each read into some of the cell's arguments."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from n2d2.activation import ACTIVATIONS, Activation, Tanh
from n2d2.filler import FILLERS, Filler
from n2d2.ini import IniWarning, Section
from n2d2.network.connections import is_mapped, read_mapping
from n2d2.network.keys import ini_keys
from n2d2.network.parameters import chosen, configured
from n2d2.network.refused import IDLE_CELL, REFUSED_ACTIVATIONS, REFUSED_QUANTIZERS
from n2d2.quantizer import PruneCell
from n2d2.solver import SGD, SOLVERS, Solver

Shape = tuple[int, ...]
"""Of the output of a cell, without the batch: (channels, y, x), or (features,)."""


@dataclass(frozen=True)
class Inputs:
    """What a cell takes: names and shapes of the outputs of others."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]

    @property
    def channels(self) -> list[tuple[str, int]]:
        """The name of each, and the number of its channels."""
        return [(name, shape[0]) for name, shape in zip(self.names, self.shapes, strict=True)]

    @property
    def n_channels(self) -> int:
        """How many channels they have together."""
        return sum(shape[0] for shape in self.shapes)

    @property
    def n_values(self) -> int:
        """How many values they have together."""
        return sum(map(prod, self.shapes))


Options = dict[str, Any]
Part = Callable[[Section, Inputs], Options]
"""Reads some of the arguments of a cell.

Raises:
    IniError: a key is missing, or its value is illegal.
"""


# ---- sizes


def channels(_: Section, inputs: Inputs) -> Options:
    """How many channels come in."""
    return {"nb_inputs": inputs.n_channels}


def values(_: Section, inputs: Inputs) -> Options:
    """How many values come in."""
    return {"nb_inputs": inputs.n_values}


def outputs(section: Section, _: Inputs) -> Options:
    """`NbOutputs`."""
    return {"nb_outputs": section.get_int("NbOutputs", low=1)}


# ---- connections


def mapping(section: Section, inputs: Inputs) -> Options:
    """Which outputs see which channels, where not all see all."""
    table = read_mapping(section, inputs.channels, section.get_int("NbOutputs", low=1))
    return {"mapping": None if table.all() else table}


def pooled(section: Section, inputs: Inputs) -> Options:
    """Which channels an output pools over."""
    if not is_mapped(section) and inputs.n_channels > 1:
        warnings.warn(
            f"{section.place}: {section}has no Mapping: as in N2D2, every output is pooled over all"
            f" {inputs.n_channels} channels; Mapping.ChannelsPerGroup=1 pools each channel by itself",
            IniWarning,
            stacklevel=2,
        )
    n_outputs = section.get_int("NbOutputs", low=1)
    table = read_mapping(section, inputs.channels, n_outputs)
    return {"mapping": table}


# ---- what is applied, learned and pruned


def activated(section: Section, _: Inputs) -> Options:
    """`ActivationFunction` and its parameters; by default none."""
    if "ActivationFunction" not in section:
        return {}
    kind, given = chosen(section, "ActivationFunction", _ACTIVATIONS, REFUSED_ACTIVATIONS)
    return {"activation": configured(section, kind, "ActivationFunction.", **given)}


_ACTIVATIONS: dict[str, tuple[type[Activation], Options]] = {
    **{name: (kind, {}) for name, kind in ACTIVATIONS.items()},
    "TanhLeCun": (Tanh, {"alpha": 1.7159 * 2 / 3}),
}


def fillers(section: Section, _: Inputs) -> Options:
    """`WeightsFiller` and `BiasFiller`; by default the cell's."""
    return {"weights_filler": _filler(section, "WeightsFiller"), "bias_filler": _filler(section, "BiasFiller")}


def _filler(section: Section, key: str) -> Filler | None:
    if key not in section:
        return None
    return configured(section, chosen(section, key, _FILLERS, {}), f"{key}.")


_FILLERS = {f"{name}Filler": kind for name, kind in FILLERS.items()}


def solvers(**keys: str) -> Part:
    """Read several solvers: argument -> key."""
    return lambda section, _: {name: read_solver(section, key) for name, key in keys.items()}


def read_solver(section: Section, own: str) -> Solver:
    """Read the solver `own`, whose keys go before those of `Solvers`, which all parameters of a cell share."""
    given = [key for key in (own, "Solvers") if key in section]
    kind = chosen(section, given[0], _SOLVERS, {}) if given else SGD
    return configured(section, kind, f"{own}.", "Solvers.")


_SOLVERS = {**SOLVERS, **{f"{name}Solver": kind for name, kind in SOLVERS.items()}}


OWNERS = {
    "ActivationFunction": "Rectifier",
    "BiasFiller": "ConstantFiller",
    "QWeight": "Prune",
    "WeightsFiller": "HeFiller",
}
"""Keys without which nothing reads those that begin with them, each with a value."""


def read_quantizer(section: Section) -> PruneCell | None:
    """Read `QWeight` and its parameters, if they are there; the PruneCell is on no cell yet."""
    if "QWeight" not in section:
        return None
    quantizer = configured(section, chosen(section, "QWeight", {"Prune": PruneCell}, REFUSED_QUANTIZERS), "QWeight.")
    for key in set(ini_keys(PruneCell)) & set(IDLE_CELL):  # of other cells' models, and a slip of the pen here
        if key in section:
            raise section.refuse(key, f"the cell is pruned by QWeight.{key}")
    if quantizer.prune_mode == "Gradual" and quantizer.start > quantizer.threshold:
        entry = section.entry("QWeight.StartThreshold") or section.entry("QWeight.Threshold")
        warnings.warn(
            f"{entry.place if entry else section.place}: {section}QWeight.StartThreshold={quantizer.start} is above"
            f" QWeight.Threshold={quantizer.threshold}: as in N2D2, so much is pruned at once, and stays pruned",
            IniWarning,
            stacklevel=2,
        )
    return quantizer
