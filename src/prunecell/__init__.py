"""Pruning that really makes a PyTorch model smaller: on disk, in memory, and in time on a CPU.

A public name is imported from its module when it is first used, so that the command line starts without torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunecell.allocation import global_ranking, uniform
    from prunecell.archive import Archive, load, save
    from prunecell.errors import PrunecellError
    from prunecell.files import pack, unpack
    from prunecell.fillers import IterNonStruct, KeepZeros, Lowest, NofM, Random
    from prunecell.plan import Plan, PruneSpec
    from prunecell.pruning import Pruner
    from prunecell.quantization import IntSpec, Quantizer, RateSpec
    from prunecell.schedules import Cubic, Gradual, Static
    from prunecell.sharing import share_
    from prunecell.sparse import compact_, compact_report, meta_weights, tune_runtime
    from prunecell.structured import load_model
    from prunecell.training import Checkpoint, Task, evaluate, fit
    from prunecell.tuning import default_plan, sensitivity, tune

    __version__: str

__all__ = [
    "Archive",
    "Checkpoint",
    "Cubic",
    "Gradual",
    "IntSpec",
    "IterNonStruct",
    "KeepZeros",
    "Lowest",
    "NofM",
    "Plan",
    "PruneSpec",
    "PrunecellError",
    "Pruner",
    "Quantizer",
    "Random",
    "RateSpec",
    "Static",
    "Task",
    "compact_",
    "compact_report",
    "default_plan",
    "evaluate",
    "fit",
    "global_ranking",
    "load",
    "load_model",
    "meta_weights",
    "pack",
    "save",
    "sensitivity",
    "share_",
    "tune",
    "tune_runtime",
    "uniform",
    "unpack",
]

_MODULES = {
    "Archive": "archive",
    "Checkpoint": "training",
    "Cubic": "schedules",
    "Gradual": "schedules",
    "IntSpec": "quantization",
    "IterNonStruct": "fillers",
    "KeepZeros": "fillers",
    "Lowest": "fillers",
    "NofM": "fillers",
    "Plan": "plan",
    "PruneSpec": "plan",
    "PrunecellError": "errors",
    "Pruner": "pruning",
    "Quantizer": "quantization",
    "Random": "fillers",
    "RateSpec": "quantization",
    "Static": "schedules",
    "Task": "training",
    "compact_": "sparse",
    "compact_report": "sparse",
    "default_plan": "tuning",
    "evaluate": "training",
    "fit": "training",
    "global_ranking": "allocation",
    "load": "archive",
    "load_model": "structured",
    "meta_weights": "sparse",
    "pack": "files",
    "save": "archive",
    "sensitivity": "tuning",
    "share_": "sharing",
    "tune": "tuning",
    "tune_runtime": "sparse",
    "uniform": "allocation",
    "unpack": "files",
}
"""Public name -> the module of this package that defines it."""


if not TYPE_CHECKING:  # a type checker then finds names that are not there

    def __getattr__(name: str) -> object:
        """Import what is asked for: a public name from its module, a module of this package, or `__version__`.

        Raises:
            AttributeError: it is neither; the nearest public name is offered.
        """
        if name in _MODULES:
            found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
            globals()[name] = found  # the next use does not come here
            return found
        if name == "__version__":
            return _installed_version()
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        from prunecell.errors import nearest  # noqa: PLC0415 - only a mistake needs it

        raise AttributeError(f"prunecell has no {name!r}{nearest(name, __all__)}")

    def _installed_version() -> str:
        """The version that is installed, which pyproject.toml says."""
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - few ask

        try:
            return version(__name__)
        except PackageNotFoundError:
            raise AttributeError("prunecell has no __version__: it is not installed, only imported") from None


def __dir__() -> list[str]:
    """The public names."""
    return __all__
