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


_ELSEWHERE = {
    "application": "n2d2.target.Score after a Softmax with loss takes the place of its classifiers",
    "export": "prunecell.save writes the pruned network, and the command n2d2 has -export",
}


def __getattr__(name: str) -> object:
    """Say what was meant."""
    if name in _ELSEWHERE:
        raise error_handler.UndefinedParameterError(f"n2d2 has no {name!r}: {_ELSEWHERE[name]}")
    raise error_handler.UndefinedParameterError(f"n2d2 has no {name!r}{nearest(name, __all__)}")
