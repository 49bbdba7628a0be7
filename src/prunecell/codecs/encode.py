"""One tensor -> its record and its blob, in the forms that are smallest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import RAW, Choice, Setting, Tried, choose_setting
from prunecell.codecs.dtypes import (
    ELEMENT_TYPES,
    ElementType,
    Numbers,
    element_type,
    words_of,
    words_to_store,
)
from prunecell.codecs.encode_integers import encode_integers
from prunecell.codecs.integers import Integers, book_in, few_of, integers_in, may_have_book, scaled_integers
from prunecell.codecs.kept import take_kept
from prunecell.codecs.narrowing import chunks_of, is_zero, narrowed
from prunecell.codecs.positions import CHUNK, POSITION_FORMS
from prunecell.codecs.records import EncodedRecord, IntegerRecord, Record, StreamFacts
from prunecell.codecs.streams import Bytes
from prunecell.codecs.values import VALUE_FORMS, ValueForm, distinct

_SAMPLE = 1 << 18  # words of a sample on which forms are tried; a sample with few kept words is larger
_SAMPLE_KEPT = 1 << 17  # kept words that a sample should have, because with fewer the tables of a coder weigh too much
_WORTH = 0.98  # integers under contexts are chosen if they take at most this part of the other forms: they are slow
_WORTH_OF_FEW = 1.0  # the same of up to _SLOW words, beside bytes with steps
_SLOW = 1 << 16
_NEAR = 1.02  # floats are written beside their integers if a sample of them takes less than this part of those
_WINDOWS = 16  # runs of words, spread over a large tensor, that its sample is made of


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What a file may be written with: names in `POSITION_FORMS` and `VALUE_FORMS`. The first of equal sizes wins."""

    positions: tuple[str, ...]
    values: tuple[str, ...]
    coders: Tried


