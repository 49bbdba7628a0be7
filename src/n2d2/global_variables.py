"""N2D2's global settings: `n2d2.global_variables.seed = 1`. Unknown names and illegal values are refused.

default_model: "Frame", or "Frame_CUDA": cells made from now on live on the GPU; a warning says where there is none.
default_datatype: "float", "double" or "half", of the cells made from now on.
seed: in [0, 2^32), seeds torch's generators at once; 0 leaves them as they are. `set_random_seed(seed)` sets it too.
cuda_device: the number of the GPU; `set_cuda_device(device)` sets it too.
verbosity: how much printing a cell shows.
model_cache: the folder where N2D2 keeps the models that it downloads; nothing is downloaded here.
cuda_available, onnx_compiled: whether torch finds a GPU, and whether the library onnx is installed; cannot be set.
json_compiled, n2d2_ip_compiled: True and False; cannot be set.
"""

import sys
from collections.abc import Callable
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from n2d2.checks import check_path
from n2d2.error_handler import (
    ImplementationError,
    WrongInputType,
    WrongValue,
    check_choice,
    n2d2_errors,
    refuse_unknown,
)
from n2d2.refusal import refused_class
from n2d2.warning import warn_caller
from prunecell.checks import check_count, check_seed


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
model_cache: str = str(Path.home() / "MODELS")
cuda_available: bool = torch.cuda.is_available()
json_compiled: bool = True
onnx_compiled: bool = find_spec("onnx") is not None
n2d2_ip_compiled: bool = False
default_net = refused_class(
    "n2d2.global_variables.default_net", "there is no C++ network; n2d2.cells.DeepNetCell holds the cells of one"
)


def device() -> torch.device:
    """Where new cells live: the chosen GPU with Frame_CUDA, if torch finds it; else the CPU."""
    cuda = default_model == "Frame_CUDA" and cuda_available
    return torch.device("cuda", cuda_device) if cuda else torch.device("cpu")


def dtype() -> torch.dtype:
    """The torch type of `default_datatype`."""
    return DATATYPES[default_datatype]


def check_model(name: str, value: object) -> None:
    """Refuse what is none of MODELS; warn of "Frame_CUDA" where torch finds no GPU, at the line that sets it."""
    check_choice(name, value, MODELS)
    if value == "Frame_CUDA" and not cuda_available:
        warn_caller(f"{name}='Frame_CUDA', but torch finds no GPU: cells are made on the CPU")


def _check_device(name: str, value: object) -> None:
    if isinstance(value, list | tuple):
        raise ImplementationError(f"{name}={value!r} is refused: a script trains on one GPU, so give one number")
    check_count(name, value)
    n_devices = torch.cuda.device_count()
    if n_devices and value >= n_devices:  # type: ignore[operator] # a whole number
        raise WrongValue(f"{name}={value!r} is illegal: torch finds {n_devices}, so it must be < {n_devices}")


def _check_verbosity(name: str, value: object) -> None:
    if not isinstance(value, Verbosity):
        legal = ", ".join(f"Verbosity.{one.name}" for one in Verbosity)
        raise WrongInputType(f"{name}={value!r} is illegal: it must be one of {legal} of n2d2.global_variables")


def _check_read_only(name: str, value: object) -> None:
    raise ImplementationError(f"{name}={value!r} is illegal: {name} tells what there is, and cannot be set")


_READ_ONLY = ("cuda_available", "default_net", "json_compiled", "n2d2_ip_compiled", "onnx_compiled")
_CHECKS: dict[str, Callable[[str, object], None]] = {
    "default_model": check_model,
    "default_datatype": lambda name, value: check_choice(name, value, DATATYPES),
    "verbosity": _check_verbosity,
    "seed": lambda _name, value: check_seed(value),
    "cuda_device": _check_device,
    "model_cache": check_path,
    **dict.fromkeys(_READ_ONLY, _check_read_only),
}
_METHODS = {"set_cuda_device": "cuda_device", "set_random_seed": "seed"}
"""Some scripts assign to a method of N2D2's; what they mean is the setting."""


class GlobalVariables(ModuleType):
    """A module whose settings are checked when they are set."""

    Verbosity = Verbosity

    def set_cuda_device(self, device: int) -> None:
        """Set `cuda_device`."""
        self.cuda_device = device

    def set_random_seed(self, seed: int) -> None:
        """Set `seed`."""
        self.seed = seed

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - settings of any type
        name = _METHODS.get(name, name)
        if not name.startswith("_"):
            refuse_unknown("n2d2.global_variables", [name], _CHECKS)
            with n2d2_errors():
                _CHECKS[name](name, value)
            if name == "seed" and value:
                torch.manual_seed(value)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if not name.startswith("_"):
            refuse_unknown("n2d2.global_variables", [name], _CHECKS)
        raise AttributeError(name)

    def __str__(self) -> str:
        told = (f"- {name}: {getattr(self, name)}" for name in _CHECKS if name != "default_net")
        return "\n".join(["n2d2.global_variables", *told])


sys.modules[__name__].__class__ = GlobalVariables
