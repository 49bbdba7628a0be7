"""N2D2's names over prunecell: its scripts and INI files run unchanged.

A module is imported when it is first used, so that the command line starts without torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prunecell.errors import nearest

if TYPE_CHECKING:
    from n2d2 import (
        activation,
        application,
        cells,
        converter,
        database,
        deepnet,
        error_handler,
        export,
        filler,
        global_variables,
        mapping,
        models,
        n2d2_interface,
        provider,
        quantizer,
        scaling,
        solver,
        target,
        tensor,
        transform,
        typed,
        utils,
    )
    from n2d2.config_section import ConfigSection
    from n2d2.tensor import Interface, Tensor
    from n2d2.utils import (
        add_docstring,
        check_types,
        download,
        generate_name,
        inherit_init_docstring,
        methdispatch,
        model_logger,
        template_docstring,
    )

__all__ = [
    "ConfigSection",
    "Interface",
    "Tensor",
    "activation",
    "add_docstring",
    "application",
    "cells",
    "check_types",
    "converter",
    "database",
    "deepnet",
    "download",
    "error_handler",
    "export",
    "filler",
    "generate_name",
    "global_variables",
    "inherit_init_docstring",
    "mapping",
    "methdispatch",
    "model_logger",
    "models",
    "n2d2_interface",
    "provider",
    "quantizer",
    "scaling",
    "solver",
    "target",
    "template_docstring",
    "tensor",
    "transform",
    "typed",
    "utils",
]

_CLASSES = {
    "ConfigSection": "config_section",
    "Interface": "tensor",
    "Tensor": "tensor",
    **dict.fromkeys(("check_types", "download", "generate_name", "inherit_init_docstring"), "utils"),
    **dict.fromkeys(("add_docstring", "methdispatch", "model_logger", "template_docstring"), "utils"),
}
"""Public name of a class or function -> the module of this package that defines it."""


def __getattr__(name: str) -> object:
    """Import what is asked for, or say what was meant."""
    if name in _CLASSES:
        found = getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
        globals()[name] = found  # the next use does not come here
        return found
    if name in __all__ or (name[:1] != "_" and find_spec(f"{__name__}.{name}")):
        return import_module(f"{__name__}.{name}")
    from n2d2.error_handler import UndefinedParameterError  # noqa: PLC0415 - only a mistake needs it

    raise UndefinedParameterError(f"n2d2 has no {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__