BACKENDS = {
    # deflate makes up to a tenth less of few bytes than zstd; of many as much, but in ten times the time
    "zstd": Backend(
        positions=("gaps8", "mask"), values=("planes", "codebook"), coders=Tried(few=("deflate",), many=("zstd",))
    ),
    "zlib": Backend(
        positions=("gaps8", "mask"), values=("planes", "codebook"), coders=Tried(few=("deflate",), many=("deflate",))
    ),
    "pcodec": Backend(
        positions=("gaps8", "gaps32", "mask"),
        values=("planes", "numbers", "codebook"),
        coders=Tried(few=("deflate", "pco"), many=("zstd", "pco")),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A tensor as integers and one scale for each index of its first dimension: `integers * scales`.

    Attributes:
        integers: int8, of the tensor's shape, which has at least one dimension.
        scales: float32, one for each index of the first dimension.
        dtype: the dtype of the tensor, a float.
    """

    integers: Tensor
    scales: Tensor
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A record and its blob, in several `bytes`.

    Attributes:
        rows: uint8, 1 for each row of the tensor that is not zero; None where the tensor is not stored as integers.
    """

    record: EncodedRecord
    blob: Sequence[Bytes]
    rows: Numbers | None = None


@dataclass(frozen=True, kw_only=True)
class _Values:
    """A form of values, how its streams are written, and the bytes that it makes of the sample."""

    name: str
    form: ValueForm
    streams: tuple[Choice, ...]
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Positions:
    """A form of positions, and how its stream is written."""

    name: str
    stream: Choice


@dataclass(frozen=True, kw_only=True)
class _Forms:
    """The forms of words.

    Attributes:
        positions: None if all words are kept.
        n_bytes: of all words, about.
        n_kept: words of the sample.
    """

    positions: _Positions | None
    values: _Values
    n_bytes: float
    n_kept: int

    @property
    def streams(self) -> tuple[Choice, ...]:
        """How the streams are written."""
        return self.values.streams if self.positions is None else (self.positions.stream, *self.values.streams)


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """A tensor that is encoded as far as the tensors before it do not matter.

    Attributes:
        words, kind, shape: of the tensor.
        few: its distinct words, where they are few and floats.
        found: it as whole numbers.
        encoded: it in streams.
        limit: the bytes that integers under contexts must stay below to be chosen instead.
    """

    words: Numbers
    kind: ElementType
    shape: tuple[int, ...]
    few: Numbers | None
    found: Integers | None
    encoded: Encoded
    limit: int


def encode(
    tensor: Tensor | Scaled, *, backend: str = "zstd", before: Mapping[str, Numbers] = MappingProxyType({})
) -> Encoded:
    """Encode one tensor without loss: the decoded tensor has the same bits; a bool is 0 or 1.

    Args:
        tensor: a dtype of `ELEMENT_TYPES`, any shape and strides.
        backend: a name in `BACKENDS`.
        before: the `rows` of tensors before it in the file, by their names. One that seems to feed it becomes `above`.
    """
    return finish(begin(tensor, backend=backend), before)


def begin(tensor: Tensor | Scaled, *, backend: str) -> Begun:
    """Encode one tensor in streams, and look for integers in it."""
    kind, few, found = element_type(tensor.dtype), None, None
    if isinstance(tensor, Scaled):
        shape, words, steps = tuple(tensor.integers.shape), words_of(tensor.integers), words_of(tensor.scales)
        encoded = encode_words(words, kind, shape, backend, stored=ELEMENT_TYPES["int8"], scales=steps)
        found = scaled_integers(words.view("i1"), "steps", steps.view("<f4"))
        limit = _worth(encoded)
    else:
        shape, words = tuple(tensor.shape), words_to_store(tensor)
        if not is_zero(words):
            few = few_of(words) if kind.is_float else None
            found = integers_in(words, few, kind, shape)
        encoded, limit = _in_streams(words, found, kind, shape, backend)
    return Begun(words=words, kind=kind, shape=shape, few=few, found=found, encoded=encoded, limit=limit)


def finish(begun: Begun, before: Mapping[str, Numbers]) -> Encoded:
    """Encode the integers of a tensor, where it is smaller so; `before` is as in `encode`."""
    encoded, limit, kind, shape = begun.encoded, begun.limit, begun.kind, begun.shape
    if not encoded.record.count:
        return encoded
    if begun.found is not None and (smaller := encode_integers(begun.found, kind, shape, before, limit)) is not None:
        encoded = _with_rows(*smaller)
        limit = _worth(encoded)
    if (
        may_have_book(begun.words, begun.found)
        and (book := book_in(begun.words, begun.few, kind, limit)) is not None
        and (smaller := encode_integers(book, kind, shape, before, limit)) is not None
    ):
        encoded = _with_rows(*smaller)
    return encoded


def _with_rows(record: IntegerRecord, blob: Sequence[Bytes], rows: Numbers) -> Encoded:
    return Encoded(record=record, blob=blob, rows=rows)


def _worth(encoded: Encoded) -> int:
    """The bytes that integers under contexts must stay below to be chosen instead."""
    return int(encoded.record.n_bytes * _WORTH)


def _in_streams(
    words: Numbers, found: Integers | None, kind: ElementType, shape: tuple[int, ...], backend: str
) -> tuple[Encoded, int]:
    """Encode words as they are or, where they are found to be small integers with steps, as those.

    Returns:
        (the smaller one; the bytes that integers under contexts must stay below to be chosen instead)
    """
    is_scaled = found is not None and found.meaning in ("step", "steps") and found.stored.name == "int8"
    if found is None or not is_scaled or not shape or 4 * shape[0] >= words.nbytes:
        encoded = encode_words(words, kind, shape, backend)
        return encoded, _worth(encoded)
    scaled = encode_words(
        words_of(torch.from_numpy(found.numbers).to(torch.int8)),
        *(kind, shape, backend),
        stored=found.stored,
        scales=np.ascontiguousarray(np.broadcast_to(found.prefix, shape[:1])),
    )
    words, stored = narrowed(words, kind)
    forms = _choose(words, stored, BACKENDS[backend])
    if forms.n_bytes < _NEAR * scaled.record.n_bytes:
        floats = _encoded(words, kind, shape, stored, forms, None)
        if floats.record.n_bytes <= scaled.record.n_bytes:
            return floats, _worth(floats)
    return scaled, _worth(scaled) if len(words) > _SLOW else int(scaled.record.n_bytes * _WORTH_OF_FEW)


def encode_words(
    words: Numbers,
    kind: ElementType,
    shape: tuple[int, ...],
    backend: str,
    *,
    stored: ElementType | None = None,
    scales: Numbers | None = None,
) -> Encoded:
    """Encode words in the smallest forms of positions and values."""
    if is_zero(words):
        record = Record(kind=kind, shape=shape, stored=kind, positions="none", values="none", count=0, streams=())
        return Encoded(record=record, blob=[])
    if stored is None:
        words, stored = narrowed(words, kind)
    return _encoded(words, kind, shape, stored, _choose(words, stored, BACKENDS[backend]), scales)


def _encoded(
    words: Numbers,
    kind: ElementType,
    shape: tuple[int, ...],
    stored: ElementType,
    forms: _Forms,
    scales: Numbers | None,
) -> Encoded:
    count, streams = _write(words, forms)
    books = (scales, forms.values.form.book if forms.values.form.has_book else None)
    at = 0 if forms.positions is None else 1
    streams[at:at] = [(RAW, [numbers.tobytes()]) for numbers in books if numbers is not None]
    record = Record(
        kind=kind,
        shape=shape,
        stored=stored,
        positions="all" if forms.positions is None else forms.positions.name,
        values=forms.values.name,
        count=count,
        streams=tuple(StreamFacts(coder=s.coder, n_bytes=sum(map(len, written))) for s, written in streams),
    )
    return Encoded(record=record, blob=[data for _, written in streams for data in written])


def _sample(words: Numbers, total: int) -> Numbers:
    """Return all words of a small tensor, and those in windows spread evenly over a large one."""
    if len(words) <= total:
        return words
    size = total // _WINDOWS
    starts = np.linspace(0, len(words) - size, _WINDOWS).astype(np.int64)
    return np.concatenate([words[start : start + size] for start in starts])


def _choose(words: Numbers, stored: ElementType, backend: Backend) -> _Forms:
    """Try every form on a sample that may be the smallest."""
    sample = _sample(words, _SAMPLE)
    book = None if stored.itemsize == 1 else distinct(sample)
    if book is not None and len(sample) < len(words):
        book = distinct(words)
    dense = _best_values(sample, stored, backend, book)
    n_kept = int(np.count_nonzero(sample))
    if n_kept == len(sample):
        return _forms(None, dense, n_kept, len(words) / len(sample))
    price = dense.n_bytes / len(sample)
    forms = _forms(None, dense, len(sample), len(words) / len(sample))
    if n_kept < _SAMPLE_KEPT:
        sample = _sample(words, _SAMPLE * _SAMPLE_KEPT // (n_kept + 1))
    bits, kept = take_kept(sample)
    values = _best_values(kept, stored, backend, None if book is None else book[book != 0])
    tried = [
        _Positions(
            name=name, stream=choose_setting(POSITION_FORMS[name].writer().numbers(bits, len(sample)), backend.coders)
        )
        for name in backend.positions
    ]
    positions = min(tried, key=lambda tried: tried.stream.n_bytes)
    if positions.stream.n_bytes + values.n_bytes < price * len(sample):
        return _forms(positions, values, len(kept), len(words) / len(sample))
    return forms


def _forms(positions: _Positions | None, values: _Values, n_kept: int, times: float) -> _Forms:
    """Scale what was found on a sample up to all words, which are so many times as many."""
    book = values.form.book.nbytes
    n_bytes = book + times * (values.n_bytes - book + (positions.stream.n_bytes if positions else 0))
    return _Forms(positions=positions, values=values, n_bytes=n_bytes, n_kept=n_kept)


def _best_values(words: Numbers, stored: ElementType, backend: Backend, book: Numbers | None) -> _Values:
    """Try the forms of values; one with a book only if there is one, which takes less than the best form before it."""
    best: _Values | None = None
    for name in backend.values:
        form = VALUE_FORMS[name]
        if not form.has_book:
            tried = _try_values(name, form(kind=stored), words, backend.coders)
        elif book is not None and (best is None or book.nbytes < best.n_bytes):
            tried = _try_values(name, form(kind=stored, book=book), words, backend.coders)
        else:
            continue
        best = tried if best is None or tried.n_bytes < best.n_bytes else best
    if best is None:
        raise AssertionError("every backend has a form without a book")
    return best


def _try_values(name: str, form: ValueForm, words: Numbers, coders: Tried) -> _Values:
    streams = tuple(choose_setting(numbers, coders) for numbers in form.split(words))
    n_bytes = form.book.nbytes + sum(stream.n_bytes for stream in streams)
    return _Values(name=name, form=form, streams=streams, n_bytes=n_bytes)


def _write(words: Numbers, forms: _Forms) -> tuple[int, list[tuple[Setting, Sequence[Bytes]]]]:
    """Write all words in the chosen forms; return how many are kept, and the streams."""
    written = [(stream.setting, stream.written) for stream in forms.streams if stream.written is not None]
    if len(words) <= CHUNK and len(written) == len(forms.streams):
        return forms.n_kept, written  # the sample was all, and small
    where = None if forms.positions is None else POSITION_FORMS[forms.positions.name].writer()
    settings = [stream.setting for stream in forms.streams]
    writers = [setting.writer() for setting in settings]
    count = 0
    for chunk in chunks_of(words):
        streams, kept = [], chunk
        if where is not None:
            bits, kept = take_kept(chunk)
            streams = [where.numbers(bits, len(chunk))]
        count += len(kept)
        for writer, numbers in zip(writers, streams + forms.values.form.split(kept), strict=True):
            writer.write(numbers)
    return count, [(setting, writer.finish()) for setting, writer in zip(settings, writers, strict=True)]
