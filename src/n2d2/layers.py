"""A section to a cell: for every `Type`, what is read and what the cell is then made of."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from n2d2.activation import ACTIVATIONS, Activation, Tanh
from n2d2.cells import nn
from n2d2.cells.cell import Cell
from n2d2.cells.operators import GLOBAL_POOLS, OPERATIONS
from n2d2.connections import is_mapped, read_mapping
from n2d2.filler import FILLERS, Filler
from n2d2.ini import IniWarning, Section
from n2d2.keys import (
    IDLE_CELL,
    MODELS,
    REFUSED_ACTIVATIONS,
    REFUSED_CELL_KEYS,
    REFUSED_CELLS,
    REFUSED_MODELS,
    REFUSED_QUANTIZERS,
)
from n2d2.parameters import chosen, configured, located, refuse, warn_of_idle
from n2d2.quantizer import PruneCell
from n2d2.solver import SOLVERS, Solver

Shape = tuple[int, ...]
Options = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What a cell takes.

    Args:
        names: of the sections.
        shapes: of their outputs, without the batch: (channels, y, x), or (features,).
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]

    @property
    def channels(self) -> list[tuple[str, int]]:
        """The name and the number of channels of each."""
        return [(name, shape[0]) for name, shape in zip(self.names, self.shapes, strict=True)]

    @property
    def n_channels(self) -> int:
        """How many channels they have together."""
        return sum(shape[0] for shape in self.shapes)

    @property
    def n_values(self) -> int:
        """How many values they have together."""
        return sum(_product(shape) for shape in self.shapes)


Part = Callable[[Section, Inputs], Options]
"""Reads some of a cell's arguments."""


@dataclass(frozen=True)
class Kind:
    """What is read for one `Type`.

    Args:
        make: the cell's class.
        options: key -> the argument and how it is read, where the section gives the key.
        parts: read the other arguments.
    """

    make: Callable[..., Cell]
    options: Mapping[str, tuple[str, Callable[[Section, str], Any]]]
    parts: tuple[Part, ...]


def read_cell(section: Section, inputs: Inputs) -> Cell:
    """Make the cell of a section.

    Raises:
        IniError: an unknown or refused type or model, a missing or illegal value; with its line.
    """
    kind = chosen(section, "Type", KINDS, REFUSED_CELLS)
    check_model(section, "Model")
    refuse(section, REFUSED_CELL_KEYS)
    warn_of_idle(section, IDLE_CELL)
    arguments: Options = {}
    for part in kind.parts:
        arguments |= part(section, inputs)
    arguments |= {name: get(section, key) for key, (name, get) in kind.options.items() if key in section}
    with located(section.place, section):
        return kind.make(**arguments, name=section.name)


def check_model(section: Section, key: str) -> None:
    """Refuse models of cells that have no meaning here."""
    if key in section:
        chosen(section, key, MODELS, REFUSED_MODELS)


def read_quantizer(section: Section) -> PruneCell | None:
    """Read `QWeight` and its parameters, if they are there; it is not put on the cell."""
    if "QAct" in section:
        raise section.refuse("QAct", "quantization is another subject; QWeight=Prune is here")
    if "QWeight" not in section:
        return None
    return configured(section, chosen(section, "QWeight", {"Prune": PruneCell}, REFUSED_QUANTIZERS), "QWeight.")


def read_solver(section: Section, own: str) -> Solver:
    """Read the solver of `own`, whose keys go before those of `Solvers`, which all parameters of a cell share."""
    given = [key for key in (own, "Solvers") if key in section]
    solvers = {f"{name}Solver": kind for name, kind in SOLVERS.items()}
    kind = chosen(section, given[0], solvers, {}) if given else SOLVERS["SGD"]
    return configured(section, kind, f"{own}.", "Solvers.")


# ---- parts


def _activated(section: Section, _: Inputs) -> Options:
    key = "ActivationFunction"
    if key not in section:
        return {}
    return {"activation": chosen(section, key, _ACTIVATIONS, REFUSED_ACTIVATIONS)(section)}


def _plain(kind: type[Activation]) -> Callable[[Section], Activation]:
    return lambda section: configured(section, kind, "ActivationFunction.")


_ACTIVATIONS: dict[str, Callable[[Section], Activation]] = {
    **{name: _plain(kind) for name, kind in ACTIVATIONS.items()},
    "TanhLeCun": lambda section: configured(section, Tanh, "ActivationFunction.", alpha=1.7159 * 2 / 3),
}


def _filler(section: Section, key: str) -> Filler | None:
    if key not in section:
        return None
    return configured(section, chosen(section, key, {f"{n}Filler": kind for n, kind in FILLERS.items()}, {}), f"{key}.")


def _fillers(section: Section, _: Inputs) -> Options:
    return {"weights_filler": _filler(section, "WeightsFiller"), "bias_filler": _filler(section, "BiasFiller")}


def _solvers(**keys: str) -> Part:
    return lambda section, _: {name: read_solver(section, key) for name, key in keys.items()}


def _channels(_: Section, inputs: Inputs) -> Options:
    return {"nb_inputs": inputs.n_channels}


def _values(_: Section, inputs: Inputs) -> Options:
    return {"nb_inputs": inputs.n_values}


def _outputs(section: Section, _: Inputs) -> Options:
    return {"nb_outputs": section.get_int("NbOutputs", low=1)}


def _kernel(section: Section, _: Inputs) -> Options:
    return {"kernel_dims": _sizes(section, "Kernel")}


def _window(section: Section, _: Inputs) -> Options:
    return {"pool_dims": _sizes(section, "Pool")}


