"""The record of an encoded tensor: what a file says about its blob, checked before the blob is touched."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecell.codecs.dtypes import ElementType, element_type_named
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.streams import CODERS
from prunecell.codecs.values import MAX_CODEBOOK, SCALE, Planes, Whole
from prunecell.errors import FormatError

MAX_DIMS = 64  # as many as torch can have
NARROWER = {  # what a dtype may be stored as: an exact cast of it, or integers and a scale per row
    "float32": ("float16", "bfloat16", "int8"),
    "float64": ("float16", "bfloat16", "float32", "int8"),
    "float16": ("int8",),
    "bfloat16": ("int8",),
}


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """One stream of a blob: its coder, how many numbers it holds, and how many bytes it takes."""

    coder: str
    count: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one tensor is encoded.

    Attributes:
        kind: the element type that the tensor has.
        shape: its shape.
        positions: where the kept words are: "none", "all", or a name in `POSITION_FORMS`.
        values: what they are: "none", "planes", "numbers" or "codebook".
        stored: the element type of the kept words; int8 means times the scale of their row.
        count: how many words are kept.
        streams: the streams of the blob, in order: positions, scales, codebook, values.
    """

    kind: ElementType
    shape: tuple[int, ...]
    positions: str
    values: str
    stored: ElementType
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
        """Whether the kept words are integers to be multiplied by the scale of their row."""
        return self.stored.name == "int8" and self.kind.name != "int8"

    @property
    def n_scales(self) -> int:
        """Scales in the blob: one for every index of the first dimension."""
        return self.shape[0] if self.is_scaled else 0

    def to_json(self) -> dict[str, object]:
        """Give the record as it is written."""
        record: dict[str, object] = {"dtype": self.kind.name, "shape": list(self.shape)}
        if self.stored is not self.kind:
            record["stored"] = self.stored.name
        record |= {"positions": self.positions, "values": self.values, "count": self.count}
        record["streams"] = [[s.coder, s.count, s.n_bytes] for s in self.streams]
        return record


def layout(record: Record) -> list[tuple[np.dtype[Any], int | None]]:
    """Say which streams the blob must have: dtype and count of each, None where the count is free."""
    streams: list[tuple[np.dtype[Any], int | None]] = []
    if record.positions in POSITION_FORMS:
        form = POSITION_FORMS[record.positions]
        streams.append((form.dtype, record.count if form.name == "gaps32" else None))
    if record.is_scaled:
        streams.append((SCALE, record.n_scales))
    if record.values == "codebook":
        streams += [(record.stored.word, None), (np.dtype("u1"), record.count)]
    elif record.values == "planes":
        streams += [(dtype, record.count) for dtype in Planes(kind=record.stored).dtypes]
    elif record.values == "numbers":
        streams += [(dtype, record.count) for dtype in Whole(kind=record.stored).dtypes]
    return streams


def read_record(entry: dict[str, object]) -> Record:
    """Check a record as it stands in a file.

    Raises:
        FormatError: something is missing, unknown, of the wrong type, or contradicts itself.
    """
    known = {"dtype", "shape", "stored", "positions", "values", "count", "streams"}
    if unknown := sorted(entry.keys() - known):
        raise FormatError(f"unknown key {unknown[0]!r}")
    if missing := sorted(known - {"stored"} - entry.keys()):
        raise FormatError(f"the key {missing[0]!r} is missing")
    kind = element_type_named(entry["dtype"])
    stored = element_type_named(entry.get("stored", kind.name))
    if stored is not kind and stored.name not in NARROWER.get(kind.name, ()):
        raise FormatError(f"{kind.name} cannot be stored as {stored.name}")
    record = Record(
        kind=kind,
        shape=read_shape(entry["shape"]),
        positions=_one_of(entry["positions"], ("none", "all", *POSITION_FORMS), "positions"),
        values=_one_of(entry["values"], ("none", "planes", "numbers", "codebook"), "values"),
        stored=stored,
        count=read_count(entry["count"], "count"),
        streams=_read_streams(entry["streams"]),
    )
    _check(record)
    return record


def _check(record: Record) -> None:
    n_words = record.n_words
    if record.is_scaled and (not record.shape or not record.count):
        raise FormatError("a tensor without dimensions or without kept words has nothing to scale")
    if record.count > n_words:
        raise FormatError(f"{record.count} kept words in a tensor of {n_words}")
    if (record.positions == "none") != (record.count == 0) or (record.values == "none") != (record.count == 0):
        raise FormatError(f"positions {record.positions!r}, values {record.values!r} with a count of {record.count}")
    if record.positions == "all" and record.count != n_words:
        raise FormatError(f"all positions, but {record.count} kept words of {n_words}")
    wanted = layout(record)
    if len(wanted) != len(record.streams):
        raise FormatError(f"{len(record.streams)} streams where there must be {len(wanted)}")
    for j, ((dtype, count), stream) in enumerate(zip(wanted, record.streams, strict=True)):
        if count is not None and count != stream.count:
            raise FormatError(f"stream {j} holds {stream.count} numbers where there must be {count}")
        if stream.coder == "raw" and stream.n_bytes != stream.count * dtype.itemsize:
            raise FormatError(f"stream {j} is raw: {stream.count} numbers are not {stream.n_bytes} bytes")
        if stream.coder == "deflate" and dtype.itemsize != 1:
            raise FormatError(f"stream {j} is deflate, which codes bytes only")
        if stream.coder == "pco" and dtype.itemsize == 1:
            raise FormatError(f"stream {j} is pco, which codes no bytes")
    if record.values == "codebook":
        book = record.streams[-2]
        if book.coder != "raw" or not 1 <= book.count <= MAX_CODEBOOK:
            raise FormatError(f"a codebook of {book.count} words, coder {book.coder!r}")


def read_shape(value: object) -> tuple[int, ...]:
    """Check a shape: at most 64 whole numbers >= 0."""
    if not isinstance(value, list) or len(value) > MAX_DIMS:
        raise FormatError(f"a shape must be a list of at most {MAX_DIMS} numbers")
    return tuple(read_count(size, "a size of the shape") for size in value)


def read_count(value: object, what: str) -> int:
    """Check a whole number in [0, 2^62)."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise FormatError(f"{what} is {str(value)[:40]!r}, not a whole number in [0, 2^62)")
    return value


def _one_of(value: object, legal: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str) or value not in legal:
        raise FormatError(f"unknown {what} {str(value)[:40]!r}; legal: {', '.join(legal)}")
    return value


def _read_streams(value: object) -> tuple[StreamFacts, ...]:
    if not isinstance(value, list):
        raise FormatError("streams must be a list")
    streams = []
    for item in value:
        if not isinstance(item, list) or len(item) != 3:  # noqa: PLR2004 - coder, count, bytes
            raise FormatError("a stream must be [coder, count, bytes]")
        coder, count, n_bytes = item
        streams.append(
            StreamFacts(
                coder=_one_of(coder, CODERS, "coder"),
                count=read_count(count, "the count of a stream"),
                n_bytes=read_count(n_bytes, "the bytes of a stream"),
            )
        )
    return tuple(streams)
