"""Networks of the ONNX model zoo, read from files that are there."""

from pathlib import Path
from typing import Any

from n2d2.cells import DeepNetCell
from n2d2.error_handler import ImplementationError, WrongValue


def load(provider: Any, name: str, path: str | Path | None, *, download: bool) -> DeepNetCell:  # noqa: ANN401 - any provider
    """Read a network from its ONNX file.

    Args:
        provider: what the network reads; it knows the sizes of the stimuli and of the batches.
        name: of the network, for messages.
        path: the file.
        download: N2D2 would fetch the file.

    Raises:
        ImplementationError: it is to be downloaded.
        WrongValue: there is no path, or both are given, or the file cannot be read.
    """
    if path is not None and download:
        raise WrongValue(f"path={str(path)!r} and download=True are illegal together: give path= alone")
    if download:
        raise ImplementationError(
            f"download=True is refused: nothing is fetched here; get {name} from https://github.com/onnx/models"
            ", and give its path="
        )
    if path is None:
        raise WrongValue(f"path=None is illegal: give the path of the ONNX file of {name}")
    return DeepNetCell.load_from_ONNX(provider, path)
