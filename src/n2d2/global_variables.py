"""N2D2's global settings: `n2d2.global_variables.seed = 1`. Unknown names and illegal values are refused.

default_model: "Frame", or "Frame_CUDA": cells made from now on live on the GPU where torch finds one.
default_datatype: "float", "double" or "half", of the cells made from now on.
seed: seeds torch's generators at once; 0 leaves them as they are.
cuda_available: whether torch finds a GPU; cannot be set.
"""

import sys
from collections.abc import Callable
from enum import Enum
from types import ModuleType

import torch

from n2d2.error_handler import check_choice, n2d2_errors, refuse_unknown
from prunecell.errors import OptionTypeError, check_count


class Verbosity(Enum):
    """How much printing a cell shows."""

    graph_only = 0
    short = 1
    detailed = 2


DATATYPES = {"float": torch.float32, "double": torch.float64, "half": torch.float16}
MODELS = ("Frame", "Frame_CUDA")

default_model: str = "Frame"
default_datatype: str = "float"
verbosity: Verbosity = Verbosity.detailed
seed: int = 0
cuda_device: int = 0
cuda_available: bool = torch.cuda.is_available()


def device() -> torch.device:
    """Where new cells live: the chosen GPU with Frame_CUDA, if torch finds it; else the CPU."""
    cuda = default_model == "Frame_CUDA" and cuda_available
    return torch.device("cuda", cuda_device) if cuda else torch.device("cpu")


def dtype() -> torch.dtype:
    """The torch type of `default_datatype`."""
    return DATATYPES[default_datatype]


def _check_verbosity(name: str, value: object) -> None:
    if not isinstance(value, Verbosity):
        raise OptionTypeError(f"{name}={value!r} is illegal: it must be a global_variables.Verbosity")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "default_model": lambda name, value: check_choice(name, value, MODELS),
    "default_datatype": lambda name, value: check_choice(name, value, DATATYPES),
    "verbosity": _check_verbosity,
    "seed": check_count,
    "cuda_device": check_count,
    "set_cuda_device": check_count,
}


class _Checked(ModuleType):
    """A module whose settings are checked when they are set."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            refuse_unknown("n2d2.global_variables", [name], _CHECKS)
            with n2d2_errors():
                _CHECKS[name](name, value)
            if name == "seed" and value:
                torch.manual_seed(value)
        super().__setattr__("cuda_device" if name == "set_cuda_device" else name, value)


sys.modules[__name__].__class__ = _Checked
