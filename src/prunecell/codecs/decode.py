"""A checked record and its blob -> the tensor, or its kept words chunk by chunk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import open_reader
from prunecell.codecs.contexts import NO_ROWS, RowReader, open_contexts
from prunecell.codecs.dtypes import ElementType, Numbers, empty_of, tensor_of, words_of, zeros_of
from prunecell.codecs.kept import put_kept_
from prunecell.codecs.positions import CHUNK, POSITION_FORMS, SMALL_CHUNK, Chunk, chunk_at, cover, read_all
from prunecell.codecs.records import EncodedRecord, IntegerRecord, Record, plan
from prunecell.codecs.streams import Reader, Source, read_exactly
from prunecell.codecs.values import VALUE_FORMS, Planes, ValueForm
from prunecell.codecs.words import scatter_
from prunecell.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A blob, ready to be read once.

    Attributes:
        scales: float32, one for each index of the first dimension, or one for all; None where words are not scaled.
        kept: the chunks of the whole tensor in their order, each with its kept words as they are stored. It raises
            FormatError if the blob is not what its record says; the chunks before must not be used either.
    """

    record: EncodedRecord
    scales: Tensor | None
    kept: Iterator[tuple[Chunk, Numbers]]


def open_blob(
    record: EncodedRecord,
    blob: Source,
    above: Numbers = NO_ROWS,
    *,
    into: Numbers | None = None,
    at_once: int = SMALL_CHUNK,
) -> Opened:
    """Open a blob whose record was checked.

    Args:
        record: how the tensor is stored.
        blob: its bytes.
        above: which rows live of the tensor that the record names as the one above.
        into: all words of the tensor. Where all are kept as they are stored, they may be written there.
        at_once: about how many words a chunk has, a multiple of 8.

    Raises:
        FormatError: the scales or the codebook, which are read at once, are damaged.
    """
    if isinstance(record, IntegerRecord):
        return _open_integers(record, blob, above, at_once)
    may_write = record.positions == "all" and record.stored is record.kind
    return _open_streams(record, blob, into if may_write else None, at_once)


def _open_streams(record: Record, blob: Source, into: Numbers | None, at_once: int) -> Opened:
    streams: dict[str, list[Reader]] = {"positions": [], "scales": [], "book": [], "values": []}
    at = 0
    for want, facts in zip(plan(record), record.streams, strict=True):
        source = blob.section(at, at + facts.n_bytes)
        streams[want.role].append(open_reader(facts.coder, source, want.dtype, want.count or 0))
        at += facts.n_bytes
    scales = [_scales(read_exactly(stream, record.shape[0])) for stream in streams["scales"]]
    books = [stream.read(len(blob)).copy() for stream in streams["book"]]
    form = VALUE_FORMS.get(record.values, Planes)  # where there are no values, nothing is joined
    opened = _Streams(
        record=record,
        positions=streams["positions"][0] if streams["positions"] else None,
        form=form(kind=record.stored, book=books[0]) if books else form(kind=record.stored),
        values=streams["values"],
        into=into,
        at_once=at_once,
    )
    return Opened(record=record, scales=scales[0] if scales else None, kept=_kept_of_streams(opened))


def _scales(numbers: Numbers) -> Tensor:
    if not np.isfinite(numbers).all():
        raise FormatError("a scale that is not finite")
    return torch.from_numpy(numbers.copy())


def _open_integers(record: IntegerRecord, blob: Source, above: Numbers, at_once: int) -> Opened:
    n_steps, n_prefix = 4 * record.n_steps, record.n_prefix_bytes
    scales = _scales(np.frombuffer(blob[:n_steps], "<f4")) if record.is_scaled else None
    book = np.frombuffer(bytes(blob[n_steps:n_prefix]), record.stored.word if record.n_book else "u1")
    reader = open_contexts(bytes(blob[n_prefix : len(blob)]), record.grid, record.count, above)
    return Opened(record=record, scales=scales, kept=_kept_integers(record, reader, book, at_once))


