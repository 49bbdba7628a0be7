"""Model files of others <-> archives: torch's state_dicts, safetensors in one file or in shards, `.pcell`.

Sources are read, and archives written, tensor by tensor: a model larger than memory can be packed.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunecell.archive import Alias, Archive, TensorFacts, inspect, load, write
from prunecell.archive.container import read_json, replacing, writing
from prunecell.archive.saving import tied
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.codecs.modes import ValueMode
from prunecell.errors import FormatError, OptionError, UnknownNameError, nearest

_T = TypeVar("_T")
_NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep their state_dict


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model file, opened: its tensors, one after the other, and its metadata."""

    items: Iterator[tuple[str, Tensor | Alias]]
    metadata: Mapping[str, object]


def pack(
    source: str | Path,
    target: str | Path,
    *,
    values: str | ValueMode = "exact",
    backend: str = "zlib",
    metadata: Mapping[str, object] | None = None,
) -> list[TensorFacts]:
    """Turn a model file into an archive.

    Args:
        source: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (torch, read with `weights_only`: no code is run),
            `.safetensors`, `.safetensors.index.json` (its shards beside it), or `.pcell`.
        target: the archive to write.
        values: as for `save`.
        backend: as for `save`.
        metadata: added to that of a safetensors or `.pcell` source, which is kept.

    Returns:
        What the archive holds, one row a tensor.

    Raises:
        UnknownNameError: the ending is none of these.
        FormatError: the source is damaged, or holds something else than tensors.
        OptionTypeError: a tensor is of a dtype that cannot be stored.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.eye(100)}, f"{folder}/eye.pt")
    ...     rows = pack(f"{folder}/eye.pt", f"{folder}/eye.pcell")
    ...     unpack(f"{folder}/eye.pcell", f"{folder}/eye.safetensors")
    >>> [(row.name, row.shape) for row in rows]
    [('weight', (100, 100))]
    """
    opened = _by_ending(Path(source), _READERS)(Path(source))
    write(opened.items, target, values=values, backend=backend, metadata={**opened.metadata, **(metadata or {})})
    return inspect(target)


def unpack(source: str | Path, target: str | Path) -> None:
    """Turn an archive into a model file; what was packed with values "exact" comes back bit for bit.

    Args:
        source: a `.pcell` file.
        target: by its ending: `.pt`, `.pth`, `.bin`, `.ckpt` (a state_dict), or `.safetensors` (written tensor by
            tensor; tied tensors stand in it as often as they have names, and of the metadata the strings only).

    Raises:
        UnknownNameError: the ending is none of these.
        OptionError: safetensors has no name for a dtype.
        FormatError: the archive is damaged.
    """
    _by_ending(Path(target), _WRITERS)(Path(source), Path(target))


def read(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a model file, any that `pack` takes; tied ones are the same tensor.

    Raises:
        UnknownNameError: the ending is none that can be read.
        FormatError: the file is damaged, or holds something else than tensors.
    """
    state: dict[str, Tensor] = {}
    for name, item in _by_ending(Path(path), _READERS)(Path(path)).items:
        state[name] = state[item.of] if isinstance(item, Alias) else item
    return state


def write_safetensors(
    items: Iterable[tuple[str, Tensor]], target: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors one by one as they come; the file appears when it is complete, or not at all.

    Raises:
        OptionError: safetensors has no name for a dtype.
    """
    with writing(target, dict(metadata or {})) as body:
        for name, tensor in items:
            kind = element_type(tensor.dtype)
            if kind.container is None:
                raise OptionError(f"{name!r} is of {kind.name}, which safetensors cannot hold; a '.pt' file can")
            body.append(name, kind.container, tuple(tensor.shape), [words_of(tensor).view("u1").data])


def _by_ending(path: Path, table: Mapping[str, _T]) -> _T:
    for ending, value in table.items():
        if path.name.endswith(ending):
            return value
    raise UnknownNameError(f"{path}: its ending is none that can be read or written here{nearest(path.suffix, table)}")


def _read_torch(path: Path) -> Source:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as e:
        told = (
            str(e).strip().split(". ")[0] if isinstance(e, pickle.UnpicklingError | RuntimeError) else type(e).__name__
        )
        raise FormatError(f"{path}: torch reads no plain weights from it ({told})") from None
    return Source(items=tied(_state_dict(found, path)), metadata={})


def _state_dict(found: object, path: Path) -> Mapping[str, Tensor]:
    """Find the state_dict in what torch read: it is all of it, or stands under a usual name."""
    if isinstance(found, Mapping):
        nested = (found[name] for name in _NESTED if isinstance(found.get(name), Mapping))
        state = next(nested, found)
        strangers = [
            f"{key!r}: {type(value).__name__}" for key, value in state.items() if not isinstance(value, Tensor)
        ]
        if not strangers:
            return state
        raise FormatError(
            f"{path}: it is no state_dict, as it holds other things than tensors: {', '.join(strangers[:5])}"
        )
    raise FormatError(f"{path}: it holds no state_dict but a {type(found).__name__}")


def _read_safetensors(path: Path) -> Source:
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None
    return Source(items=_tensors(path, names), metadata=metadata)


def _tensors(path: Path, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None


def _read_shards(path: Path) -> Source:
    try:
        where = read_json(path.read_bytes()).get("weight_map")
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise FormatError(f"{path}: its weight_map must map names of tensors to names of files")
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard or not path.with_name(shard).is_file():
            raise FormatError(f"{path}: there is no file {shard!r} beside it")
    return Source(items=_sharded(path, where), metadata={})


def _sharded(path: Path, where: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    by_shard = sorted(where, key=where.__getitem__)  # stable: one shard open at a time, names in their order
    for shard, names in groupby(by_shard, key=where.__getitem__):
        yield from _tensors(path.with_name(shard), list(names))


def _read_archive(path: Path) -> Source:
    with Archive.open(path) as archive:
        metadata = archive.metadata
    return Source(items=_archived(path), metadata=metadata)


def _archived(path: Path) -> Iterator[tuple[str, Tensor | Alias]]:
    with Archive.open(path) as archive:
        for name in archive:
            target = archive.target(name)
            yield name, archive[name] if target == name else Alias(of=target)


def _write_torch(source: Path, target: Path) -> None:
    state = load(source)
    with replacing(target) as file:
        torch.save(state, file)


def _write_safetensors(source: Path, target: Path) -> None:
    with Archive.open(source) as archive:
        strings = {key: value for key, value in archive.metadata.items() if isinstance(value, str)}
        write_safetensors(((name, archive[name]) for name in archive), target, strings)


_READERS: dict[str, Callable[[Path], Source]] = {
    ".safetensors.index.json": _read_shards,
    ".safetensors": _read_safetensors,
    ".pcell": _read_archive,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), _read_torch),
}
_WRITERS: dict[str, Callable[[Path, Path], None]] = {
    ".safetensors": _write_safetensors,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), _write_torch),
}