def _sizes(section: Section, what: str) -> list[int]:
    """`KernelDims=5 5`, or `KernelSize=5` of two dimensions, or `KernelWidth`, `KernelHeight` and `KernelDepth`."""
    if f"{what}Dims" in section:
        return section.get_ints(f"{what}Dims", low=1)
    if f"{what}Size" in section:
        return [section.get_int(f"{what}Size", low=1)] * 2
    sides = [f"{what}{side}" for side in ("Width", "Height", "Depth")]
    given = [side for side in sides if side in section]
    if not given:
        section.get_ints(f"{what}Dims")  # raises that it is missing
    return [section.get_int(side, low=1) for side in sides[: max(2, len(given))]]


def _geometry(of: str, **keys: str) -> Part:
    """Read `StrideDims=2 2`, or `Stride=2` in all dimensions that `of` has, or `StrideX`, `StrideY` and `StrideZ`."""

    def one(section: Section, what: str, n_dims: int) -> list[int] | None:
        if f"{what}Dims" in section:
            return section.get_ints(f"{what}Dims")
        if what in section:
            return [section.get_int(what)] * n_dims
        axes = [f"{what}{axis}" for axis in "XYZ"[:n_dims]]
        neutral = 0 if what == "Padding" else 1
        return [section.get_int(axis, neutral) for axis in axes]

    def read(section: Section, _: Inputs) -> Options:
        n_dims = len(_sizes(section, of))
        return {name: one(section, what, n_dims) for name, what in keys.items()}

    return read


def _mapping(section: Section, inputs: Inputs) -> Options:
    table = read_mapping(section, inputs.channels, section.get_int("NbOutputs", low=1))
    return {"mapping": None if table.all() else table}


def _pooled(section: Section, inputs: Inputs) -> Options:
    n_outputs = section.get_int("NbOutputs", low=1)
    if not is_mapped(section) and inputs.n_channels > 1:
        warnings.warn(
            f"{section.place}: {section}has no Mapping: as in N2D2, every output is pooled over all"
            f" {inputs.n_channels} channels; Mapping.ChannelsPerGroup=1 pools each channel by itself",
            IniWarning,
            stacklevel=2,
        )
    table = read_mapping(section, inputs.channels, n_outputs)
    each_its_own = table.shape == (n_outputs, n_outputs) and torch.equal(table, torch.eye(n_outputs, dtype=torch.bool))
    return {"mapping": None if each_its_own else table}


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


# ---- the table


def _integer(section: Section, key: str) -> int:
    return section.get_int(key, low=-(2**31))


def _fraction(section: Section, key: str) -> float:
    return section.get_float(key, low=0, high=1)


def _one_of(legal: Iterable[str]) -> Callable[[Section, str], str]:
    return lambda section, key: section.get_choice(key, legal)


_BACK = {"BackPropagate": ("back_propagate", Section.get_bool)}
_LEARNS = {"NoBias": ("no_bias", Section.get_bool), **_BACK}
_WEIGHTS = (_fillers, _solvers(weights_solver="WeightsSolver", bias_solver="BiasSolver"))
_STEPS = {"stride_dims": "Stride", "padding_dims": "Padding"}
_CONV = (
    _channels,
    _outputs,
    _kernel,
    _geometry("Kernel", **_STEPS, sub_sample_dims="SubSample", dilation_dims="Dilation"),
    _mapping,
    _activated,
    *_WEIGHTS,
)

KINDS: dict[str, Kind] = {
    "Conv": Kind(nn.Conv, _LEARNS, _CONV),
    "Deconv": Kind(nn.Deconv, _LEARNS, _CONV),
    "Fc": Kind(nn.Fc, _LEARNS, (_values, _outputs, _activated, *_WEIGHTS)),
    "Pool": Kind(
        nn.Pool,
        {"Pooling": ("pooling", _one_of(GLOBAL_POOLS))},
        (_window, _geometry("Pool", **_STEPS), _pooled, _activated),
    ),
    "BatchNorm": Kind(
        nn.BatchNorm2d,
        {
            "Epsilon": ("epsilon", _fraction),
            "MovingAverageMomentum": ("moving_average_momentum", _fraction),
            **_BACK,
        },
        (_channels, _solvers(scale_solver="ScaleSolver", bias_solver="BiasSolver"), _activated),
    ),
    "Dropout": Kind(nn.Dropout, {"Dropout": ("dropout", _fraction)}, ()),
    "ElemWise": Kind(
        nn.ElemWise,
        {
            "Operation": ("operation", _one_of(OPERATIONS)),
            "Weights": ("weights", Section.get_floats),
            "Shifts": ("shifts", Section.get_floats),
        },
        (_activated,),
    ),
    "Softmax": Kind(
        nn.Softmax,
        {"WithLoss": ("with_loss", Section.get_bool), "GroupSize": ("group_size", Section.get_int)},
        (),
    ),
    "Activation": Kind(nn.Activation, {}, (_activated,)),
    "Padding": Kind(
        nn.Padding,
        {
            "TopPadding": ("top_pad", _integer),
            "BottomPadding": ("bot_pad", _integer),
            "LeftPadding": ("left_pad", _integer),
            "RightPadding": ("right_pad", _integer),
        },
        (_activated,),
    ),
    "Reshape": Kind(nn.Reshape, {"Dims": ("dims", lambda section, key: section.get_ints(key, low=-1))}, (_activated,)),
    "Transpose": Kind(nn.Transpose, {"Perm": ("perm", Section.get_ints)}, (_activated,)),
}
PRUNABLE = ("Conv", "Deconv", "Fc")
