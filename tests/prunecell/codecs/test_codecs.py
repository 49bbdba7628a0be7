"""Tensor <-> parts: nothing is lost, nothing is larger than it must be, and every fast routine has a slow twin."""

import math
import sys
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell.archive.listing import pack_entries, unpack_entries
from prunecell.codecs.coders import (
    CODERS,
    RAW,
    Coder,
    Setting,
    Tried,
    choose_setting,
    encoded,
    encoded_size,
    open_reader,
)
from prunecell.codecs.decode import decode, open_blob
from prunecell.codecs.dtypes import ELEMENT_TYPES, element_type, words_of
from prunecell.codecs.encode import BACKENDS, Backend, encode
from prunecell.codecs.kmeans import cluster
from prunecell.codecs.modes import SharedValues
from prunecell.codecs.positions import CHUNK, POSITION_FORMS, cover
from prunecell.codecs.streams import InMemory, RawReader, read_exactly
from prunecell.codecs.values import VALUE_FORMS, Codebook, Planes, distinct
from prunecell.errors import FormatError, OptionError, OptionTypeError

SHAPES = [(), (0,), (1,), (7,), (3, 0, 2), (5, 9), (2, 3, 4, 5), (101, 90)]


def bits(tensor):
    return (
        tensor.resolve_conj()
        .resolve_neg()
        .reshape(-1)
        .clone(memory_format=torch.contiguous_format)
        .view(torch.uint8)
        .tolist()
    )


def source(data):
    return InMemory(memoryview(data))


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and bits(one) == bits(other)


def random_bits(dtype, shape, density, seed=0):
    """Any bits there are, NaN, infinities and -0.0 among them, and words of zeros in between."""
    kind = element_type(dtype)
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 63, math.prod(shape) * kind.words, dtype=np.uint64, endpoint=True)
    words = words.astype(kind.word) if dtype != torch.bool else np.ones(len(words), kind.word)
    words[rng.random(len(words)) >= density] = 0
    if not len(words):
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(words.view(np.uint8)).view(dtype).reshape(shape)


def listed(record):
    """The record as a reader of a file finds it."""
    entries, rest = unpack_entries(pack_entries({"t": record}), 3)
    assert not rest
    return entries["t"]


def there_and_back(tensor, backend="zstd"):
    encoded = encode(tensor, backend=backend)
    record = listed(encoded.record)
    assert record == encoded.record
    blob = b"".join(encoded.blob)
    assert len(blob) == record.n_bytes
    return record, decode(record, InMemory(memoryview(blob)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_every_dtype_and_shape_comes_back_bit_for_bit(name, backend, for_every):
    def law(shape, density):
        tensor = random_bits(getattr(torch, name), shape, density)
        assert same_bits(there_and_back(tensor, backend)[1], tensor)

    for_every(law, SHAPES, (0.0, 0.02, 0.5, 1.0))


@given(
    name=st.sampled_from(sorted(ELEMENT_TYPES)),
    shape=st.lists(st.integers(0, 9), max_size=4),
    density=st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]),
    seed=st.integers(0, 1000),
    backend=st.sampled_from(sorted(BACKENDS)),
)
def test_any_bits_come_back(name, shape, density, seed, backend):
    tensor = random_bits(getattr(torch, name), tuple(shape), density, seed)
    assert same_bits(there_and_back(tensor, backend)[1], tensor)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_contiguous_comes_back(backend):
    whole = random_bits(torch.float32, (40, 50), 0.2)
    conjugate = torch.randn(6, 5, dtype=torch.complex64).conj()
    for view in (whole.T, whole[::2, 3:20], whole[:, :1].expand(40, 9), conjugate, conjugate.imag):
        assert same_bits(there_and_back(view, backend)[1], view)


def test_what_is_special_among_floats_comes_back():
    nan = torch.tensor([0x7FC00001, 0x7F800001, -1], dtype=torch.int32).view(torch.float32)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-45, -1e-45, 3.4e38])
    tensor = torch.cat([special, nan]).repeat(100)
    assert same_bits(there_and_back(tensor)[1], tensor)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 1.0])
