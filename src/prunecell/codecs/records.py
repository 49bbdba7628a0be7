"""The record of an encoded tensor: what a file says about its blob, checked before the blob is touched."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecell.codecs.coders import CODERS
from prunecell.codecs.dtypes import ElementType, element_type_named
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.values import MAX_BOOK, VALUE_FORMS
from prunecell.errors import FormatError, quoted

NARROWER = {  # what a dtype may be stored as: a float that holds the same values, or integers times scales
    "float64": ("float16", "bfloat16", "float32", "int8"),
    "float32": ("float16", "bfloat16", "int8"),
    "float16": ("int8",),
    "bfloat16": ("int8",),
}
_MAX_DIMS = 64  # torch allows more, but no model has them, and every dimension is work for a reader
_MAX_COUNT = 1 << 62
_MAX_ELEMENTS = 1 << 59  # of a shape, without its zeros: 16 bytes each, so that strides in bytes can be computed
_KEYS = ("dtype", "shape", "stored", "positions", "values", "count", "streams")


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """One stream of a blob: the name of its coder, and its bytes."""

    coder: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What a stream must be, according to the rest of the record.

    Attributes:
        role: "positions", "scales", "book" or "values".
        dtype: of its numbers.
        count: how many there are; None where only the stream itself tells (gaps8, book).
    """

    role: str
    dtype: np.dtype[Any]
    count: int | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one tensor is encoded.

    Attributes:
        kind: the element type of the tensor.
        shape: its shape.
        stored: the element type of the kept words: the tensor's own, or a narrower float, or int8; an int8 word is
            multiplied by the scale of its row (its index in the first dimension).
        positions: where the kept words are: "none", "all", or a name in `POSITION_FORMS`.
        values: what they are: "none", or a name in `VALUE_FORMS`.
        count: how many words are kept.
        streams: the streams of the blob, in the order of `plan`.
    """

    kind: ElementType
    shape: tuple[int, ...]
    stored: ElementType
    positions: str
    values: str
    count: int
    streams: tuple[StreamFacts, ...]

    @property
    def n_words(self) -> int:
        """Words of the dense tensor."""
        return math.prod(self.shape) * self.kind.words

    @property
    def n_bytes(self) -> int:
        """Bytes of the blob."""
        return sum(stream.n_bytes for stream in self.streams)

    @property
    def is_scaled(self) -> bool:
        """Whether kept words are integers to be multiplied by scales."""
        return self.stored.name == "int8" != self.kind.name

    def to_json(self) -> dict[str, object]:
        """Give the record as it is written."""
        narrow = {} if self.stored is self.kind else {"stored": self.stored.name}
        return {
            "dtype": self.kind.name,
            "shape": list(self.shape),
            **narrow,
            "positions": self.positions,
            "values": self.values,
            "count": self.count,
            "streams": [[stream.coder, stream.n_bytes] for stream in self.streams],
        }


def plan(record: Record) -> list[StreamPlan]:
    """Say which streams the blob of a record must have, in their order."""
    streams = []
    if record.positions in POSITION_FORMS:
        where = POSITION_FORMS[record.positions]
        streams.append(StreamPlan(role="positions", dtype=where.dtype, count=where.count(record.count, record.n_words)))
    if record.is_scaled:
        streams.append(StreamPlan(role="scales", dtype=np.dtype("<f4"), count=record.shape[0]))
    if record.values in VALUE_FORMS:
        form = VALUE_FORMS[record.values](kind=record.stored)
        if form.has_book:
            streams.append(StreamPlan(role="book", dtype=record.stored.word, count=None))
        streams += [StreamPlan(role="values", dtype=dtype, count=record.count) for dtype in form.dtypes]
    return streams


def read_record(entry: Mapping[str, object]) -> Record:
    """Check a record as a file has it.

    Raises:
        FormatError: something is missing, unknown, of the wrong type, or contradicts the rest.
    """
    if unknown := sorted(entry.keys() - set(_KEYS)):
        raise FormatError(f"unknown key {quoted(unknown[0])}")
    if missing := sorted({*_KEYS} - {"stored"} - entry.keys()):
        raise FormatError(f"the key {missing[0]!r} is missing")
    kind = element_type_named(entry["dtype"])
    record = Record(
        kind=kind,
        shape=read_shape(entry["shape"]),
        stored=element_type_named(entry.get("stored", kind.name)),
        positions=_name(entry["positions"], ("none", "all", *POSITION_FORMS)),
        values=_name(entry["values"], ("none", *VALUE_FORMS)),
        count=_count(entry["count"], "count"),
        streams=tuple(_stream(item) for item in _list(entry["streams"], "streams", len(_KEYS) + 8)),
    )
    _check_words(record)
    _check_streams(record)
    return record


def read_shape(value: object) -> tuple[int, ...]:
    """Check a shape: at most 64 sizes, whose product without zeros is below 2^59.

    Raises:
        FormatError: it is not one.
    """
    shape = tuple(_count(size, "a size") for size in _list(value, "shape", _MAX_DIMS))
    if reason := why_illegal_shape(shape):
        raise FormatError(reason)
    return shape


def why_illegal_shape(shape: Sequence[int]) -> str:
    """Say why the format has no place for a shape; nothing if it has.

    >>> why_illegal_shape([1] * 65)
    'a shape of 65 dimensions: there may be at most 64'
    """
    if len(shape) > _MAX_DIMS:
        return f"a shape of {len(shape)} dimensions: there may be at most {_MAX_DIMS}"
    if math.prod(max(size, 1) for size in shape) >= _MAX_ELEMENTS:
        return f"a shape of too many elements: {list(shape)}: the product of its sizes, zeros left out, must be < 2^59"
    return ""


def _check_words(record: Record) -> None:
    """Check what is said about the words of the tensor."""
    kind, stored, count = record.kind, record.stored, record.count
    if stored is not kind and stored.name not in NARROWER.get(kind.name, ()):
        raise FormatError(f"{kind.name} cannot be stored as {stored.name}")
    if record.is_scaled and not record.shape:
        raise FormatError("a tensor without dimensions has no rows to scale")
    if count > record.n_words:
        raise FormatError(f"{count} kept words in a tensor of {record.n_words}")
    if (count == 0) != (record.positions == "none") or (count == 0) != (record.values == "none"):
        raise FormatError(f"{count} kept words, positions {record.positions!r}, values {record.values!r}")
    if record.positions == "all" and count != record.n_words:
        raise FormatError(f"all positions, but {count} kept words in a tensor of {record.n_words}")


def _check_streams(record: Record) -> None:
    """Check that the streams are those that the rest of the record demands."""
    wanted = plan(record)
    if len(wanted) != len(record.streams):
        raise FormatError(f"{len(record.streams)} streams where there must be {len(wanted)}")
    for want, stream in zip(wanted, record.streams, strict=True):
        size = want.dtype.itemsize
        if want.role in ("book", "scales") and stream.coder != "raw":
            raise FormatError(f"the {want.role} must be raw")
        if want.role == "book" and not size <= stream.n_bytes <= MAX_BOOK * size:
            raise FormatError(f"a codebook of {stream.n_bytes} bytes; at most {MAX_BOOK} words of {size}")
        if want.count is None:
            continue
        if not CODERS[stream.coder].holds(stream.n_bytes, want.count * size):
            raise FormatError(
                f"{stream.n_bytes} bytes of {stream.coder} cannot hold {want.count} {want.role} of {size} bytes"
            )


def _list(value: object, what: str, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise FormatError(f"{what} must be a list of at most {most}")
    return value


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise FormatError(f"{what} is {quoted(value)}: it must be a whole number in [0, 2^62)")
    return value


def _name(value: object, legal: Collection[str]) -> str:
    if not isinstance(value, str) or value not in legal:
        raise FormatError(f"unknown word {quoted(value)}; legal here: {', '.join(legal)}")
    return value


def _stream(item: object) -> StreamFacts:
    pair = _list(item, "a stream", 2)
    if len(pair) != 2:  # noqa: PLR2004 - a pair
        raise FormatError("a stream must be [coder, bytes]")
    return StreamFacts(coder=_name(pair[0], CODERS), n_bytes=_count(pair[1], "the bytes of a stream"))
