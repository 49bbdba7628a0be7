"""One tensor -> its record and its blob, in the forms that are smallest."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import RAW, Setting, choose_setting
from prunecell.codecs.dtypes import (
    ELEMENT_TYPES,
    ElementType,
    Numbers,
    element_type,
    tensor_of,
    words_of,
    words_to_store,
)
from prunecell.codecs.positions import CHUNK, POSITION_FORMS
from prunecell.codecs.records import NARROWER, Record, StreamFacts
from prunecell.codecs.values import VALUE_FORMS, ValueForm, distinct

_SAMPLE = 1 << 18  # words of a sample on which forms are tried; a sample with few kept words is larger
_SAMPLE_KEPT = 1 << 17  # kept words that a sample should have, because with fewer the tables of a coder weigh too much
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
    """A record and its blob, in several `bytes`."""

    record: Record
    blob: list[bytes]


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


def encode(tensor: Tensor | Scaled, *, backend: str = "zlib") -> Encoded:
    """Encode one tensor without loss: the decoded tensor has the same bits; a bool is 0 or 1.

    Args:
        tensor: a dtype of `ELEMENT_TYPES`, any shape and strides.
        backend: a name in `BACKENDS`.
    """
    if isinstance(tensor, Scaled):
        shape, kind, stored = tensor.integers.shape, element_type(tensor.dtype), ELEMENT_TYPES["int8"]
        words, before = words_of(tensor.integers), [words_of(tensor.scales)]
    else:
        shape, kind, before = tensor.shape, element_type(tensor.dtype), []
        words, stored = _narrowed(words_to_store(tensor), kind)
    record = Record(kind=kind, shape=tuple(shape), stored=kind, positions="none", values="none", count=0, streams=())
    if not words.any():
        return Encoded(record=record, blob=[])
    positions, values = _choose(words, stored, BACKENDS[backend])
    count, streams = _write(words, positions, values)
    before += [values.form.book] if values.form.has_book else []
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


def _chunks(words: Numbers) -> Iterator[Numbers]:
    for start in range(0, len(words), CHUNK):
        yield words[start : start + CHUNK]


def _narrowed(words: Numbers, kind: ElementType) -> tuple[Numbers, ElementType]:
    """Store floats in the first narrower type that holds every one of them exactly, if there is any."""
    for narrow in map(ELEMENT_TYPES.__getitem__, NARROWER.get(kind.name, ())):
        narrowed = []
        for chunk in _chunks(words) if narrow.is_float else ():
            cast = _cast(chunk, kind, narrow)
            if cast is None:
                break
            narrowed.append(cast)
        else:
            if narrowed:
                return np.concatenate(narrowed), narrow
    return words, kind


def _cast(words: Numbers, kind: ElementType, narrow: ElementType) -> Numbers | None:
    """Cast words to a narrower float; None if a bit would change, or if there is a NaN, whose bits casts may change."""
    wide = tensor_of(words, kind)
    cast = wide.to(narrow.torch)
    exact = np.array_equal(words_of(cast.to(kind.torch)), words) and not bool(wide.isnan().any())
    return words_of(cast) if exact else None


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
    for chunk in _chunks(words):
        streams, kept = [], chunk
        if where is not None:
            at = np.flatnonzero(chunk != 0)
            streams, kept = [where.numbers(at, len(chunk))], chunk[at]
        count += len(kept)
        for writer, numbers in zip(writers, streams + values.form.split(kept), strict=True):
            writer.write(numbers)
    return count, [(setting, writer.finish()) for setting, writer in zip(settings, writers, strict=True)]
