"""A section to a cell: for every `Type`, what is read and what the cell is then made of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from n2d2.cells.cell import Cell
from n2d2.cells.normalizing import LRN, Normalize
from n2d2.cells.operators import (
    GLOBAL_POOLS,
    MODES,
    OPERATIONS,
    Activation,
    Dropout,
    ElemWise,
    Padding,
    Pool,
    Reshape,
    Softmax,
    Transpose,
)
from n2d2.cells.weights import BatchNorm2d, Conv, Deconv, Fc
from n2d2.ini import Section
from n2d2.network.parameters import chosen, located, refuse, warn_of_idle
from n2d2.network.parts import (
    Inputs,
    Options,
    Part,
    activated,
    channels,
    fillers,
    mapping,
    outputs,
    pooled,
    solvers,
    values,
)
from n2d2.network.refused import (
    DATATYPES,
    IDLE_CELL,
    MODELS,
    REFUSED_CELL_KEYS,
    REFUSED_CELLS,
    REFUSED_MODELS,
    REFUSED_NORMS,
)
from n2d2.network.sizes import fits, geometry, kernel, window


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
    check_model(section, "Model", "DataType")
    refuse(section, REFUSED_CELL_KEYS)
    warn_of_idle(section, IDLE_CELL)
    arguments: Options = {}
    with located(section.place, section):
        for part in kind.parts:
            arguments |= part(section, inputs)
        arguments |= {name: get(section, key) for key, (name, get) in kind.options.items() if key in section}
        return kind.make(**arguments, name=section.name)


def check_model(section: Section, model: str, datatype: str) -> None:
    """Refuse models that have no meaning here; warn of other datatypes, in which nothing is computed here."""
    if model in section:
        chosen(section, model, dict.fromkeys(MODELS), REFUSED_MODELS)
    if datatype in section and section.get_choice(datatype, DATATYPES) != DATATYPES[0]:
        warn_of_idle(section, [datatype])


def _integer(section: Section, key: str) -> int:
    return section.get_int(key, low=None)


def _fraction(section: Section, key: str) -> float:
    return section.get_float(key, low=0, high=1)


def _not_negative(section: Section, key: str) -> float:
    return section.get_float(key, low=0)


def _norm(section: Section, _: Inputs) -> Options:
    return {"norm": chosen(section, "Norm", {"L2": "L2"}, REFUSED_NORMS)}


def _one_of(legal: Iterable[str]) -> Callable[[Section, str], str]:
    return lambda section, key: section.get_choice(key, legal)


_BACK = {"BackPropagate": ("back_propagate", Section.get_bool)}
_LEARNS = {"NoBias": ("no_bias", Section.get_bool), **_BACK}
_WEIGHTS = (fillers, solvers(weights_solver="WeightsSolver", bias_solver="BiasSolver"))
_STEPS = {"stride_dims": "Stride", "padding_dims": "Padding"}
_DECONV = (
    channels,
    outputs,
    kernel,
    geometry("Kernel", **_STEPS, sub_sample_dims="SubSample", dilation_dims="Dilation"),
    mapping,
    activated,
    *_WEIGHTS,
)

KINDS: dict[str, Kind] = {
    "Conv": Kind(Conv, _LEARNS, (*_DECONV, fits("Kernel"))),
    "Deconv": Kind(Deconv, _LEARNS, _DECONV),
    "Fc": Kind(Fc, _LEARNS, (values, outputs, activated, *_WEIGHTS)),
    "Pool": Kind(
        Pool,
        {"Pooling": ("pooling", _one_of(GLOBAL_POOLS))},
        (window, geometry("Pool", **_STEPS), fits("Pool"), pooled, activated),
    ),
    "BatchNorm": Kind(
        BatchNorm2d,
        {
            "Epsilon": ("epsilon", _fraction),
            "MovingAverageMomentum": ("moving_average_momentum", _fraction),
            **_BACK,
        },
        (channels, solvers(scale_solver="ScaleSolver", bias_solver="BiasSolver"), activated),
    ),
    "Dropout": Kind(Dropout, {"Dropout": ("dropout", _fraction)}, ()),
    "ElemWise": Kind(
        ElemWise,
        {
            "Operation": ("operation", _one_of(OPERATIONS)),
            "Weights": ("weights", Section.get_floats),
            "Shifts": ("shifts", Section.get_floats),
            "CoeffMode": ("mode", _one_of(MODES)),
        },
        (activated,),
    ),
    "Softmax": Kind(
        Softmax,
        {"WithLoss": ("with_loss", Section.get_bool), "GroupSize": ("group_size", Section.get_int)},
        (),
    ),
    "LRN": Kind(
        LRN,
        {
            "N": ("n", lambda section, key: section.get_int(key, low=1)),
            **{key: (key.lower(), _not_negative) for key in ("Alpha", "Beta", "K")},
        },
        (),
    ),
    "Normalize": Kind(Normalize, {}, (_norm,)),
    "Activation": Kind(Activation, {}, (activated,)),
    "Padding": Kind(
        Padding,
        {
            "TopPadding": ("top_pad", _integer),
            "BottomPadding": ("bot_pad", _integer),
            "LeftPadding": ("left_pad", _integer),
            "RightPadding": ("right_pad", _integer),
        },
        (activated,),
    ),
    "Reshape": Kind(Reshape, {}, (lambda section, _: {"dims": section.get_ints("Dims", low=-1)}, activated)),
    "Transpose": Kind(Transpose, {}, (lambda section, _: {"perm": section.get_ints("Perm")}, activated)),
}
PRUNABLE = ("Conv", "Deconv", "Fc")
