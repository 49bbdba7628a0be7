"""CSR arrays for numpy and scipy: a compressed `.npz` file."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecell.codecs.dtypes import words_to_store
from prunecell.disk.atomic import replacing
from prunecell.disk.endings import CSR, check_ending
from prunecell.errors import OptionError
from prunecell.files.contents import Contents, tell_left_out
from prunecell.files.nested import names_of

Array: TypeAlias = NDArray[Any]

_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def write_csr(contents: Contents, path: Path) -> None:
    """Write matrices as `prunecell.export.to_csr` says; the metadata have no place in it.

    Raises:
        OptionError: numpy has no numbers for a dtype, or the path has the ending of another kind of file.
    """
    check_ending(path, CSR)
    state = contents.state()
    tell_left_out(path, names_of(contents.metadata))
    with replacing(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, tensor in state.items():
            for key, array in _arrays(name, tensor):
                member = ZipInfo(f"{key}.npy")  # without the time: the same model makes the same bytes
                member.compress_type = ZIP_DEFLATED
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)


def _arrays(name: str, tensor: Tensor) -> Iterator[tuple[str, Array]]:
    array = _numpy(name, tensor)
    if array.ndim > 1:
        for key, values in _csr(array).items():
            yield f"{name}/{key}", values
        yield f"{name}/shape", np.array(array.shape)
    else:
        yield name, array


def _numpy(name: str, tensor: Tensor) -> Array:
    if tensor.dtype == torch.bool:
        return words_to_store(tensor).view(np.bool_).reshape(tensor.shape)
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        try:
            tensor = tensor.float()
        except NotImplementedError:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise OptionError(f"{name!r} is of {kind}, which a '.npz' file cannot hold; a '.pt' file can") from None
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
