"""One tensor -> its record and its blob, in the form that is smallest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunecell.codecs.coders import RAW, Coder, choose_coder
from prunecell.codecs.dtypes import ELEMENT_TYPES, ElementType, Numbers, element_type, tensor_of, words_of
from prunecell.codecs.positions import CHUNK, POSITION_FORMS
from prunecell.codecs.records import NARROWER, Record, StreamFacts
from prunecell.codecs.values import Codebook, Planes, ValueForm, Whole, distinct

_SAMPLE = 1 << 18  # words on which forms are tried, and more where few of them are kept
_SAMPLE_KEPT = 1 << 17  # kept words that such a sample should have: with fewer, tables weigh too much
_BLOCKS = 16  # stretches that the sample of a large tensor is made of


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What a file may be written with: the forms of positions and of values that are tried."""

    positions: tuple[str, ...]
    values: dict[str, Callable[..., ValueForm]]


_DEFAULT: dict[str, Callable[..., ValueForm]] = {"planes": Planes}
BACKENDS = {
    "zlib": Backend(positions=("gaps8", "mask"), values=_DEFAULT),
    "pcodec": Backend(positions=("gaps8", "gaps32", "mask"), values={**_DEFAULT, "numbers": Whole}),
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
    """A record and the pieces of its blob."""

    record: Record
    blob: list[bytes]


@dataclass(frozen=True, kw_only=True)
class _Values:
    """A chosen form of values: its name, its coders, and the bytes that it makes of the sample."""

    name: str
    form: ValueForm
    coders: tuple[Coder, ...]
    n_bytes: int

    @property
    def book(self) -> list[Numbers]:
        """The codebook, if the form has one."""
        return [self.form.book] if isinstance(self.form, Codebook) else []


@dataclass(frozen=True, kw_only=True)
class _Positions:
    """A chosen form of positions: its name, its coder, and the bytes that it makes of the sample."""

    name: str
    coder: Coder
    n_bytes: int


def encode(tensor: Tensor | Scaled, *, backend: str = "zlib") -> Encoded:
    """Encode one tensor; what is decoded has the same bits.

    Args:
        tensor: a dtype of `ELEMENT_TYPES`, any shape and strides.
        backend: a name in `BACKENDS`.
    """
    if isinstance(tensor, Scaled):
        shape, kind, stored = tensor.integers.shape, element_type(tensor.dtype), ELEMENT_TYPES["int8"]
        words, aside = words_of(tensor.integers), [words_of(tensor.scales)]
    else:
        shape, kind, aside = tensor.shape, element_type(tensor.dtype), []
        words, stored = _narrowed(words_of(tensor), kind)
    record = Record(kind=kind, shape=tuple(shape), stored=kind, positions="none", values="none", count=0, streams=())
    if not words.any():
        return Encoded(record=record, blob=[])
    positions, values = _choose(words, stored, BACKENDS[backend])
    count, streams = _write(words, positions, values)
    at = 0 if positions is None else 1
    streams[at:at] = [(RAW, [numbers.tobytes()]) for numbers in aside + values.book]
    record = replace(
        record,
        stored=stored,
        positions="all" if positions is None else positions.name,
        values=values.name,
        count=count,
        streams=tuple(StreamFacts(coder=c.name, n_bytes=sum(map(len, pieces))) for c, pieces in streams),
    )
    return Encoded(record=record, blob=[piece for _, pieces in streams for piece in pieces])


def _chunks(words: Numbers) -> Iterator[Numbers]:
    for start in range(0, len(words), CHUNK):
        yield words[start : start + CHUNK]


def _narrowed(words: Numbers, kind: ElementType) -> tuple[Numbers, ElementType]:
    """Store floats in the first narrower type that holds every one of them exactly, if there is any."""
    for narrow in map(ELEMENT_TYPES.__getitem__, NARROWER.get(kind.name, ())):
        pieces = []
        for chunk in _chunks(words) if narrow.is_float else ():
            cast = _cast(chunk, kind, narrow)
            if cast is None:
                break
            pieces.append(cast)
        else:
            if pieces:
                return np.concatenate(pieces), narrow
    return words, kind


def _cast(words: Numbers, kind: ElementType, narrow: ElementType) -> Numbers | None:
    """Cast words to a narrower float; None where a bit would change, or NaN makes that uncertain."""
    wide = tensor_of(words, kind)
    cast = wide.to(narrow.torch)
    exact = np.array_equal(words_of(cast.to(kind.torch)), words) and not bool(wide.isnan().any())
    return words_of(cast) if exact else None


def _stretches(words: Numbers, total: int) -> Numbers:
    """Return all of a small tensor, and stretches spread evenly over a large one."""
    if len(words) <= total:
        return words
    size = total // _BLOCKS
    starts = np.linspace(0, len(words) - size, _BLOCKS).astype(np.int64)
    return np.concatenate([words[start : start + size] for start in starts])


def _choose(words: Numbers, stored: ElementType, backend: Backend) -> tuple[_Positions | None, _Values]:
    """Try every form on a sample; return the smallest (without positions where all words are kept)."""
    sample = _stretches(words, _SAMPLE)
    book = None if stored.itemsize == 1 or distinct(sample) is None else distinct(words)
    dense = _best_values(sample, stored, backend, book)
    n_kept = np.count_nonzero(sample)
    if n_kept == len(sample):
        return None, dense
    price = dense.n_bytes / len(sample)
    if n_kept < _SAMPLE_KEPT:
        sample = _stretches(words, _SAMPLE * _SAMPLE_KEPT // (int(n_kept) + 1))
    positions = np.flatnonzero(sample != 0)
    sparse = _best_values(sample[positions], stored, backend, None if book is None else book[book != 0])
    where = [_try_positions(name, positions, len(sample)) for name in backend.positions]
    best = min(where, key=lambda tried: tried.n_bytes)
    return (best, sparse) if best.n_bytes + sparse.n_bytes < price * len(sample) else (None, dense)


def _best_values(words: Numbers, stored: ElementType, backend: Backend, book: Numbers | None) -> _Values:
    forms: dict[str, ValueForm] = {name: form(kind=stored) for name, form in backend.values.items()}
    if book is not None:
        forms["codebook"] = Codebook(book=book)
    return min((_try_values(name, form, words) for name, form in forms.items()), key=lambda tried: tried.n_bytes)


def _try_values(name: str, form: ValueForm, words: Numbers) -> _Values:
    chosen = [choose_coder(numbers) for numbers in form.split(words)]
    aside = form.book.nbytes if isinstance(form, Codebook) else 0
    n_bytes = aside + sum(size for _, size in chosen)
    return _Values(name=name, form=form, coders=tuple(coder for coder, _ in chosen), n_bytes=n_bytes)


def _try_positions(name: str, positions: Numbers, size: int) -> _Positions:
    coder, n_bytes = choose_coder(POSITION_FORMS[name].writer().numbers(positions, size))
    return _Positions(name=name, coder=coder, n_bytes=n_bytes)


def _write(
    words: Numbers, positions: _Positions | None, values: _Values
) -> tuple[int, list[tuple[Coder, list[bytes]]]]:
    """Write all words in the chosen forms; return how many are kept, and the streams."""
    where = None if positions is None else POSITION_FORMS[positions.name].writer()
    coders = values.coders if positions is None else (positions.coder, *values.coders)
    writers = [coder.writer() for coder in coders]
    count = 0
    for chunk in _chunks(words):
        if where is None:
            kept, parts = chunk, []
        else:
            at = np.flatnonzero(chunk != 0)
            kept, parts = chunk[at], [where.numbers(at, len(chunk))]
        count += len(kept)
        for writer, numbers in zip(writers, parts + values.form.split(kept), strict=True):
            writer.write(numbers)
    return count, [(coder, writer.finish()) for coder, writer in zip(coders, writers, strict=True)]
