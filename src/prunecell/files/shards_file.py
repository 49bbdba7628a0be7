"""A checkpoint in several files, shards, with an index beside them: JSON that says which file holds which tensor."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.json_text import read_json
from prunecell.archive.saving import tied
from prunecell.disk.endings import ENDINGS, INDEX
from prunecell.disk.foreign import mistaken
from prunecell.errors import FormatError, quoted
from prunecell.files.contents import Contents
from prunecell.files.safetensors_file import tensors_of
from prunecell.files.torch_file import read_torch

INDEX_ENDINGS = ENDINGS[INDEX]
"""Of indices of shards: of safetensors, and of torch."""


def read_shards(path: Path) -> Contents:
    """Open the index of a model in several files, which must be in the folder of the index.

    Raises:
        FormatError: the index is damaged, or a file is missing.
    """
    return Contents(items=_sharded(path, _weight_map(path)))


def files_of(path: Path) -> list[Path]:
    """The files that hold what a file of tensors gives: its shards and itself if it is an index, else itself.

    Raises:
        FormatError: the index is damaged, or a file is missing.
    """
    if not path.name.endswith(INDEX_ENDINGS):
        return [path]
    return [path, *(path.with_name(shard) for shard in dict.fromkeys(_weight_map(path).values()))]


def index_of(shard: Path) -> Path | None:
    """The index beside a file that says that the file is one shard of several; None where there is none."""
    beside = sorted(shard.parent.iterdir()) if os.access(shard.parent, os.R_OK) else []
    for index in beside:
        if index.name.endswith(INDEX_ENDINGS) and index != shard:
            try:
                shards = set(_weight_map(index).values())
            except (FormatError, OSError):
                continue  # it is not the file that was asked for
            if shard.name in shards and len(shards) > 1:
                return index
    return None


def _weight_map(path: Path) -> dict[str, str]:
    """Name of tensor -> name of the file beside the index that holds it."""
    if else_ := mistaken(path, INDEX):
        raise FormatError(f"{path}: {else_}")
    try:
        where = read_json(path.read_bytes()).get("weight_map")
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise FormatError(f"{path}: its weight_map must map names of tensors to names of files")
    for shard in sorted(set(where.values())):
        if not shard or Path(shard).name != shard or not os.path.isfile(path.parent / shard):  # noqa: PTH113 - raises nothing
            raise FormatError(f"{path}: there is no file {quoted(shard)} beside it")
    return {name: str(shard) for name, shard in where.items()}


def _sharded(path: Path, where: Mapping[str, str]) -> Iterator[tuple[str, Tensor | Alias]]:
    by_shard = sorted(where, key=where.__getitem__)  # the sort is stable: one shard is open, its names in their order
    for shard, names in groupby(by_shard, key=where.__getitem__):
        yield from _of_shard(path.with_name(shard), list(names))


def _of_shard(shard: Path, names: Sequence[str]) -> Iterator[tuple[str, Tensor | Alias]]:
    if shard.name.endswith(".safetensors"):
        yield from tensors_of(shard, names)
        return
    state = read_torch(shard).state()
    for name in names:
        if name not in state:
            raise FormatError(f"{shard}: it lacks the tensor {quoted(name)}, which the index says is in it")
    yield from tied({name: state[name] for name in names})
