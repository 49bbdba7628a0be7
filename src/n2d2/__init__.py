"""N2D2's names over prunecell: its scripts and INI files run unchanged."""

from n2d2 import activation, cells, error_handler, filler, global_variables, quantizer, solver, target, tensor
from n2d2.config_section import ConfigSection
from n2d2.tensor import Tensor

__all__ = [
    "ConfigSection",
    "Tensor",
    "activation",
    "cells",
    "error_handler",
    "filler",
    "global_variables",
    "quantizer",
    "solver",
    "target",
    "tensor",
]
