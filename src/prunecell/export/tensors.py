"""Tensors without their model: safetensors, and CSR arrays that numpy and scipy read."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from prunecell.export.subject import state_of
from prunecell.files.contents import contents_of
from prunecell.files.csr_file import write_csr
from prunecell.files.safetensors_file import write_safetensors


def to_safetensors(model_or_state_dict: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write the dense tensors to a safetensors file; tied tensors are in it as often as they have names.

    Raises:
        OptionError: safetensors has no name for a dtype, `compact_` made a layer of the model, or the path has
            the ending of another kind of file.

    >>> import tempfile, torch
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_safetensors({"weight": torch.eye(2)}, f"{folder}/model.safetensors")
    ...     load_file(f"{folder}/model.safetensors")
    {'weight': tensor([[1., 0.],
            [0., 1.]])}
    """
    write_safetensors(contents_of(state_of(model_or_state_dict)), Path(path))


def to_csr(model_or_state_dict: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write a compressed .npz file with the weights in the CSR form of scipy.

    Of a tensor NAME of two or more dimensions, flattened to (shape[0], the rest), it holds

        NAME/data       the non-zero values, row by row
        NAME/indices    the column of each, ascending within a row
        NAME/indptr     (shape[0] + 1,): the values [indptr[r], indptr[r + 1]) are row r's
        NAME/shape      the shape of the tensor

    and every other tensor as it is, under its name. Indices are int32, or int64 where a matrix is too large, as in
    scipy. bfloat16 and float8, which numpy does not have, become float32, which holds them exactly.

    Raises:
        OptionError: `compact_` made a layer of the model, or the path has the ending of another kind of file.

    >>> import tempfile, numpy as np, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_csr({"weight": torch.tensor([[0.0, 3.0], [0.0, 0.0]])}, f"{folder}/model.npz")
    ...     with np.load(f"{folder}/model.npz") as file:
    ...         {name: file[name].tolist() for name in file}
    {'weight/data': [3.0], 'weight/indices': [1], 'weight/indptr': [0, 1, 1], 'weight/shape': [2, 2]}
    """
    write_csr(contents_of(state_of(model_or_state_dict)), Path(path))
