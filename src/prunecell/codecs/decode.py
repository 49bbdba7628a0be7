"""A checked record and its blob -> the tensor, or its kept words stretch by stretch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.dtypes import Numbers, tensor_of, words_of, zeros_of
from prunecell.codecs.positions import POSITION_FORMS, Where, read_all
from prunecell.codecs.records import Record, layout
from prunecell.codecs.streams import Reader, reader
from prunecell.codecs.values import Codebook, Planes, ValueForm, Whole
from prunecell.errors import FormatError


def open_streams(record: Record, blob: memoryview) -> list[Reader]:
    """Open every stream of a blob."""
    readers, at = [], 0
    for (dtype, _), stream in zip(layout(record), record.streams, strict=True):
        readers.append(reader(stream.coder, blob[at : at + stream.n_bytes], dtype, stream.count))
        at += stream.n_bytes
    return readers


def read_kept(record: Record, blob: memoryview) -> Iterator[tuple[Where, Numbers]]:
    """Give the kept words in their stored type, stretch by stretch; the stretches cover the tensor."""
    streams = open_streams(record, blob)
    at = 0
    if record.positions in POSITION_FORMS:
        form, facts = POSITION_FORMS[record.positions], record.streams[0]
        where = form.read(streams[0], facts.count, record.n_words)
        at = 1
    else:
        where = read_all(record.n_words) if record.positions == "all" else _nowhere(record.n_words)
    at += record.is_scaled
    values, at = _value_form(record, streams, at)
    left = record.count
    for stretch in where:
        count = len(stretch.positions)
        if count > left:
            raise FormatError(f"more than {record.count} positions")
        left -= count
        kept = values.join([s.read(count) for s in streams[at:]]) if count else np.empty(0, record.stored.word)
        if record.kind.name == "bool" and (kept > 1).any():
            raise FormatError("a bool that is neither 0 nor 1")
        yield stretch, kept
    if left:
        raise FormatError(f"{left} of {record.count} positions are missing")
    for stream in (streams[:1] if record.positions in POSITION_FORMS else []) + streams[at:]:
        stream.finish()


def _nowhere(n_words: int) -> Iterator[Where]:
    yield Where(start=0, stop=n_words, positions=np.empty(0, np.int64))


def _value_form(record: Record, streams: list[Reader], at: int) -> tuple[ValueForm, int]:
    if record.values == "codebook":
        return Codebook(book=streams[at].read(record.streams[at].count).copy()), at + 1
    form = Whole if record.values == "numbers" else Planes
    return form(kind=record.stored), at


def read_scales(record: Record, blob: memoryview) -> Tensor | None:
    """Read the scales of the rows, float32; None where there are none."""
    if not record.is_scaled:
        return None
    index = 1 if record.positions in POSITION_FORMS else 0
    scales = open_streams(record, blob)[index].read(record.n_scales)
    return torch.from_numpy(scales.astype(np.float32))


def widen(record: Record, where: Where, kept: Numbers, scales: Tensor | None) -> Numbers:
    """Turn kept words of the stored type into words of the tensor's own."""
    if record.stored is record.kind:
        return kept
    narrow = tensor_of(kept, record.stored)
    if scales is not None:
        rows = torch.from_numpy(where.positions // (record.n_words // record.n_scales))
        wide = narrow.to(torch.float32) * scales[rows]
        return words_of(wide.to(record.kind.torch))
    return words_of(narrow.to(record.kind.torch))


def decode(record: Record, blob: memoryview) -> Tensor:
    """Rebuild the dense tensor.

    Raises:
        FormatError: the blob is not what the record says.
    """
    tensor = zeros_of(record.kind, record.shape)
    out = words_of(tensor)
    scales = read_scales(record, blob)
    for where, kept in read_kept(record, blob):
        words = widen(record, where, kept, scales)
        if record.positions == "all":
            out[where.start : where.stop] = words
        elif len(words):
            out[where.positions] = words
    return tensor
