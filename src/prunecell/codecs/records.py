"""The record of an encoded tensor: what a file says about its blob, checked before the blob is touched."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from prunecell.codecs.coders import CODERS
from prunecell.codecs.contexts import Grid, grid_of
from prunecell.codecs.dtypes import ElementType
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.values import MAX_BOOK, VALUE_FORMS
from prunecell.errors import FormatError

NARROWER = {  # what a dtype may be stored as: a float that holds the same values, or integers times scales
    "float64": ("float16", "bfloat16", "float32", "int8"),
    "float32": ("float16", "bfloat16", "int8"),
    "float16": ("int8",),
    "bfloat16": ("int8",),
}
MAX_DIMS = 64  # torch allows more, but no model has them, and every dimension is work for a reader
MEANINGS = ("words", "step", "steps", "book")
"""What the numbers of an `IntegerRecord` may mean."""
_MAX_ELEMENTS = 1 << 59  # of a shape, without its zeros: 16 bytes each, so that strides in bytes can be computed


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


@dataclass(frozen=True, kw_only=True)
class IntegerRecord:
    """How one tensor is stored as whole numbers under contexts.

    Attributes:
        kind, shape: of the tensor.
        meaning: what its elements are: "words" (the numbers), "step" (the numbers times one float32), "steps" (times
            that of their index in the first dimension), "book" (the number tells the place of a word in a book).
        stored: the element type of the numbers, int8 or int32 where there are steps; that of the words of the book.
        side: the columns are square pictures of so many pixels a side; 0 where the shape says what they are.
        above: the tensor whose living rows tell which columns are likely to live; None for none.
        count: the numbers that are not zero.
        n_before: the words in the book whose numbers are below zero.
        n_book: the words in the book.
        n_bytes: of the blob: the steps or the book, then the stream of contexts.
    """

    kind: ElementType
    shape: tuple[int, ...]
    meaning: str
    stored: ElementType
    side: int = 0
    above: str | None = None
    count: int
    n_before: int = 0
    n_book: int = 0
    n_bytes: int

    @property
    def n_words(self) -> int:
        """Words of the dense tensor."""
        return math.prod(self.shape)

    @property
    def is_scaled(self) -> bool:
        """Whether the numbers are to be multiplied by steps."""
        return self.meaning in ("step", "steps")

    @property
    def n_steps(self) -> int:
        """How many steps there are."""
        return {"step": 1, "steps": self.shape[0] if self.shape else 0}.get(self.meaning, 0)

    @property
    def n_prefix_bytes(self) -> int:
        """Bytes before the stream of contexts: the steps or the book."""
        return 4 * self.n_steps + self.n_book * self.stored.itemsize

    @property
    def grid(self) -> Grid:
        """How the coder sees the tensor."""
        grid = grid_of(self.shape, self.side)
        if grid is None:
            raise FormatError(f"the coder of integers has no place for a shape {list(self.shape)} and side {self.side}")
        return grid


EncodedRecord: TypeAlias = Record | IntegerRecord
"""What a file says about a tensor whose bytes are encoded."""


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


def check_record(record: Record) -> None:
    """Check that what a record says fits together.

    Raises:
        FormatError: something contradicts the rest.
    """
    _check_words(record)
    _check_streams(record)


def why_illegal_shape(shape: Sequence[int]) -> str:
    """Say why the format has no place for a shape; nothing if it has.

    >>> why_illegal_shape([1] * 65)
    'a shape of 65 dimensions: there may be at most 64'
    """
    if len(shape) > MAX_DIMS:
        return f"a shape of {len(shape)} dimensions: there may be at most {MAX_DIMS}"
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


def check_integer_record(record: IntegerRecord) -> None:
    """Check that what a record of integers says fits together.

    Raises:
        FormatError: something contradicts the rest.
    """
    kind, stored = record.kind, record.stored
    if record.is_scaled:
        legal = "int8" in NARROWER.get(kind.name, ()) and stored.name in ("int8", "int32")
    elif record.meaning == "book":
        legal = kind.words == 1 and (stored is kind or (stored.is_float and stored.name in NARROWER.get(kind.name, ())))
    else:
        legal = stored is kind and not kind.is_float
    if not legal:
        raise FormatError(f"{kind.name} cannot be stored as {stored.name} in integers that mean {record.meaning!r}")
    if record.meaning == "steps" and not record.shape:
        raise FormatError("a tensor without dimensions has no rows with steps")
    if not 0 < record.count <= record.n_words:
        raise FormatError(f"{record.count} numbers that are not zero in a tensor of {record.n_words}")
    if record.side and (len(record.shape) != 2 or record.shape[1] % record.side**2):  # noqa: PLR2004 - a matrix
        raise FormatError(f"a shape {list(record.shape)} has no pictures of {record.side} x {record.side}")
    if (record.meaning == "book") != (1 <= record.n_book <= MAX_BOOK) or record.n_before > record.n_book:
        raise FormatError(f"a book of {record.n_book} words, {record.n_before} of them below zero; at most {MAX_BOOK}")
    _ = record.grid