def _kept_integers(
    record: IntegerRecord, reader: RowReader, book: Numbers, at_once: int
) -> Iterator[tuple[Chunk, Numbers]]:
    grid = record.grid
    n_rows = max(1, at_once // grid.columns)
    for row in range(0, grid.rows, n_rows):
        numbers = reader.read(min(n_rows, grid.rows - row))
        positions, start = np.flatnonzero(numbers), row * grid.columns
        words = _words_of_integers(record, numbers[positions], book)
        positions += start
        yield chunk_at(start, start + len(numbers), positions), words
    reader.finish()


def _words_of_integers(record: IntegerRecord, numbers: Numbers, book: Numbers) -> Numbers:
    """Turn numbers that are not zero into words as they are stored."""
    if record.meaning == "book":
        numbers = numbers + (record.n_before - (numbers > 0))
        low, high, what = 0, len(book) - 1, f"a book of {len(book)} words"
    else:
        word, name = record.stored.number, record.stored.name
        low, high = (0, 1) if name == "bool" else (int(np.iinfo(word).min), int(np.iinfo(word).max))
        what = name
    if len(numbers) and not low <= numbers.min() <= numbers.max() <= high:
        raise FormatError(f"a number that is out of {what}")
    return book[numbers] if record.meaning == "book" else numbers.astype(record.stored.number).view(record.stored.word)


@dataclass(frozen=True, kw_only=True)
class _Streams:
    """The streams of a blob, opened; how its values are joined, where they may be written, and how many at once."""

    record: Record
    positions: Reader | None
    form: ValueForm
    values: list[Reader]
    into: Numbers | None
    at_once: int


def _kept_of_streams(opened: _Streams) -> Iterator[tuple[Chunk, Numbers]]:
    record, left = opened.record, opened.record.count
    for chunk in cover(_chunks(opened), record.n_words):
        count = chunk.n_kept
        left -= count
        if left < 0:
            raise FormatError(f"more positions than the {record.count} kept words")
        yield chunk, _words(opened, count, None if opened.into is None else opened.into[chunk.start : chunk.stop])
    if left:
        raise FormatError(f"{record.count - left} positions for {record.count} kept words")
    for stream in opened.values if opened.positions is None else [opened.positions, *opened.values]:
        stream.finish()


def _chunks(opened: _Streams) -> Iterator[Chunk]:
    record = opened.record
    if opened.positions is not None:
        return POSITION_FORMS[record.positions].read(opened.positions, record.n_words, opened.at_once)
    return read_all(record.n_words if record.positions == "all" else 0, opened.at_once)


def _words(opened: _Streams, count: int, into: Numbers | None) -> Numbers:
    if not count:
        return np.empty(0, opened.record.stored.word)
    words = opened.form.join([read_exactly(stream, count) for stream in opened.values], into)
    check_words(opened.record.kind, words)
    return words


def check_words(kind: ElementType, words: Numbers) -> None:
    """Refuse words that no tensor may hold.

    Raises:
        FormatError: a bool is neither 0 nor 1.
    """
    if kind.name == "bool" and len(words) and words.max() > 1:
        raise FormatError("a bool that is neither 0 nor 1")


def widen(opened: Opened, chunk: Chunk, words: Numbers) -> Numbers:
    """Turn kept words as stored into words of the tensor's own type.

    Raises:
        FormatError: a narrower type holds NaN, whose bits a cast may change.
    """
    record = opened.record
    if record.stored is record.kind:
        return words
    narrow = tensor_of(words, record.stored)
    if record.stored.is_float and bool(narrow.isnan().any()):
        raise FormatError(f"a NaN in {record.stored.name}, which cannot hold every NaN of {record.kind.name}")
    if opened.scales is not None:
        rows = chunk.positions // (record.n_words // len(opened.scales))
        narrow = narrow.to(torch.float32) * opened.scales[torch.from_numpy(rows)]
    return words_of(narrow.to(record.kind.torch))


def decode(record: EncodedRecord, blob: Source, above: Numbers = NO_ROWS) -> Tensor:
    """Rebuild the dense tensor. The arguments are those of `open_blob`.

    Raises:
        FormatError: the blob is not what its record says.
    """
    is_written = isinstance(record, Record) and record.positions in ("all", "mask")
    tensor = (empty_of if is_written else zeros_of)(record.kind, record.shape)
    words = words_of(tensor)
    opened = open_blob(record, blob, above, into=words, at_once=CHUNK)
    for chunk, stored in opened.kept:
        wide = widen(opened, chunk, stored)
        if len(wide) == chunk.stop - chunk.start:  # a copy is faster than a scatter
            if not np.may_share_memory(wide, words):
                words[chunk.start : chunk.stop] = wide
        elif chunk.bits is not None:  # which writes the zeros, too
            put_kept_(words[chunk.start : chunk.stop], chunk.bits, wide)
        elif len(wide):
            scatter_(words, chunk.positions, wide)
    return tensor
