"""One tensor -> its record and its blob, in the form that is smallest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers, element_type, words_of
from prunecell.codecs.positions import CHUNK, POSITION_FORMS
from prunecell.codecs.records import NARROWER, Record, StreamFacts
from prunecell.codecs.streams import HUFFMAN, PCO, REPEATS, Coder, choose_coder
from prunecell.codecs.values import MAX_CODEBOOK, Codebook, Planes, ValueForm, Whole, distinct

_SAMPLE_BLOCKS = 16  # spread over the tensor, so that no part of it decides alone
BACKENDS = {"zlib": (HUFFMAN, REPEATS), "pcodec": (HUFFMAN, REPEATS, PCO)}


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Integers and one scale for every row: the tensor is `integers * scales[row]`.

    Attributes:
        integers: int8, of the tensor's shape, at least one dimension.
        scales: float32, one for each index of the first dimension.
        dtype: the dtype of the tensor.
    """

    integers: Tensor
    scales: Tensor
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A record and the pieces of its blob."""

    record: Record
    blob: list[bytes]


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A choice: how positions and values are written, with which coders, and the bytes of the sample."""

    positions: str
    values: ValueForm | None
    coders: tuple[Coder, ...]
    size: float


def encode(tensor: Tensor | Scaled, *, backend: str = "zlib") -> Encoded:
    """Encode one tensor; decoding gives the same bits.

    Args:
        tensor: any dtype of `ELEMENT_TYPES`, any shape, any strides.
        backend: a name in `BACKENDS`.
    """
    coders = BACKENDS[backend]
    if isinstance(tensor, Scaled):
        dense, kind = tensor.integers, element_type(tensor.dtype)
        words, stored = words_of(dense), ELEMENT_TYPES["int8"]
        aside = [words_of(tensor.scales)]
        if not words.any():
            stored, aside = kind, []
    else:
        dense, kind = tensor, element_type(tensor.dtype)
        words, stored = _narrowed(words_of(dense), kind)
        aside = []
    sample = _sample(words)
    form = _choose(words, sample, stored, coders)
    streams, blob, count = _write(words, form, aside)
    record = Record(
        kind=kind,
        shape=tuple(dense.shape),
        positions=form.positions,
        values=form.values.name if form.values else "none",
        stored=stored,
        count=count,
        streams=streams,
    )
    return Encoded(record=record, blob=blob)


def chunks(words: Numbers) -> Iterator[Numbers]:
    """Cut words into chunks that stay in the cache."""
    for start in range(0, len(words), CHUNK):
        yield words[start : start + CHUNK]


def _sample(words: Numbers) -> Numbers:
    """Return all of a small tensor, and blocks spread evenly over a large one."""
    if len(words) <= CHUNK:
        return words
    size = CHUNK // _SAMPLE_BLOCKS
    starts = np.linspace(0, len(words) - size, _SAMPLE_BLOCKS).astype(np.int64) // 8 * 8
    return np.concatenate([words[start : start + size] for start in starts])


def _narrowed(words: Numbers, kind: ElementType) -> tuple[Numbers, ElementType]:
    """Store the words in a narrower dtype if that changes no bit of any of them."""
    for name in NARROWER.get(kind.name, ()):
        if name == "int8":
            continue
        narrow = ELEMENT_TYPES[name]
        if all(_cast(chunk, kind, narrow) is not None for chunk in _glances(words)):
            cast = np.concatenate(
                [_cast(chunk, kind, narrow) for chunk in chunks(words)] or [words.astype(narrow.word)]
            )
            return cast, narrow
    return words, kind


def _glances(words: Numbers) -> Iterator[Numbers]:
    yield words[:64]
    yield from chunks(words)


def _cast(words: Numbers, kind: ElementType, narrow: ElementType) -> Numbers | None:
    wide = torch.from_numpy(words.copy()).view(kind.torch)
    cast = wide.to(narrow.torch)
    if wide.isnan().any() or not np.array_equal(words_of(cast.to(kind.torch)), words):
        return None
    return words_of(cast)