def test_a_tensor_of_many_chunks_comes_back(density, backend):
    tensor = random_bits(torch.float32, (3, CHUNK - 1), density)
    assert same_bits(there_and_back(tensor, backend)[1], tensor)


def test_kept_words_come_back_in_chunks_that_cover_the_tensor():
    for density in (0.0, 0.001, 0.4, 1.0):
        tensor = random_bits(torch.float32, (2, CHUNK), density)
        encoded = encode(tensor)
        stop, rebuilt = 0, np.zeros(tensor.numel(), np.uint32)
        for chunk, words in open_blob(encoded.record, source(b"".join(encoded.blob))).kept:
            assert chunk.start == stop
            stop = chunk.stop
            assert all(chunk.start <= p < chunk.stop for p in chunk.positions[[0, -1]]) if len(words) else True
            rebuilt[chunk.positions] = words
        assert stop == tensor.numel()
        assert np.array_equal(rebuilt, words_of(tensor))


# --- positions


def read_positions(name, numbers, count, n_words):
    form = POSITION_FORMS[name]
    stream = open_reader("raw", source(numbers.astype(form.dtype).tobytes()), form.dtype, count)
    return np.concatenate([s.positions for s in cover(form.read(stream, n_words, CHUNK), n_words)])


@pytest.mark.parametrize("name", POSITION_FORMS)
@given(sizes=st.lists(st.integers(1, 9).map(lambda n: 8 * n), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_positions_written_chunk_by_chunk_are_read_back(name, sizes, seed):
    kept = np.random.default_rng(seed).random(sum(sizes)) < seed / 99
    writer, start, numbers = POSITION_FORMS[name].writer(), 0, []
    for size in sizes:
        numbers.append(writer.numbers(np.packbits(kept[start : start + size], bitorder="little"), size))
        start += size
    found = read_positions(name, np.concatenate(numbers), kept.sum(), len(kept))
    assert found.tolist() == np.flatnonzero(kept).tolist()


def test_a_gap_longer_than_all_skips_is_written_and_read():
    writer, size = POSITION_FORMS["gaps8"].writer(), 1 << 20
    for _ in range(40):
        assert not len(writer.numbers(np.zeros(size // 8, np.uint8), size))
    numbers = writer.numbers(np.packbits(np.arange(size) == 5, bitorder="little"), size)
    assert read_positions("gaps8", numbers, 1, 41 * size).tolist() == [40 * size + 5]


@pytest.mark.parametrize(
    ("name", "numbers", "fact"),
    [
        ("gaps8", [20], "past the end"),
        ("gaps8", [255, 0], "past the end"),
        ("gaps32", [3, 16], "past the end"),
        ("gaps32", [2**32 - 1], "past the end"),
        ("mask", [1, 0, 16], "past the end"),
        ("mask", [1, 0], "ends early"),
    ],
)
def test_positions_outside_of_the_tensor_are_refused(name, numbers, fact):
    with pytest.raises(FormatError, match=fact):
        read_positions(name, np.array(numbers), 1, 20)


def test_gaps_must_not_end_with_a_skip():
    with pytest.raises(FormatError, match="end with a skip"):
        read_positions("gaps8", np.array([3, 240]), 1, 1000)


# --- values


@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_values_split_and_join(name):
    kind = ELEMENT_TYPES[name]
    words = words_of(random_bits(kind.torch, (50,), 1.0))
    for form in (form(kind=kind, book=np.unique(words)) for form in VALUE_FORMS.values()):
        streams = form.split(words)
        assert [s.dtype for s in streams] == list(form.dtypes)
        assert form.join(streams).tolist() == words.tolist()


def test_the_exponent_of_a_float_has_a_plane_for_itself():
    words = words_of(torch.tensor([1.0, -1.0, 1.999, -1.25]))
    assert Planes(kind=ELEMENT_TYPES["float32"]).split(words)[3].tolist() == [127] * 4


@given(st.lists(st.integers(0, 400), max_size=700), st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
def test_distinct_words_are_numpys_unique_ones(values, dtype):
    words = np.array(values, np.uint64).astype(dtype)
    found, wanted = distinct(words), np.unique(words)
    assert found is None if len(wanted) > 256 else found.tolist() == wanted.tolist()


def test_an_index_outside_of_the_codebook_is_refused():
    with pytest.raises(FormatError, match="index 3 into a codebook of 3"):
        Codebook(kind=ELEMENT_TYPES["float32"], book=np.array([1, 2, 5], np.uint32)).join([np.array([0, 3], np.uint8)])


def test_values_that_fit_a_narrower_float_are_stored_so():
    wide = torch.randn(500)
    for exact in (wide.half(), wide.bfloat16() * 1e9):  # half has the digits, bfloat16 the range
        record, back = there_and_back(exact.float())
        assert record.stored.torch == exact.dtype
        assert same_bits(back, exact.float())
    record, back = there_and_back(wide.double())
    assert record.stored.name == "float32"
    assert same_bits(back, wide.double())


def test_nan_is_never_cast():
    record, _ = there_and_back(torch.tensor([1.0, math.nan] * 200))
    assert record.stored.name == "float32"


def test_few_distinct_values_become_a_codebook():
    weight = torch.randn(300, 100)
    weight[torch.rand(weight.shape) < 0.8] = 0
    shared = SharedValues(bits=5)("w", weight).double() * 1.1  # no narrower float holds these
    record, back = there_and_back(shared)
    assert (record.positions, record.values, record.stored.name) == ("gaps8", "codebook", "float64")
    assert same_bits(back, shared)


@dataclass(frozen=True, kw_only=True, eq=False)
class Differences:
    """A form of values that is none of ours: the difference of each word to the one before it."""

    has_book: ClassVar[bool] = False
    kind: object
    book: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))

    @property
    def dtypes(self):
        return (self.kind.word,)

    def split(self, words):
        return [np.diff(words, prepend=words.dtype.type(0))]

    def join(self, streams, into=None):  # noqa: ARG002 - nothing is written
        return np.cumsum(streams[0], dtype=self.kind.word)


@dataclass
class NotWriter:
    """A coder that is none of ours: all bits of the bytes are inverted."""

    numbers: list = field(default_factory=list)

    def write(self, numbers):
        self.numbers.append(numbers)

    def finish(self):
        return [(~numbers.view(np.uint8)).tobytes() for numbers in self.numbers]


def test_a_form_of_values_and_a_coder_are_added_by_an_entry_each(monkeypatch):
    inverted = Setting(coder="not", writer=NotWriter, worth=1.1)
    coder = Coder(
        codes=lambda _: True,
        open=lambda data, dtype, _: RawReader(source(bytes(255 - byte for byte in data[:])), dtype),
        holds=lambda n_bytes, size: n_bytes == size,
        settings=(inverted,),
    )
    tried = Tried(few=("not",), many=("not",))
    monkeypatch.delitem(CODERS, "zstd")  # a file has place for four
    monkeypatch.setitem(CODERS, "not", coder)
    monkeypatch.setitem(VALUE_FORMS, "differences", Differences)
    monkeypatch.setitem(BACKENDS, "own", Backend(positions=("mask",), values=("differences",), coders=tried))
    for density in (0.0, 0.3, 1.0):
        tensor = random_bits(torch.int32, (37, 40), density)
        record, back = there_and_back(tensor, "own")
        assert same_bits(back, tensor)
        assert record.values == ("differences" if density else "none")
        assert {stream.coder for stream in record.streams} == ({"not"} if density else set())


# --- coders


SETTINGS = [RAW, *(setting for coder in CODERS.values() for setting in coder.settings)]


@pytest.mark.parametrize("dtype", [np.dtype("u1"), np.dtype("<u4")], ids=str)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.coder)
@pytest.mark.parametrize("count", [0, 1, 1000, (1 << 18) + 5])
def test_streams_are_read_back_in_any_portions(setting, dtype, count):
    coder = CODERS[setting.coder]
    if not coder.codes(dtype.itemsize):
        with pytest.raises(FormatError, match=f"coder '{setting.coder}' does not code numbers of {dtype.itemsize} b"):
            open_reader(setting.coder, source(b""), dtype, count)
        return
    numbers = np.random.default_rng(0).geometric(0.1, count).astype(dtype)
    writer = setting.writer()
    for some in np.array_split(numbers, 7):
        writer.write(some)
    data = b"".join(writer.finish())
    assert coder.holds(len(data), numbers.nbytes)
    stream = open_reader(setting.coder, source(data), dtype, count)
    portions = [0, 1, 100, count, count]
    found = np.concatenate([stream.read(limit) for limit in portions])
    stream.finish()
    assert found.tolist() == numbers.tolist()
    with pytest.raises(FormatError, match="ends early"):
        read_exactly(open_reader(setting.coder, source(data), dtype, count), count + 1)
    if count:
        with pytest.raises(FormatError, match="too long"):
            open_reader(setting.coder, source(data), dtype, count).finish()


@given(st.binary(max_size=3000))
def test_the_chosen_coder_makes_no_more_than_raw(data):
    numbers = np.frombuffer(data, np.uint8)
    choice = choose_setting(numbers, BACKENDS["zstd"].coders)
    assert encoded_size(choice.setting, numbers) <= len(data)
    assert choice.written == encoded(choice.setting, numbers)


def test_pcodec_is_asked_for_by_name_when_it_is_missing(monkeypatch):
    weight = torch.randn(1 << 16)
    record = encode(weight, backend="pcodec").record
    assert "pco" in {stream.coder for stream in record.streams}
    monkeypatch.setitem(sys.modules, "pcodec", None)
    with pytest.raises(OptionError, match=r"pip install 'prunecell\[pcodec\]'"):
        encode(weight, backend="pcodec")
    assert same_bits(there_and_back(weight)[1], weight)


def entropy(probability):
    return -sum(p * math.log2(p) for p in (probability, 1 - probability) if p)


@pytest.mark.parametrize(("backend", "within"), [("zstd", 1.02), ("zlib", 1.02), ("pcodec", 1.01)])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_random_sparse_weights_take_little_more_than_their_entropy(sparsity, backend, within):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1024, 1024, generator=generator, dtype=torch.float64)
    # A normal number rounded to fp32: its density's entropy, and the grid that it falls on.
    value_bits = 0.5 * math.log2(2 * math.pi * math.e) + float((23 - weight.abs().log2().floor()).mean())
    weight = torch.where(torch.rand(weight.shape, generator=generator) < sparsity, 0.0, weight).float()
    density = float((weight != 0).double().mean())
    limit = (entropy(density) + density * value_bits) * weight.numel() / 8
    assert encode(weight, backend=backend).record.n_bytes <= within * limit


# --- clusters


@given(st.lists(st.floats(-1e6, 1e6), max_size=200), st.integers(1, 20))
def test_clusters_are_ordered_and_hold_their_own_values(values, most):
    numbers = np.array(values)
    clusters = cluster(numbers, most)
    assert len(clusters.centers) <= max(most, 0)
    assert (np.diff(clusters.bounds) >= 0).all()
    chosen = clusters.assign(numbers)
    assert not len(numbers) or (chosen.min() >= 0 and chosen.max() < len(clusters.centers))
    if len(numbers):
        assert np.isfinite(clusters.centers).all()
        assert numbers.min() - 1e-3 <= clusters.centers.min()
        assert clusters.centers.max() <= numbers.max() + 1e-3


def test_a_dtype_that_cannot_be_stored_is_refused_by_name():
    with pytest.raises(OptionTypeError, match=r"torch\.qint8 cannot be stored"):
        element_type(torch.qint8)
