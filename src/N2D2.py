"""N2D2's C++ objects, refused by name: there are none behind `n2d2`, whose cells are modules of torch.

A script may import it; each use of one of its names says what to use instead.
"""

import re

from n2d2.error_handler import UndefinedParameterError
from n2d2.refusal import refused_class

_INSTEAD = (
    (r"(Cuda|Base)?Tensor.*", "n2d2.Tensor"),
    (r"DeepNet.*|Network|INI.*", "n2d2.cells.DeepNetCell, whose load_from_INI and load_from_ONNX read networks"),
    (r"Drawer|DrawNet", "summary() of a network"),
    (r"\w*Database\w*|StimuliData|Stimuli", "n2d2.database"),
    (r"\w*Provider\w*", "n2d2.provider.DataProvider"),
    (r"\w*Transformation\w*", "n2d2.transform"),
    (r"\w*Solver\w*", "n2d2.solver"),
    (r"\w*Filler\w*", "n2d2.filler"),
    (r"\w*Target\w*", "n2d2.target.Score"),
    (r"\w*(Quantizer|Prune)\w*", "n2d2.quantizer.PruneCell"),
    (r"\w*Activation\w*", "n2d2.activation"),
    (r"\w*Cell\w*", "n2d2.cells"),
    (r"\w*Export\w*|Options|\w*Scaling\w*", "prunecell.save, or the command n2d2 with -export"),
)
"""Patterns of names, the first that fits counts, and what to use instead."""


def __getattr__(name: str) -> type:
    """A class that refuses, under the name of any class or function of N2D2's."""
    use = next((use for pattern, use in _INSTEAD if re.fullmatch(pattern, name)), "the package n2d2")
    instead = f"there are no C++ objects here; use {use}"
    if name.islower():  # a flag of N2D2's, or what a tool asks any module for
        raise UndefinedParameterError(f"N2D2.{name} is refused: {instead}")
    return refused_class(f"N2D2.{name}", instead)
