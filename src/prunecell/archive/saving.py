"""Writing an archive: a state_dict -> one small `.pcell` file. docs/format.md specifies it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prunecell.archive.container import writing
from prunecell.archive.in_order import in_order
from prunecell.archive.listing import Alias
from prunecell.archive.manifest import LIMIT_BYTES, Plain
from prunecell.checks import check_mapping, check_path
from prunecell.choices import chosen
from prunecell.codecs.dtypes import Numbers, element_type, words_to_store
from prunecell.codecs.encode import BACKENDS, Begun, Scaled, begin, finish
from prunecell.codecs.modes import ValueMode, value_mode
from prunecell.codecs.records import EncodedRecord, IntegerRecord, why_illegal_shape
from prunecell.disk.endings import ARCHIVE, check_ending
from prunecell.errors import OptionError, OptionTypeError, quoted, typed
from prunecell.names import plain_names, why_illegal

_EXTRA_STATE = "_extra_state"  # how torch names what a module's get_extra_state() gives


def save(
    model_or_state_dict: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    values: str | ValueMode = "exact",
    backend: str = "zstd",
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write a model to a small file. The file appears when it is complete, or not at all.

    Args:
        model_or_state_dict: a module, whose tensors are named as in the plain model (see `prunecell.names`), or what
            its `state_dict()` gives. Tied tensors are stored once.
        path: where, `NAME.pcell` by custom; an existing file is replaced.
        values: what may be lost: "exact" (nothing, not a bit), "fp16", "bf16", "int8" (per output channel),
            "codebook1" .. "codebook8" (so many bits for the shared values), or a function (name, tensor).
            The named ones change only floating-point tensors of two or more dimensions.
        backend: "zstd", "zlib" (slower; readable by everything that reads version 2 of the format), or "pcodec"
            (smaller; needs `prunecell[pcodec]`).
        metadata: anything JSON can hold: the plan, the architecture, where the weights come from.

    Raises:
        OptionError: an unknown mode or backend, a name that cannot be a key, metadata that JSON cannot hold, more than
            64 dimensions, a tensor that is expanded from less memory to more than 64 GiB, or a path with the ending of
            another kind of file, as .pt or .json.
        OptionTypeError: something is no tensor, or of a dtype or layout that cannot be stored.

    >>> import tempfile
    >>> from prunecell.archive.reading import load
    >>> weight = torch.tensor([[0.0, 1.5], [-2.0, 0.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"weight": weight}, f"{folder}/small.pcell")
    ...     load(f"{folder}/small.pcell")["weight"].equal(weight)
    True
    """
    write(tied(plain_state(model_or_state_dict)), path, values=values, backend=backend, metadata=metadata)


