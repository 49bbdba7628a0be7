"""`-export`: the pruned network in the form that other programs read."""

from collections.abc import Callable, Collection
from pathlib import Path

from n2d2.experiment.experiment import Experiment
from prunecell.archive import save
from prunecell.errors import OptionError, UnknownNameError, nearest
from prunecell.export import to_onnx

EXACT = -32
"""The number of bits of floating point, which N2D2 writes as a negative number."""

PCELL_BITS = {EXACT: "exact", -16: "fp16", 8: "int8", **{bits: f"codebook{bits}" for bits in range(1, 8)}}
"""`-nbbits` -> the values of a .pcell."""


def export_pcell(experiment: Experiment, path: Path, nbbits: int) -> Path:
    """Write `path`.pcell."""
    file = path.with_name(f"{path.name}.pcell")
    save(experiment.model, file, values=PCELL_BITS[nbbits])
    return file


def export_onnx(experiment: Experiment, path: Path, nbbits: int) -> Path:  # noqa: ARG001 - as it is, always
    """Write `path`.onnx, for batches of any size; pruned weights are zeros in it, which any compiler reads."""
    file = path.with_name(f"{path.name}.onnx")
    stimulus = next(experiment.model.parameters()).new_zeros(1, *experiment.provider.shape()[1:])
    to_onnx(experiment.model, stimulus, file, sparse=False)
    return file


EXPORTS: dict[str, tuple[Callable[[Experiment, Path, int], Path], Collection[int]]] = {
    "pcell": (export_pcell, PCELL_BITS),
    "ONNX": (export_onnx, [EXACT]),
}
"""Name -> what writes it, and the numbers of bits that it can have."""

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


def export(experiment: Experiment, name: str, nbbits: int | None, stem: str) -> Path:
    """Write `export_NAME/STEM` with the suffix of its kind, and return it; `check_export` has passed the arguments."""
    path = Path(f"export_{name}") / stem
    path.parent.mkdir(exist_ok=True)
    return EXPORTS[name][0](experiment, path, EXACT if nbbits is None else nbbits)
