"""Tensors without their model: safetensors, and CSR arrays that numpy and scipy read."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecell.archive.container import replacing
from prunecell.export.subject import state_of
from prunecell.files import write_safetensors

Array: TypeAlias = NDArray[Any]

_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def to_safetensors(model_or_state_dict: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write the dense tensors to a safetensors file; tied tensors stand in it as often as they have names.

    Raises:
        OptionError: safetensors has no name for a dtype, or `compact_` made a layer of the model.

    >>> import tempfile
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_safetensors({"weight": torch.eye(2)}, f"{folder}/model.safetensors")
    ...     load_file(f"{folder}/model.safetensors")
    {'weight': tensor([[1., 0.],
            [0., 1.]])}
    """
    write_safetensors(state_of(model_or_state_dict).items(), Path(path))


def to_csr(model_or_state_dict: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write a compressed .npz file with the weights in the CSR form of scipy.

    Of a tensor NAME of two or more dimensions, flattened to (shape[0], the rest), it holds

        NAME/data       the non-zero values, row by row
        NAME/indices    the column of each, ascending within a row
        NAME/indptr     (shape[0] + 1,): the values [indptr[r], indptr[r + 1]) are row r's
        NAME/shape      the shape of the tensor

    and every other tensor as it is, under its name. Indices are int32, or int64 where a matrix is too large, as in
    scipy. bfloat16 and float8, which numpy has not, become float32, which holds them exactly.

    Raises:
        OptionError: `compact_` made a layer of the model.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_csr({"weight": torch.tensor([[0.0, 3.0], [0.0, 0.0]])}, f"{folder}/model.npz")
    ...     with np.load(f"{folder}/model.npz") as file:
    ...         {name: file[name].tolist() for name in file}
    {'weight/data': [3.0], 'weight/indices': [1], 'weight/indptr': [0, 1, 1], 'weight/shape': [2, 2]}
    """
    state = state_of(model_or_state_dict)
    with replacing(Path(path)) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, tensor in state.items():
            for key, array in _arrays(name, tensor):
                member = ZipInfo(f"{key}.npy")  # without the time: the same model makes the same bytes
                member.compress_type = ZIP_DEFLATED
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)


def _arrays(name: str, tensor: Tensor) -> Iterator[tuple[str, Array]]:
    array = _numpy(tensor)
    if array.ndim > 1:
        for part, values in _csr(array).items():
            yield f"{name}/{part}", values
        yield f"{name}/shape", np.array(array.shape)
    else:
        yield name, array


def _numpy(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array


def _csr(array: Array) -> dict[str, Array]:
    """The three arrays of an array of two or more dimensions, seen as a matrix of its first and the rest."""
    n_rows, n_columns = len(array), math.prod(array.shape[1:])
    values = array.reshape(-1)
    kept = np.flatnonzero(values)
    index = np.int32 if max(len(kept), n_columns) <= np.iinfo(np.int32).max else np.int64
    return {
        "data": values[kept],
        "indices": (kept % max(n_columns, 1)).astype(index),
        "indptr": np.searchsorted(kept, np.arange(n_rows + 1) * n_columns).astype(index),
    }