def plain_state(model_or_state_dict: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors of a module, named as in the plain model; a state_dict is returned as it is.

    Raises:
        OptionTypeError: it is neither.
    """
    if not isinstance(model_or_state_dict, nn.Module):
        check_mapping(
            "model_or_state_dict", model_or_state_dict, "a torch.nn.Module, or a mapping from names to tensors"
        )
        return model_or_state_dict
    names = plain_names(model_or_state_dict)
    return {names.get(name, name): tensor for name, tensor in model_or_state_dict.state_dict().items()}


def tied(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor | Alias]]:
    """Go through a state_dict; give an alias where a tensor is the same as one before it."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        _check(name, tensor)
        key = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if tensor.numel() and key in first:
            yield name, Alias(of=first[key])
        else:
            first[key] = name
            yield name, tensor


def _check(name: object, tensor: object) -> None:
    if not isinstance(name, str):
        raise OptionTypeError(f"the key {quoted(name)} is illegal: it must be a string")
    if reason := why_illegal(name):
        raise OptionError(f"the key {quoted(name)} is illegal: {reason}")
    if not isinstance(tensor, Tensor):
        extra = name.rpartition(".")[2] == _EXTRA_STATE
        way_out = ": let get_extra_state() return a tensor, or leave it out of the state_dict" if extra else ""
        raise OptionTypeError(f"{name!r} is {typed(tensor)}: only tensors can be stored{way_out}")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta or tensor.is_quantized:
        raise OptionTypeError(f"{quoted(name)} cannot be stored: it must be a plain dense tensor that has data")
    if reason := why_illegal_shape(tensor.shape):
        raise OptionError(f"{quoted(name)} cannot be stored: it has {reason}")
    n_bytes = tensor.numel() * element_type(tensor.dtype).itemsize
    if n_bytes > max(LIMIT_BYTES, tensor.untyped_storage().nbytes()):
        raise OptionError(
            f"{quoted(name)} cannot be stored: its elements would take {n_bytes} bytes, but its memory holds "
            f"{tensor.untyped_storage().nbytes()}, because it is expanded; store the tensor that it was expanded from"
        )


def write(
    items: Iterable[tuple[str, Tensor | Alias]],
    path: str | Path,
    *,
    values: str | ValueMode = "exact",
    backend: str = "zstd",
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write tensors as they come; as many as `torch.get_num_threads()` says are in work, and in memory, at once.

    It is like `save`, but takes pairs of a name and a tensor, or a name and an `Alias` of a name before it. The bytes
    of the file are the same for any number of threads.
    """
    mode = value_mode(values)
    chosen("backend", backend, BACKENDS)
    path = check_path("path", path)
    check_ending(path, ARCHIVE)
    user = _user_metadata(metadata)

    def started(item: tuple[str, _Replaced | Alias]) -> tuple[str, _Started | Alias]:
        name, what = item
        return name, what if isinstance(what, Alias) else _Started(what.plain, begin(what.tensor, backend=backend))

    rows: dict[str, Numbers] = {}  # which live, of the last tensor of each number of rows that is stored as integers
    last: dict[int, str] = {}
    with writing(path, user) as draft:
        checked = _checked(items, mode)
        for name, begun in in_order(started, checked, n_threads=torch.get_num_threads(), n_bytes=_n_bytes):
            if isinstance(begun, Alias):
                draft.entries[name] = begun
                continue
            encoded, plain = finish(begun.encoding, rows), begun.plain
            if plain.numel() * plain.itemsize <= encoded.record.n_bytes + _more_bytes(encoded.record):
                record = Plain(kind=element_type(plain.dtype), shape=tuple(plain.shape))
                draft.append(name, record, [words_to_store(plain).view("u1").data])
                continue
            draft.append(name, encoded.record, encoded.blob)
            if encoded.rows is not None:
                rows.pop(last.get(len(encoded.rows), name), None)
                rows[name], last[len(encoded.rows)] = encoded.rows, name


@dataclass(frozen=True, eq=False)
class _Replaced:
    """What is stored of a tensor, and as what it is stored if it becomes no smaller."""

    tensor: Tensor | Scaled
    plain: Tensor


@dataclass(frozen=True, eq=False)
class _Started:
    plain: Tensor
    encoding: Begun


def _n_bytes(item: tuple[str, _Replaced | Alias]) -> int:
    return 0 if isinstance(item[1], Alias) else item[1].plain.numel() * item[1].plain.itemsize


def _checked(items: Iterable[tuple[str, Tensor | Alias]], mode: ValueMode) -> Iterator[tuple[str, _Replaced | Alias]]:
    """Apply a value mode to each tensor; refuse what cannot be stored."""
    stored: dict[str, bool] = {}  # whether a name has a tensor of its own
    for name, item in items:
        if name in stored:
            raise OptionError(f"the key {name!r} stands twice")
        stored[name] = not isinstance(item, Alias)
        if isinstance(item, Alias):
            if not stored.get(item.of):
                raise OptionError(f"{name!r} cannot be an alias of {item.of!r}, which is not stored before it")
            yield name, item
            continue
        _check(name, item)
        replaced = _replaced(mode, name, item)
        yield name, _Replaced(replaced, item if isinstance(replaced, Scaled) else replaced)


def _more_bytes(record: EncodedRecord) -> int:
    """Bytes that a record takes in the list beside those of a plain tensor's, about."""
    return 3 if isinstance(record, IntegerRecord) else 1 + 2 * len(record.streams)


def _replaced(mode: ValueMode, name: str, tensor: Tensor) -> Tensor | Scaled:
    """Apply a value mode; refuse what has another shape or dtype than the tensor."""
    replaced = mode(name, tensor)
    if isinstance(replaced, Scaled):
        _check_scaled(name, replaced)
    shape = replaced.integers.shape if isinstance(replaced, Scaled) else replaced.shape
    if (shape, replaced.dtype) != (tensor.shape, tensor.dtype):
        raise OptionError(
            f"values={quoted(mode)} is illegal: it made {replaced.dtype} {tuple(shape)} of {name!r}, which is"
            f" {tensor.dtype} {tuple(tensor.shape)}"
        )
    return replaced


def _check_scaled(name: str, scaled: Scaled) -> None:
    """Refuse what a reader would refuse."""
    integers, scales = scaled.integers, scaled.scales
    if integers.dtype != torch.int8 or not integers.dim():
        raise OptionError(f"{name!r} cannot be scaled: its integers must be int8, of one dimension or more")
    if scales.dtype != torch.float32 or scales.shape != integers.shape[:1] or not bool(scales.isfinite().all()):
        raise OptionError(f"{name!r} cannot be scaled: there must be {len(integers)} finite scales of float32")


def _user_metadata(metadata: Mapping[str, object] | None) -> dict[str, object]:
    check_mapping("metadata", {} if metadata is None else metadata, "a mapping from texts to what JSON can hold")
    user = dict(metadata or {})
    try:
        same: object = json.loads(text := json.dumps(user, allow_nan=False, ensure_ascii=False))
        text.encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise OptionError(f"metadata cannot be stored: {e}") from None
    if same != user:
        raise OptionError("metadata cannot be stored: JSON would change it (a key is no string, or a list a tuple)")
    return user
