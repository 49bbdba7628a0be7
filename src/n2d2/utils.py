"""What N2D2 has in n2d2.utils; its scripts take it from there or from n2d2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from n2d2.cells.naming import default_name
from n2d2.config_section import ConfigSection
from n2d2.refusal import Refused
from prunecell.disk.atomic import replacing

__all__ = [
    "ConfigSection",
    "add_docstring",
    "check_types",
    "download",
    "generate_name",
    "inherit_init_docstring",
    "methdispatch",
    "model_logger",
    "template_docstring",
]


def generate_name(obj: object) -> str:
    """A name that no other object of the class has: its class and a number.

    >>> first, second = generate_name(1.5), generate_name(2.5)
    >>> first.startswith("float_"), first != second
    (True, True)
    """
    return default_name(type(obj).__name__)


def model_logger(model: Any, path: str | Path, log_dict: Mapping[str, object] | None = None) -> None:  # noqa: ANN401
    """Write the weights of a network into a folder, and what is told of it into its log.txt, a line each.

    Args:
        model: a cell, or a network.
        path: the folder, which is made.
        log_dict: what is told.
    """
    model.export_free_parameters(path)
    if log_dict:
        with replacing(Path(path) / "log.txt") as file:
            file.write("".join(f"{key}{value}\n" for key, value in log_dict.items()).encode())


download = Refused(
    "nothing is downloaded for a script; fetch the file yourself, or use a database that can download",
    "n2d2.utils.download",
)

_OWN_CODE = "it serves N2D2's own classes; Python's functools and type hints serve yours"

check_types = Refused(_OWN_CODE, "n2d2.utils.check_types")
inherit_init_docstring = Refused(_OWN_CODE, "n2d2.utils.inherit_init_docstring")
add_docstring = Refused(_OWN_CODE, "n2d2.utils.add_docstring")
template_docstring = Refused(_OWN_CODE, "n2d2.utils.template_docstring")
methdispatch = Refused(_OWN_CODE, "n2d2.utils.methdispatch")
