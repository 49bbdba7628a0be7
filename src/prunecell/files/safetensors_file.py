"""Safetensors: https://github.com/huggingface/safetensors."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunecell.archive import Alias
from prunecell.archive.container import writing
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.disk.foreign import SAFETENSORS, mistaken
from prunecell.errors import FormatError, OptionError
from prunecell.files.contents import Contents


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
                yield name, file.get_tensor(name)
    except SafetensorError as e:
        raise FormatError(f"{path}: {e}") from None


def write_safetensors(contents: Contents, path: Path) -> None:
    """Write tensors one by one as they come; tied ones are written as often as they have names.

    Metadata that are no text are written as JSON: the format has no other kind.

    Raises:
        OptionError: safetensors has no name for a dtype.
    """
    strings = {_encodable(key): _text(value) for key, value in contents.metadata.items()}
    with writing(path, strings) as body:
        for name, item in contents.items:
            if isinstance(item, Alias):
                body.repeat(name, item.of)
                continue
            kind = element_type(item.dtype)
            if kind.container is None:
                raise OptionError(f"{name!r} is of {kind.name}, which safetensors cannot hold; a '.pt' file can")
            body.append(name, kind.container, tuple(item.shape), [words_of(item).view("u1").data])


def _text(value: object) -> str:
    return _encodable(value) if isinstance(value, str) else json.dumps(value)


def _encodable(text: str) -> str:
    """The same; half a surrogate pair, which JSON can hold and UTF-8 cannot, as Python writes it."""
    return text.encode("utf-8", "backslashreplace").decode()
