"""Safetensors: https://github.com/huggingface/safetensors."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.spool import spooled
from prunecell.codecs.dtypes import element_type, words_to_store
from prunecell.disk.endings import SAFETENSORS, check_ending
from prunecell.disk.foreign import mistaken
from prunecell.errors import FormatError, OptionError, quoted
from prunecell.files.contents import Contents
from prunecell.names import METADATA


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
    return Contents(items=tensors_of(path, names), metadata=metadata)


def tensors_of(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Read some tensors of a file one by one.

    Raises:
        FormatError: it is damaged, or lacks one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, _tensor(file, name, path)
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None


def _tensor(file: safe_open, name: str, path: Path) -> Tensor:
    try:
        tensor: Tensor = file.get_tensor(name)  # type: ignore[no-untyped-call] # safetensors'
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # torch's, of a shape that no tensor can have
        told = str(error).partition("\n")[0][:200]
        raise FormatError(f"{path}: tensor {quoted(name)}: torch makes no tensor of its shape ({told})") from None
    return tensor


def write_safetensors(contents: Contents, path: Path) -> None:
    """Write tensors one by one as they come; tied ones are written as often as they have names.

    Metadata that are no text are written as JSON: the format has no other kind.

    Raises:
        OptionError: safetensors has no name for a dtype, or the path has the ending of another kind of file.
    """
    check_ending(path, SAFETENSORS)
    strings = {_encodable(key): _text(value) for key, value in contents.metadata.items()}
    header: dict[str, dict[str, object]] = {METADATA: {**strings}}
    places: dict[str, tuple[int, int]] = {}
    with spooled(path, lambda: _header(header)) as body:
        for name, item in contents.items:
            start = body.n_bytes
            if isinstance(item, Alias):
                header[name] = header[item.of]
                for some in body.written(*places[item.of]):
                    body.append(some)
            else:
                kind = element_type(item.dtype)
                if kind.container is None:
                    raise OptionError(f"{name!r} is of {kind.name}, which safetensors cannot hold; a '.pt' file can")
                header[name] = {"dtype": kind.container, "shape": list(item.shape)}
                body.append(words_to_store(item).view("u1").data)
            places[name] = start, body.n_bytes
            header[name] = {**header[name], "data_offsets": list(places[name])}


def _header(header: Mapping[str, object]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _text(value: object) -> str:
    return _encodable(value) if isinstance(value, str) else json.dumps(value)


def _encodable(text: str) -> str:
    """The same; half a surrogate pair, which JSON can hold and UTF-8 cannot, as Python writes it."""
    return text.encode("utf-8", "backslashreplace").decode()