def _choose(words: Numbers, sample: Numbers, stored: ElementType, coders: tuple[Coder, ...]) -> _Form:
    """Try every form on the sample; return the smallest."""
    kept = sample[sample != 0]
    if not words.any():
        return _Form(positions="none", values=None, coders=(), size=0)
    forms = []
    books = _books(words, sample, stored)
    if len(kept) < len(sample) or not words.all():
        best = _best_values(kept, stored, books, coders)
        for name, position_form in POSITION_FORMS.items():
            if name == "gaps32" and (PCO not in coders or len(words) >= 1 << 32):
                continue
            numbers = position_form.writer().numbers(np.flatnonzero(sample), len(sample))
            coder, size = choose_coder(numbers, _fitting(coders, numbers))
            forms.append(_Form(positions=name, values=best.values, coders=(coder, *best.coders), size=size + best.size))
    dense = _best_values(sample, stored, books, coders)
    forms.append(_Form(positions="all", values=dense.values, coders=dense.coders, size=dense.size))
    return min(forms, key=lambda form: form.size)


def _books(words: Numbers, sample: Numbers, stored: ElementType) -> Numbers | None:
    if stored.word.itemsize == 1 or len(words) < MAX_CODEBOOK // 8:
        return None
    if distinct(sample) is None:
        return None
    return distinct(words)


def _best_values(words: Numbers, stored: ElementType, book: Numbers | None, coders: tuple[Coder, ...]) -> _Form:
    candidates: list[ValueForm] = [Planes(kind=stored)]
    if PCO in coders and stored.word.itemsize > 1:
        candidates.append(Whole(kind=stored))
    if book is not None:
        candidates.append(Codebook(book=book))
    forms = []
    for values in candidates:
        chosen = [choose_coder(numbers, _fitting(coders, numbers)) for numbers in values.split(words)]
        size = sum(size for _, size in chosen) + sum(numbers.nbytes for numbers in values.aside)
        forms.append(_Form(positions="all", values=values, coders=tuple(coder for coder, _ in chosen), size=size))
    return min(forms, key=lambda form: form.size)


def _fitting(coders: tuple[Coder, ...], numbers: Numbers) -> tuple[Coder, ...]:
    return tuple(coder for coder in coders if (coder is PCO) == (numbers.dtype.itemsize > 1))


def _write(words: Numbers, form: _Form, scales: list[Numbers]) -> tuple[tuple[StreamFacts, ...], list[bytes], int]:
    """Write all chunks in the chosen form."""
    if form.values is None:
        return (), [], 0
    writers = [coder.writer() for coder in form.coders]
    counts = [0] * len(writers)
    where = None if form.positions == "all" else POSITION_FORMS[form.positions].writer()
    n_kept = 0
    for chunk in chunks(words):
        parts = []
        kept = chunk
        if where is not None:
            positions = np.flatnonzero(chunk != 0)
            kept = chunk[positions]
            parts.append(where.numbers(positions, len(chunk)))
        n_kept += len(kept)
        parts += form.values.split(kept)
        for j, numbers in enumerate(parts):
            writers[j].write(numbers)
            counts[j] += len(numbers)
    facts, blob = [], []
    for j, (coder, writer, count) in enumerate(zip(form.coders, writers, counts, strict=True)):
        pieces = writer.finish()
        facts.append(StreamFacts(coder=coder.name, count=count, n_bytes=sum(map(len, pieces))))
        blob.append(pieces)
    n_positions = 0 if where is None else 1
    for numbers in reversed([*scales, *form.values.aside]):
        facts.insert(n_positions, StreamFacts(coder="raw", count=len(numbers), n_bytes=numbers.nbytes))
        blob.insert(n_positions, [numbers.tobytes()])
    return tuple(facts), [piece for pieces in blob for piece in pieces], n_kept
