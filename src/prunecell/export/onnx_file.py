"""ONNX: dense, or with sparse initializers where these are smaller."""

import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from prunecell.disk.atomic import replacing
from prunecell.disk.endings import ONNX, check_ending
from prunecell.errors import OptionError
from prunecell.export.subject import Example, arguments, counts_samples, evaluating, refuse_compact

MAX_BYTES = (1 << 31) - 1  # of one protocol buffer


def to_onnx(model: nn.Module, example: Example, path: str | Path, *, sparse: bool = True) -> None:
    """Write an ONNX file for batches of any size. Pruned weights are zeros in it, or absent if it is sparse.

    Inputs are called "input", or "input_0", "input_1" ...; outputs likewise. Normalisations are folded into the
    convolutions before them. The network passes ONNX's checker before it is written.

    Args:
        model: any that torch's TorchScript exporter takes; exported as it is in evaluation mode.
        example: what it is called with; the first dimension counts samples.
        path: where; an existing file is replaced.
        sparse: write a weight of two or more dimensions as a sparse initializer where that takes fewer bytes, in
            float32 below a density of about 57 %. ONNX Runtime makes it dense when it loads the file: the file is
            smaller, not the model in memory. False: for programs that read no sparse initializers.

    Raises:
        OptionError: the path has the ending of another kind of file, the package onnx is missing,
            the model is larger than 2 GiB, or `compact_` made a layer of it.
        OptionTypeError: the example is neither a tensor nor a tuple of tensors.
    """
    try:
        from prunecell.export.sparse_onnx import checked  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise OptionError("ONNX files need the library onnx: pip install 'prunecell[onnx]'") from None
    check_ending(Path(path), ONNX)
    refuse_compact(model)
    _check_size(model)
    network = checked(_traced(model, arguments(example)), sparse=sparse)
    with replacing(Path(path)) as file:
        file.write(network)


def _check_size(model: nn.Module) -> None:
    n_bytes = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    if n_bytes > MAX_BYTES:
        raise OptionError(f"a model of {n_bytes:,} bytes is too large for an ONNX file: at most {MAX_BYTES:,}")


def _traced(model: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    """The dense model as a protocol buffer."""
    with tempfile.TemporaryDirectory() as folder, evaluating(model):
        file = Path(folder) / "model.onnx"
        named = _named("input", inputs) | _named("output", _tensors(model(*inputs)))
        torch.onnx.export(
            model,
            inputs,
            str(file),
            input_names=[name for name in named if name.startswith("input")],
            output_names=[name for name in named if name.startswith("output")],
            dynamic_axes={name: {0: "batch"} for name, tensor in named.items() if counts_samples(tensor, inputs)},
            dynamo=False,  # the newer exporter needs another library
        )
        return file.read_bytes()


def _tensors(outputs: object) -> list[Tensor]:
    return [leaf for leaf in _leaves(outputs) if isinstance(leaf, Tensor)]


def _named(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name: tensors[0]} if len(tensors) == 1 else {f"{name}_{i}": tensor for i, tensor in enumerate(tensors)}


def _leaves(returned: object) -> list[object]:
    """The tensors of what a model returned, in the order in which torch's exporter flattens it."""
    if isinstance(returned, Mapping):
        return [leaf for item in returned.values() for leaf in _leaves(item)]
    if isinstance(returned, list | tuple):
        return [leaf for item in returned for leaf in _leaves(item)]
    return [returned]
