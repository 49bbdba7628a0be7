"""N2D2's names over prunecell: its scripts and INI files run unchanged."""

from n2d2 import (
    activation,
    cells,
    database,
    error_handler,
    filler,
    global_variables,
    models,
    provider,
    quantizer,
    solver,
    target,
    tensor,
    transform,
)
from n2d2.config_section import ConfigSection
from n2d2.tensor import Tensor
from prunecell.errors import nearest

__all__ = [
    "ConfigSection",
    "Tensor",
    "activation",
    "cells",
    "database",
    "error_handler",
    "filler",
    "global_variables",
    "models",
    "provider",
    "quantizer",
    "solver",
    "target",
    "tensor",
    "transform",
]


def __getattr__(name: str) -> object:
    """Say what was meant."""
    raise error_handler.UndefinedParameterError(f"n2d2 has no {name!r}{nearest(name, __all__)}")
