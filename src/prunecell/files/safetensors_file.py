"""Safetensors: one file, or shards with an index beside them. https://github.com/huggingface/safetensors."""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.container import read_json, writing
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.errors import FormatError, OptionError
from prunecell.files.contents import Contents
from prunecell.foreign import ENDINGS, INDEX, SAFETENSORS, mistaken


def read_safetensors(path: Path) -> Contents:
    """Open one file.

    Raises:
        FormatError: it is damaged.
    """
    if else_ := mistaken(path, SAFETENSORS):
        raise FormatError(f"{path}: {else_}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None
    return Contents(items=_tensors(path, names), metadata=metadata)


def _tensors(path: Path, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None


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
    if not path.name.endswith(ENDINGS[INDEX]):
        return [path]
    return [path, *(path.with_name(shard) for shard in dict.fromkeys(_weight_map(path).values()))]


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
        if Path(shard).name != shard or not path.with_name(shard).is_file():
            raise FormatError(f"{path}: there is no file {shard!r} beside it")
    return {name: str(shard) for name, shard in where.items()}


def _sharded(path: Path, where: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    by_shard = sorted(where, key=where.__getitem__)  # the sort is stable: one shard is open, its names in their order
    for shard, names in groupby(by_shard, key=where.__getitem__):
        yield from _tensors(path.with_name(shard), list(names))


def write_safetensors(contents: Contents, path: Path) -> None:
    """Write tensors one by one as they come; tied ones are written as often as they have names.

    Metadata that are no text are written as JSON: the format has no other kind.

    Raises:
        OptionError: safetensors has no name for a dtype.
    """
    strings = {key: value if isinstance(value, str) else json.dumps(value) for key, value in contents.metadata.items()}
    with writing(path, strings) as body:
        for name, item in contents.items:
            if isinstance(item, Alias):
                body.repeat(name, item.of)
                continue
            kind = element_type(item.dtype)
            if kind.container is None:
                raise OptionError(f"{name!r} is of {kind.name}, which safetensors cannot hold; a '.pt' file can")
            body.append(name, kind.container, tuple(item.shape), [words_of(item).view("u1").data])
