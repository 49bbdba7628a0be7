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
from n2d2.network.parameters import chosen, configured
from n2d2.network.refused import REFUSED_ACTIVATIONS, REFUSED_QUANTIZERS
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


def kernel(section: Section, inputs: Inputs) -> Options:
    """`KernelDims`; see `_sizes`."""
    return {"kernel_dims": _sizes_for(section, "Kernel", inputs)}


def window(section: Section, inputs: Inputs) -> Options:
    """`PoolDims`; see `_sizes`."""
    return {"pool_dims": _sizes_for(section, "Pool", inputs)}


def _sizes_for(section: Section, of: str, inputs: Inputs) -> list[int]:
    """The sizes of a kernel or a window, one for each side of the input."""
    sizes, n_sides = _sizes(section, of), len(inputs.shapes[0]) - 1
    if n_sides and len(sizes) != n_sides:
        came = " x ".join(map(str, inputs.shapes[0]))
        legal = f"it must be {n_sides} whole number{'s' * (n_sides > 1)} >= 1, x first, for the input is {came}"
        raise section.error(_size_key(section, of), legal)
    return sizes


def fits(of: str) -> Part:
    """Refuse a kernel or window (`of`) that reaches over the padded input."""

    def read(section: Section, inputs: Inputs) -> Options:
        sizes = _sizes(section, of)
        padding = _steps(section, "Padding", len(sizes))
        dilation = _steps(section, "Dilation", len(sizes)) if of == "Kernel" else [1] * len(sizes)
        spans = [step * (size - 1) + 1 for step, size in zip(dilation, sizes, strict=True)]
        sides = inputs.shapes[0][:0:-1] or [1] * len(sizes)  # x first
        padded = [side + 2 * pad for side, pad in zip(sides, padding, strict=True)]
        if any(span > side for span, side in zip(spans, padded, strict=True)):
            span, side = (" x ".join(map(str, one)) for one in (spans, padded))
            raise section.error(_size_key(section, of), f"it spans {span}, and the input with its padding is {side}")
        if of == "Pool" and any(2 * pad > size for pad, size in zip(padding, sizes, strict=True)):
            raise section.error(
                _first(section, "Padding", "PaddingX", "PaddingDims"), "it must be half of the window at most"
            )
        return {}

    return read


def _size_key(section: Section, of: str) -> str:
    return _first(section, *(f"{of}{what}" for what in ("Size", "Width", "Height", "Depth", "Dims")))


def _first(section: Section, *keys: str) -> str:
    """The first of the keys that is given, else the last."""
    return next((key for key in keys if key in section), keys[-1])


def geometry(of: str, **keys: str) -> Part:
    """Read what belongs to a kernel or a window (`of`): argument -> "Stride", "Padding", "Dilation", "SubSample"."""

    def read(section: Section, _: Inputs) -> Options:
        n_dims = len(_sizes(section, of))
        return {name: _steps(section, what, n_dims) for name, what in keys.items()}

    return read


def _sizes(section: Section, what: str) -> list[int]:
    """`KernelDims=5 5`, or `KernelSize=5` of two dimensions, or `KernelWidth`, `KernelHeight` and `KernelDepth`."""
    if f"{what}Size" in section:
        return [section.get_int(f"{what}Size", low=1)] * 2
    sides = [f"{what}{side}" for side in ("Width", "Height", "Depth")]
    given = [side for side in sides if side in section]
    if given:
        return [section.get_int(side, low=1) for side in sides[: max(2, len(given))]]
    return section.get_ints(f"{what}Dims", low=1)


def _steps(section: Section, what: str, n_dims: int) -> list[int]:
    """`StrideDims=2 2`, or `Stride=2` of all dimensions, or `StrideX`, `StrideY` and `StrideZ`."""
    neutral = 0 if what == "Padding" else 1
    if what in section:
        return [section.get_int(what, low=neutral)] * n_dims
    if (key := f"{what}Dims") in section:
        steps = section.get_ints(key, low=neutral)
        if len(steps) != n_dims:
            raise section.error(key, f"it must be {n_dims} whole numbers, x first")
        return steps
    return [section.get_int(f"{what}{axis}", neutral, low=neutral) for axis in "XYZ"[:n_dims]]


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
    if quantizer.prune_mode == "Gradual" and quantizer.start > quantizer.threshold:
        entry = section.entry("QWeight.StartThreshold") or section.entry("QWeight.Threshold")
        warnings.warn(
            f"{entry.place if entry else section.place}: {section}QWeight.StartThreshold={quantizer.start} is above"
            f" QWeight.Threshold={quantizer.threshold}: as in N2D2, so much is pruned at once, and stays pruned",
            IniWarning,
            stacklevel=2,
        )
    return quantizer
