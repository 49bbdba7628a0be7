"""`.syntxt` files: weights, biases, masks and batch statistics as N2D2 writes them into its `weights/` folder.

    <cell>_weights.syntxt      one line per output: its kernels, channel by channel; unconnected kernels are left out
    <cell>_masks.syntxt        for each input of the cell, one line per output: 1 keeps, 0 prunes
    <cell>_biases.syntxt       one per line; so are a BatchNorm's _scales, _biases, _means, _variances

A pruned weight is written as the zero that it is (N2D2 writes what it was before pruning). Values have as many digits
as it takes to read back the same bits. N2D2 reads the masks of the first input only and checks no lengths; here every
line and value is checked.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from n2d2.warning import warn_caller
from prunecell.disk.atomic import replacing
from prunecell.errors import FormatError

MAX_VALUE_LENGTH = 40
"""Characters of one value with its space: no line of a file is read beyond what its values can need."""


def write_weights(path: Path, weight: Tensor, connections: Tensor | None = None) -> None:
    """Write weights (out, ...) of any float dtype; `connections`, bool of the same shape, says which there are."""
    rows = weight.detach().cpu().flatten(1)
    there = None if connections is None else connections.flatten(1)
    _write_rows(path, (row if there is None else row[there[i]] for i, row in enumerate(rows)))


def read_weights(
    path: Path, shape: Sequence[int], connections: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Read weights of this shape; unconnected ones are zero.

    Raises:
        FormatError: no such file, too few or too many lines or values, or a value that is no finite number.
    """
    rows = torch.zeros(shape[0], math.prod(shape[1:]), dtype=dtype)
    there = torch.ones_like(rows, dtype=torch.bool) if connections is None else connections.flatten(1)
    for i, values in enumerate(_read_rows(path, there.sum(1).tolist(), dtype)):
        rows[i, there[i]] = values
    return rows.view(*shape)


def write_biases(path: Path, biases: Tensor) -> None:
    """Write a vector of any float dtype, one value per line: biases, scales, means, variances."""
    _write_rows(path, biases.detach()[:, None])


