"""Networks of the ONNX model zoo, read from files that are there."""

from pathlib import Path
from typing import Any

from n2d2 import global_variables
from n2d2.cells import DeepNetCell
from n2d2.error_handler import ImplementationError, WrongValue


def load(
    provider: Any,  # noqa: ANN401 - any provider
    family: str,
    name: str,
    path: str | Path | None,
    *,
    download: bool,
) -> DeepNetCell:
    """Read a network from its ONNX file.

    Args:
        provider: what the network reads; it knows the sizes of the stimuli and of the batches.
        family: the folder within `global_variables.model_cache` where N2D2 keeps the file.
        name: of the file there, without its ending.
        path: the file.
        download: read the file that N2D2 would fetch, if it is there.

    Raises:
        ImplementationError: it is not there.
        WrongValue: there is no path, or both are given, or the file cannot be read.
    """
    if path is not None and download:
        raise WrongValue(f"path={str(path)!r} and download=True are illegal together: give path= alone")
    if path is None and not download:
        raise WrongValue(f"path=None is illegal: give the path of {name}.onnx")
    kept = Path(global_variables.model_cache, "ONNX", family, f"{name}.onnx")
    if path is None and not kept.is_file():
        raise ImplementationError(
            f"download=True is refused: nothing is fetched here; get {name} from https://github.com/onnx/models"
            f", and put it at {kept}, or give its path="
        )
    return DeepNetCell.load_from_ONNX(provider, path or kept)
