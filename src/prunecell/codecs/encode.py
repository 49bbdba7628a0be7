"""One tensor -> its record and its blob, in the forms that are smallest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import RAW, Setting, choose_setting
from prunecell.codecs.dtypes import (
    ELEMENT_TYPES,
    ElementType,
    Numbers,
    element_type,
    words_of,
    words_to_store,
)
from prunecell.codecs.encode_integers import encode_integers
from prunecell.codecs.integers import integers_in, scaled_integers
from prunecell.codecs.narrowing import chunks_of, narrowed
from prunecell.codecs.positions import POSITION_FORMS
from prunecell.codecs.records import IntegerRecord, Record, StreamFacts
from prunecell.codecs.values import VALUE_FORMS, ValueForm, distinct

_SAMPLE = 1 << 18  # words of a sample on which forms are tried; a sample with few kept words is larger
_SAMPLE_KEPT = 1 << 17  # kept words that a sample should have, because with fewer the tables of a coder weigh too much
_WORTH = 0.98  # integers under contexts are chosen if they take at most this part of the other forms: they are slower
_WINDOWS = 16  # runs of words, spread over a large tensor, that its sample is made of


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What a file may be written with: names in `POSITION_FORMS` and `VALUE_FORMS`. The first of equal sizes wins."""

    positions: tuple[str, ...]
    values: tuple[str, ...]


BACKENDS = {
    "zlib": Backend(positions=("gaps8", "mask"), values=("planes", "codebook")),
    "pcodec": Backend(positions=("gaps8", "gaps32", "mask"), values=("planes", "numbers", "codebook")),
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

    record: Record | IntegerRecord
    blob: list[bytes]
    rows: Numbers | None = None


@dataclass(frozen=True, kw_only=True)
class _Values:
    """A chosen form of values: its name, the settings of its streams, and the bytes that it makes of the sample."""

    name: str
    form: ValueForm
    settings: tuple[Setting, ...]
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Positions:
    """A chosen form of positions: its name, the setting of its stream, and the bytes that it makes of the sample."""

    name: str
    setting: Setting
    n_bytes: int


def encode(
    tensor: Tensor | Scaled, *, backend: str = "zlib", before: Mapping[str, Numbers] = MappingProxyType({})
) -> Encoded:
    """Encode one tensor without loss: the decoded tensor has the same bits; a bool is 0 or 1.

    Args:
        tensor: a dtype of `ELEMENT_TYPES`, any shape and strides.
        backend: a name in `BACKENDS`.
        before: the `rows` of tensors before it in the file, by their names. One that seems to feed it becomes `above`.
    """
    if isinstance(tensor, Scaled):
        shape, kind = tuple(tensor.integers.shape), element_type(tensor.dtype)
        words = words_of(tensor.integers)
        steps = words_of(tensor.scales)
        encoded = encode_words(words, kind, shape, backend, stored=ELEMENT_TYPES["int8"], scales=steps)
        ways = iter([scaled_integers(words.view("i1"), "steps", steps.view("<f4"))])
    else:
        shape, kind, words = tuple(tensor.shape), element_type(tensor.dtype), words_to_store(tensor)
        encoded = encode_words(words, kind, shape, backend)
        ways = integers_in(words, kind, shape)
    for found in ways if encoded.record.count else ():
        smaller = encode_integers(found, kind, shape, before, int(encoded.record.n_bytes * _WORTH))
        if smaller is not None:
            record, blob, rows = smaller
            encoded = Encoded(record=record, blob=blob, rows=rows)
    return encoded


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
    record = Record(kind=kind, shape=shape, stored=kind, positions="none", values="none", count=0, streams=())
    if not words.any():
        return Encoded(record=record, blob=[])
    if stored is None:
        words, stored = narrowed(words, kind)
    positions, values = _choose(words, stored, BACKENDS[backend])
    count, streams = _write(words, positions, values)
    before = [
        numbers for numbers in (scales, values.form.book if values.form.has_book else None) if numbers is not None
    ]
    at = 0 if positions is None else 1
    streams[at:at] = [(RAW, [numbers.tobytes()]) for numbers in before]
    record = replace(
        record,
        stored=stored,
        positions="all" if positions is None else positions.name,
        values=values.name,
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


def _choose(words: Numbers, stored: ElementType, backend: Backend) -> tuple[_Positions | None, _Values]:
    """Try every form on a sample; return the smallest ones, with None for positions if all words are to be kept."""
    sample = _sample(words, _SAMPLE)
    book = None if stored.itemsize == 1 or distinct(sample) is None else distinct(words)
    dense = _best_values(sample, stored, backend, book)
    n_kept = np.count_nonzero(sample)
    if n_kept == len(sample):
        return None, dense
    price = dense.n_bytes / len(sample)
    if n_kept < _SAMPLE_KEPT:
        sample = _sample(words, _SAMPLE * _SAMPLE_KEPT // (int(n_kept) + 1))
    positions = np.flatnonzero(sample != 0)
    sparse = _best_values(sample[positions], stored, backend, None if book is None else book[book != 0])
    where = [_try_positions(name, positions, len(sample)) for name in backend.positions]
    best = min(where, key=lambda tried: tried.n_bytes)
    return (best, sparse) if best.n_bytes + sparse.n_bytes < price * len(sample) else (None, dense)


def _best_values(words: Numbers, stored: ElementType, backend: Backend, book: Numbers | None) -> _Values:
    tried = [_try_values(name, form, words) for name, form in _forms(stored, backend, book)]
    return min(tried, key=lambda values: values.n_bytes)


def _forms(stored: ElementType, backend: Backend, book: Numbers | None) -> Iterator[tuple[str, ValueForm]]:
    """Make the forms that are tried; one that needs a book is tried only if there is one."""
    for name in backend.values:
        form = VALUE_FORMS[name]
        if not form.has_book:
            yield name, form(kind=stored)
        elif book is not None:
            yield name, form(kind=stored, book=book)


def _try_values(name: str, form: ValueForm, words: Numbers) -> _Values:
    chosen = [choose_setting(numbers) for numbers in form.split(words)]
    n_bytes = form.book.nbytes + sum(size for _, size in chosen)
    return _Values(name=name, form=form, settings=tuple(setting for setting, _ in chosen), n_bytes=n_bytes)


def _try_positions(name: str, positions: Numbers, size: int) -> _Positions:
    setting, n_bytes = choose_setting(POSITION_FORMS[name].writer().numbers(positions, size))
    return _Positions(name=name, setting=setting, n_bytes=n_bytes)


def _write(
    words: Numbers, positions: _Positions | None, values: _Values
) -> tuple[int, list[tuple[Setting, list[bytes]]]]:
    """Write all words in the chosen forms; return how many are kept, and the streams."""
    where = None if positions is None else POSITION_FORMS[positions.name].writer()
    settings = values.settings if positions is None else (positions.setting, *values.settings)
    writers = [setting.writer() for setting in settings]
    count = 0
    for chunk in chunks_of(words):
        streams, kept = [], chunk
        if where is not None:
            at = np.flatnonzero(chunk != 0)
            streams, kept = [where.numbers(at, len(chunk))], chunk[at]
        count += len(kept)
        for writer, numbers in zip(writers, streams + values.form.split(kept), strict=True):
            writer.write(numbers)
    return count, [(setting, writer.finish()) for setting, writer in zip(settings, writers, strict=True)]