def read_biases(path: Path, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Read a vector of n values.

    Raises:
        FormatError: as `read_weights`.
    """
    return torch.cat([torch.empty(0, dtype=dtype), *_read_rows(path, [1] * n, dtype)])


def write_masks(path: Path, mask: Tensor, inputs: Sequence[int] | None = None) -> None:
    """Write a bool mask (out, channels, ...), True keeps.

    Args:
        path: the file.
        mask: the mask.
        inputs: how many of the channels each input of the cell brings; by default one input brings all.
    """
    _write_rows(
        path, (row for part in torch.split(mask, _parts(mask.shape, inputs), 1) for row in part.flatten(1).int())
    )


def read_masks(path: Path, shape: Sequence[int], inputs: Sequence[int] | None = None) -> Tensor:
    """Read a bool mask of this shape, from the lines of all inputs; see `write_masks`.

    Raises:
        FormatError: as `read_weights`, or a value that is neither 0 nor 1.
    """
    parts = [(shape[0], n, *shape[2:]) for n in _parts(shape, inputs)]
    rows = _read_rows(path, [math.prod(part[1:]) for part in parts for _ in range(part[0])], torch.bool)
    return torch.cat([torch.stack([next(rows) for _ in range(part[0])]).view(part) for part in parts], 1)


def save_weights(
    cells: Iterable[Any],
    folder: str | Path,
    inputs: Mapping[str, Sequence[int]] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the parameters and masks of cells into a folder, which is made.

    Args:
        cells: cells of `n2d2.cells`; those without parameters are passed over.
        folder: where to; a `/` in a cell's name is a folder below it, as in N2D2.
        inputs: cell name -> how many channels each of its inputs brings, for cells with several.
        masks: cell name -> bool mask of its weight; by default those of the PruneCells that are on cells.
    """
    for cell in cells:
        for kind, tensor in _tensors(cell).items():
            path = _path(folder, cell.name, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "weights":
                write_weights(path, _turned(tensor, cell.layer), _connections(cell))
            else:
                write_biases(path, tensor)
        mask = _mask(cell) if masks is None else masks.get(cell.name)
        if mask is None:
            _path(folder, cell.name, "masks").unlink(missing_ok=True)  # of an older run: it would be read again
        else:
            write_masks(_path(folder, cell.name, "masks"), _turned(mask, cell.layer), (inputs or {}).get(cell.name))


def load_weights(
    cells: Iterable[Any],
    folder: str | Path,
    inputs: Mapping[str, Sequence[int]] | None = None,
    *,
    masked: Container[str] | None = None,
    ignore_missing: bool = False,
) -> dict[str, Tensor]:
    """Read what `save_weights`, or N2D2, wrote. Nothing is changed before all files of all cells are read.

    A cell with a PruneCell gets its masks, and the fraction that they prune is its current threshold. Without a
    PruneCell too, weights are zero where a mask says so.

    Args:
        cells: the cells to fill.
        folder: where from.
        inputs: as for `save_weights`.
        masked: names of the cells that must have masks; by default those with a PruneCell.
        ignore_missing: cells without files stay as they are, with a warning; a PruneCell whose masks are not there
            fills them on the new weights.

    Returns:
        Cell name -> the bool mask of its weight that was there.

    Raises:
        FormatError: as `read_weights`.
    """
    read: list[tuple[Any, _Read]] = []
    if not Path(folder).is_dir() and not ignore_missing:
        raise FormatError(f"{folder}: it is no folder" if Path(folder).exists() else f"there is no folder {folder}")
    for cell in cells:
        tensors = _tensors(cell)
        files = [_path(folder, cell.name, kind) for kind in tensors]
        if ignore_missing and files and not any(file.exists() for file in files):
            warn_caller(f"{files[0]} is not there: cell {cell.name!r} keeps its weights")
        else:
            found = _read_cell(cell, tensors, Path(folder), (inputs or {}).get(cell.name))
            needed = cell.quantizer is not None if masked is None else cell.name in masked
            if needed and found.has_weights and found.mask is None and not ignore_missing:
                raise FormatError(
                    f"{_path(folder, cell.name, 'masks')}: there is no such file, and cell {cell.name!r} is pruned"
                    "; with ignore_not_exists=True (-w-ignore) its masks are filled on the weights that are read"
                )
            read.append((cell, found))
    for cell, found in read:
        _put(cell, found)
    return {cell.name: found.mask for cell, found in read if found.mask is not None}


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What the files of a cell hold: pairs of a tensor of the cell and its new values; the mask of its weight."""

    pairs: list[tuple[Tensor, Tensor]]
    mask: Tensor | None
    has_weights: bool


def _tensors(cell: Any) -> dict[str, Tensor]:  # noqa: ANN401 - any cell
    """The word in a file's name -> the tensor; nothing, with a warning, where N2D2 has no file for a cell."""
    layer = getattr(cell, "layer", None)
    found: dict[str, Tensor | None] = {}
    if isinstance(layer, _BatchNorm):
        found = {
            "scales": layer.weight,
            "biases": layer.bias,
            "means": layer.running_mean,
            "variances": layer.running_var,
        }
    elif isinstance(layer, _ConvNd | nn.Linear):
        found = {"weights": layer.weight, "biases": layer.bias}
    elif any(True for _ in cell.parameters()):
        warn_caller(f"cell {cell.name!r} is left out: N2D2 has no file for its weights")
    return {kind: tensor.detach() for kind, tensor in found.items() if tensor is not None}


def _mask(cell: Any) -> Tensor | None:  # noqa: ANN401
    return None if cell.quantizer is None else cell.quantizer.get_pruned_masks().to_torch().bool()


def _connections(cell: Any) -> Tensor | None:  # noqa: ANN401
    there: Tensor | None = getattr(cell, "connections", None)
    return there if there is None else _turned(there.cpu(), cell.layer)


def _turned(weight: Tensor, layer: nn.Module) -> Tensor:
    """A weight with outputs first, or back: torch has a transposed convolution's the other way round."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    return weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def _read_cell(
    cell: Any,  # noqa: ANN401 - any cell
    tensors: Mapping[str, Tensor],
    folder: Path,
    inputs: Sequence[int] | None,
) -> _Read:
    """Read the files of one cell."""
    vectors = {kind: vector for kind, vector in tensors.items() if kind != "weights"}
    read = {kind: read_biases(_path(folder, cell.name, kind), len(v), v.dtype) for kind, v in vectors.items()}
    mask = None
    if "weights" in tensors:
        shape, dtype = _turned(tensors["weights"], cell.layer).shape, tensors["weights"].dtype
        weights = read_weights(_path(folder, cell.name, "weights"), shape, _connections(cell), dtype)
        masks = _path(folder, cell.name, "masks")
        if masks.exists():
            mask = read_masks(masks, shape, inputs)
            weights.masked_fill_(~mask, 0)
            mask = _turned(mask, cell.layer)
        read["weights"] = _turned(weights, cell.layer)
    pairs = [(tensor, read[kind]) for kind, tensor in tensors.items()]
    return _Read(pairs=pairs, mask=mask, has_weights="weights" in tensors)


@torch.no_grad()
def _put(cell: Any, found: _Read) -> None:  # noqa: ANN401 - any cell
    """Give a cell what its files hold."""
    masked = found.mask is not None and cell.quantizer is not None
    if masked:
        cell.quantizer.release()
    for tensor, values in found.pairs:
        tensor.copy_(values)
    if found.has_weights:
        cell.refill()
    if masked:
        cell.quantizer.take_mask(found.mask)


def has_masks(folder: str | Path, cells: Iterable[str]) -> bool:
    """Whether one of these cells has masks in a folder."""
    return any(_path(folder, cell, "masks").exists() for cell in cells)


def _path(folder: str | Path, cell: str, kind: str) -> Path:
    root = Path(folder).resolve()
    path = root / f"{cell}_{kind}.syntxt"
    if not path.resolve().is_relative_to(root):
        raise FormatError(f"cell {cell!r} is illegal as a file's name: it leads out of {root}")
    return path


def _parts(shape: Sequence[int], inputs: Sequence[int] | None) -> list[int]:
    """How many columns of dimension 1 each input has; of an Fc a channel has as many as a feature map has values."""
    n = shape[1]
    given = list(inputs or [n])
    size = n // sum(given)
    if sum(given) * size != n:
        raise FormatError(f"inputs={given} is illegal: these channels do not make up the {n} of {tuple(shape)}")
    return [count * size for count in given]


def _write_rows(path: Path, rows: Iterable[Tensor]) -> None:
    with replacing(path, sync=False) as file:  # a folder of small files: one wait for the disk each would take long
        for row in rows:
            digits = "%d " if not row.is_floating_point() else "%.17g " if row.dtype == torch.float64 else "%.9g "
            file.write((digits * len(row) % tuple(row.tolist()) + "\n").encode())


def _read_rows(path: Path, lengths: Sequence[int], dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield a vector of each length, from the lines that are not empty."""
    if not path.is_file():
        raise FormatError(f"{path}: there is no such file")
    try:
        file = path.open(encoding="ascii", errors="replace")
    except OSError as error:
        raise FormatError(f"{path}: it cannot be read: {error.strerror}") from None
    with file:
        number = 0
        for length in [*lengths, 0]:
            line = "\n"
            while line and not line.strip():
                line = file.readline(MAX_VALUE_LENGTH * (length + 1))
                number += 1
            words = line.split()
            where = f"{path}:{number}"
            if len(words) != length:
                raise FormatError(f"{where}: {len(words)} values where there must be {length}, in {len(lengths)} lines")
            if length:
                yield _values(words, dtype, where)


def _values(words: Sequence[str], dtype: torch.dtype, where: str) -> Tensor:
    try:
        values = torch.from_numpy(np.array(words, dtype=np.float64))
        legal = (values == 0) | (values == 1) if dtype == torch.bool else values.to(dtype).isfinite()
    except ValueError:
        legal = torch.tensor([_is_number(word) for word in words])
    if not legal.all():
        must = "0 or 1" if dtype == torch.bool else f"a finite number of {dtype}"
        bad = words[int(legal.int().argmin())]
        raise FormatError(f"{where}: {bad[:MAX_VALUE_LENGTH]!r} is illegal: it must be {must}")
    return values.to(dtype)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
