"""A model and its data from a Python file, for the command line: what the file calls `model`, `train`, `validation`."""

import inspect
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from prunecell.errors import OptionError, nearest, quoted

NEEDED, BESIDE, VALUES = ("model", "train"), ("validation",), ("loss", "metric", "optimizer", "strategies")
"""Names that the file must define; that it may; and that it may, whose values are taken as they are."""


def of_file(path: Path) -> dict[str, Any]:
    """Run a Python file and return what it defines for a search: arguments of `tune`, by name, but for those of None.

    What it calls `model`, `train` and `validation` may be the thing itself, or a function without arguments that
    returns it. The file may import what lies beside it, as under `python FILE`. Code under `if __name__ == "__main__"`
    does not run.

    Raises:
        OptionError: the file lacks one of them, or calls something else so.
        OSError: it cannot be read.
    """
    path.open("rb").close()
    if path.suffix != ".py":
        raise OptionError(f"{path}: it must be a Python file that defines model and train: its name must end in .py")
    sys.path.insert(0, str(path.parent.absolute()))
    defined = runpy.run_path(str(path), run_name="tune")
    for name in NEEDED:
        if name not in defined:
            own = [one for one in defined if not one.startswith("_")]
            raise OptionError(
                f"{path} defines no {name}: it must define model, a torch.nn.Module, and train, a loader"
                f"{nearest(name, own) if own else ''}"
            )
    made = {name: _made(name, defined[name], path) for name in (*NEEDED, *BESIDE) if name in defined}
    return made | _values(defined)


def _values(defined: Mapping[str, Any]) -> dict[str, Any]:
    return {name: defined[name] for name in VALUES if defined.get(name) is not None}


def _made(name: str, value: object, path: Path) -> object:
    """The thing itself, of a function what it returns."""
    if isinstance(value, nn.Module) or not callable(value):
        return value
    needed = [p for p in inspect.signature(value).parameters.values() if p.default is p.empty and p.kind < 2]  # noqa: PLR2004
    if needed:
        raise OptionError(
            f"{path}: {name} is {quoted(value)}, which takes {needed[0].name}: it must be the thing itself, or a"
            " function without arguments that returns it"
        )
    return value()
