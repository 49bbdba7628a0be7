"""A checked record and its blob -> the tensor, or its kept words chunk by chunk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import open_reader
from prunecell.codecs.dtypes import ElementType, Numbers, tensor_of, words_of, zeros_of
from prunecell.codecs.positions import POSITION_FORMS, Chunk, cover, read_all
from prunecell.codecs.records import Record, plan
from prunecell.codecs.streams import Reader, Source, read_exactly
from prunecell.codecs.values import VALUE_FORMS, Planes, ValueForm
from prunecell.codecs.words import scatter_
from prunecell.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A blob, ready to be read once.

    Attributes:
        positions: the stream of positions, None where there is none.
        scales: float32, one for each index of the first dimension; None where words are not scaled.
        form: how values are joined.
        values: the streams of values.
    """

    record: Record
    positions: Reader | None
    scales: Tensor | None
    form: ValueForm
    values: list[Reader]


def open_blob(record: Record, blob: Source) -> Opened:
    """Open the streams of a blob whose record was checked.

    Raises:
        FormatError: the scales or the codebook, which are read at once, are damaged.
    """
    streams: dict[str, list[Reader]] = {"positions": [], "scales": [], "book": [], "values": []}
    at = 0
    for want, facts in zip(plan(record), record.streams, strict=True):
        source = blob.section(at, at + facts.n_bytes)
        streams[want.role].append(open_reader(facts.coder, source, want.dtype, want.count or 0))
        at += facts.n_bytes
    scales = [read_exactly(stream, record.shape[0]).copy() for stream in streams["scales"]]
    if not all(np.isfinite(one).all() for one in scales):
        raise FormatError("a scale that is not finite")
    books = [stream.read(len(blob)).copy() for stream in streams["book"]]
    form = VALUE_FORMS.get(record.values, Planes)  # where there are no values, nothing is joined
    return Opened(
        record=record,
        positions=streams["positions"][0] if streams["positions"] else None,
        scales=torch.from_numpy(scales[0]) if scales else None,
        form=form(kind=record.stored, book=books[0]) if books else form(kind=record.stored),
        values=streams["values"],
    )


def read_kept(opened: Opened) -> Iterator[tuple[Chunk, Numbers]]:
    """Give the chunks of the whole tensor in their order, each with its kept words as they are stored.

    Raises:
        FormatError: the blob is not what its record says; the chunks that were given before must not be used either.
    """
    record, left = opened.record, opened.record.count
    for chunk in cover(_chunks(opened), record.n_words):
        count = len(chunk.positions)
        left -= count
        if left < 0:
            raise FormatError(f"more positions than the {record.count} kept words")
        yield chunk, _words(opened, count)
    if left:
        raise FormatError(f"{record.count - left} positions for {record.count} kept words")
    for stream in opened.values if opened.positions is None else [opened.positions, *opened.values]:
        stream.finish()


def _chunks(opened: Opened) -> Iterator[Chunk]:
    record = opened.record
    if opened.positions is not None:
        return POSITION_FORMS[record.positions].read(opened.positions, record.n_words)
    return read_all(record.n_words if record.positions == "all" else 0)


def _words(opened: Opened, count: int) -> Numbers:
    if not count:
        return np.empty(0, opened.record.stored.word)
    words = opened.form.join([read_exactly(stream, count) for stream in opened.values])
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
        rows = chunk.positions // (record.n_words // record.shape[0])
        narrow = narrow.to(torch.float32) * opened.scales[torch.from_numpy(rows)]
    return words_of(narrow.to(record.kind.torch))


def decode(record: Record, blob: Source) -> Tensor:
    """Rebuild the dense tensor.

    Raises:
        FormatError: the blob is not what its record says.
    """
    tensor = zeros_of(record.kind, record.shape)
    words = words_of(tensor)
    opened = open_blob(record, blob)
    for chunk, stored in read_kept(opened):
        wide = widen(opened, chunk, stored)
        if record.positions == "all":  # a copy is faster than a scatter
            words[chunk.start : chunk.stop] = wide
        elif len(wide):
            scatter_(words, chunk.positions, wide)
    return tensor
