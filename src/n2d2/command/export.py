"""`-export`: the pruned network in the form that other programs read."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import prunecell
from prunecell.errors import OptionError, UnknownNameError, nearest

if TYPE_CHECKING:
    import prunecell.export
    from n2d2.experiment.experiment import Experiment

EXACT = -32
"""The number of bits of floating point, which N2D2 writes as a negative number."""

PCELL_BITS = {EXACT: "exact", -16: "fp16", 8: "int8", **{bits: f"codebook{bits}" for bits in range(1, 8)}}
"""`-nbbits` -> the values of a .pcell."""


def export_pcell(experiment: "Experiment", file: Path, nbbits: int) -> None:
    """Write a .pcell file."""
    prunecell.save(experiment.model, file, values=PCELL_BITS[nbbits])


def export_onnx(experiment: "Experiment", file: Path, nbbits: int) -> None:  # noqa: ARG001 - as it is, always
    """Write an ONNX file, for batches of any size; pruned weights are zeros in it, which any compiler reads."""
    stimulus = next(experiment.model.parameters()).new_zeros(1, *experiment.provider.shape()[1:])
    prunecell.export.to_onnx(experiment.model, stimulus, file, sparse=False)


EXPORTS: dict[str, tuple[Callable[["Experiment", Path, int], None], Collection[int], str]] = {
    "pcell": (export_pcell, PCELL_BITS, ".pcell"),
    "ONNX": (export_onnx, [EXACT], ".onnx"),
}
"""Name -> what writes it, the numbers of bits that it can have, and the ending of the file."""

_ONNX = "use -export ONNX, which compilers for such targets take, or -export pcell"
REFUSED_EXPORTS = {
    **dict.fromkeys(("C", "C_HLS", "CPP", "CPP_ASMP", "CPP_HLS", "CPP_OpenCL", "CPP_STM32", "CPP_TensorRT"), _ONNX),
    **dict.fromkeys(("CPP_Quantization", "CPP_cuDNN", "DNeuro", "DNeuro_V2", "N2D2", "Python", "TensorRT"), _ONNX),
    "SC_Spike": "spikes have no meaning here",
}


def check_export(name: str, nbbits: int | None) -> None:
    """Refuse what cannot be written, with what to use instead."""
    if name in REFUSED_EXPORTS:
        raise OptionError(f"-export {name} is refused: {REFUSED_EXPORTS[name]}")
    if name not in EXPORTS:
        raise UnknownNameError(f"-export {name} is unknown{nearest(name, EXPORTS)}")
    legal = EXPORTS[name][1]
    if nbbits is not None and nbbits not in legal:
        raise OptionError(f"-nbbits {nbbits} is illegal with -export {name}; legal: {', '.join(map(str, legal))}")


def exported_to(name: str, stem: str) -> Path:
    """The file of an export: `export_NAME/STEM` with the ending of its kind."""
    return Path(f"export_{name}") / f"{stem}{EXPORTS[name][2]}"


def export(experiment: "Experiment", name: str, nbbits: int | None, stem: str) -> Path:
    """Write `exported_to(name, stem)`, and return it; `check_export` has passed the arguments."""
    file = exported_to(name, stem)
    file.parent.mkdir(exist_ok=True)
    EXPORTS[name][0](experiment, file, EXACT if nbbits is None else nbbits)
    return file
