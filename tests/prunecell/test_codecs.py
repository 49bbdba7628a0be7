"""Tensor <-> parts: nothing is lost, nothing is larger than it must be, and every fast routine has a slow twin."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from prunecell.codecs.coders import CODERS, RAW, choose_setting, encoded_size, open_reader
from prunecell.codecs.decode import decode, open_blob, read_kept
from prunecell.codecs.dtypes import ELEMENT_TYPES, element_type, words_of
from prunecell.codecs.encode import BACKENDS, Scaled, encode
from prunecell.codecs.kmeans import cluster
from prunecell.codecs.modes import VALUE_MODES, Rounded, SharedValues, value_mode
from prunecell.codecs.positions import CHUNK, POSITION_FORMS, cover, gap_bytes
from prunecell.codecs.records import read_record
from prunecell.codecs.streams import Source, read_exactly
from prunecell.codecs.values import VALUE_FORMS, Codebook, Planes, distinct
from prunecell.errors import FormatError, OptionError, OptionTypeError, UnknownNameError

SHAPES = [(), (0,), (1,), (7,), (3, 0, 2), (5, 9), (2, 3, 4, 5), (101, 90)]
LOSSY = [name for name in VALUE_MODES if name != "exact"]


def bits(tensor):
    return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).tolist()


def source(data):
    return Source(memoryview(data))


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


def there_and_back(tensor, backend="zlib"):
    encoded = encode(tensor, backend=backend)
    record = read_record(encoded.record.to_json())
    assert record == encoded.record
    blob = b"".join(encoded.blob)
    assert len(blob) == record.n_bytes
    return record, decode(record, memoryview(blob))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_every_dtype_and_shape_comes_back_bit_for_bit(name, shape, backend):
    for density in (0.0, 0.02, 0.5, 1.0):
        tensor = random_bits(getattr(torch, name), shape, density)
        assert same_bits(there_and_back(tensor, backend)[1], tensor)


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
        for chunk, words in read_kept(open_blob(encoded.record, source(b"".join(encoded.blob)))):
            assert chunk.start == stop
            stop = chunk.stop
            assert all(chunk.start <= p < chunk.stop for p in chunk.positions[[0, -1]]) if len(words) else True
            rebuilt[chunk.positions] = words
        assert stop == tensor.numel()
        assert np.array_equal(rebuilt, words_of(tensor))


# --- positions


def gap_bytes_reference(gaps):
    symbols = []
    for gap in gaps:
        symbols += [240 + k for k in range(16) if gap // 240 >> k & 1] + [gap % 240]
    return symbols


@given(gaps=st.lists(st.integers(0, (240 << 16) - 1) | st.integers(0, 300), min_size=1, max_size=50))
@example(gaps=[0, 239, 240, 241, 479, 480, 240 << 15, (240 << 16) - 1])
def test_gap_bytes_equal_the_slow_twin(gaps):
    assert gap_bytes(np.array(gaps)).tolist() == gap_bytes_reference(gaps)


def read_positions(name, numbers, count, n_words):
    form = POSITION_FORMS[name]
    stream = open_reader("raw", source(numbers.astype(form.dtype).tobytes()), form.dtype, count)
    return np.concatenate([s.positions for s in cover(form.read(stream, n_words), n_words)])


@pytest.mark.parametrize("name", POSITION_FORMS)
@given(sizes=st.lists(st.integers(1, 9).map(lambda n: 8 * n), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_positions_written_chunk_by_chunk_are_read_back(name, sizes, seed):
    kept = np.random.default_rng(seed).random(sum(sizes)) < seed / 99
    writer, start, numbers = POSITION_FORMS[name].writer(), 0, []
    for size in sizes:
        numbers.append(writer.numbers(np.flatnonzero(kept[start : start + size]), size))
        start += size
    found = read_positions(name, np.concatenate(numbers), kept.sum(), len(kept))
    assert found.tolist() == np.flatnonzero(kept).tolist()


def test_a_gap_longer_than_all_skips_is_written_and_read():
    writer, size = POSITION_FORMS["gaps8"].writer(), 1 << 20
    for _ in range(40):
        assert not len(writer.numbers(np.empty(0, np.int64), size))
    numbers = writer.numbers(np.array([5]), size)
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
    setting, _ = choose_setting(numbers)
    assert encoded_size(setting, numbers) <= max(len(data), 2)  # 2: deflate of nothing


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


@pytest.mark.parametrize(("backend", "within"), [("zlib", 1.02), ("pcodec", 1.01)])
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


# --- value modes


@pytest.mark.parametrize("mode", LOSSY)
def test_only_weights_of_two_dimensions_are_changed(mode):
    for tensor in (torch.randn(9), torch.randn(()), torch.arange(12).reshape(3, 4), torch.empty(0, 3)):
        assert VALUE_MODES[mode]("t", tensor) is tensor


@pytest.mark.parametrize("mode", LOSSY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_zeros_stay_zeros_and_minus_zero_becomes_one(mode, dtype):
    weight = torch.randn(20, 30).to(dtype) * (torch.rand(20, 30) < 0.3)
    weight[0, 0], weight[1] = -0.0, 0.0
    chosen = VALUE_MODES[mode]("w", weight)
    back = there_and_back(chosen)[1]
    assert back.dtype == dtype
    assert back.shape == weight.shape
    assert not back[weight == 0].any()
    if chosen is not weight:
        assert not back[weight == 0].signbit().any()


@pytest.mark.parametrize(("mode", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_rounding_is_torchs(mode, dtype):
    weight = torch.randn(50, 40)
    assert torch.equal(there_and_back(VALUE_MODES[mode]("w", weight))[1], weight.to(dtype).float())


def test_a_number_too_large_for_fp16_is_refused_by_name():
    with pytest.raises(OptionError, match=r"'big' holds a number too large for float16"):
        VALUE_MODES["fp16"]("big", torch.full((2, 2), 1e5))
    infinite = torch.tensor([[math.inf, 1.0]])
    assert torch.equal(VALUE_MODES["fp16"]("w", infinite), infinite)


def test_int8_is_within_half_a_step_of_its_channel():
    weight = torch.randn(30, 4, 5) * torch.logspace(-3, 3, 30)[:, None, None]
    scaled = VALUE_MODES["int8"]("w", weight)
    assert isinstance(scaled, Scaled)
    back = there_and_back(scaled)[1]
    assert torch.equal(back, scaled.integers * scaled.scales[:, None, None])
    assert bool(((back - weight).abs() <= scaled.scales[:, None, None] * 0.5001).all())
    assert bool((scaled.integers.abs().amax((1, 2)) == 127).all())


def test_int8_of_tiny_and_of_zero_channels():
    weight = torch.tensor([[1e-45, 0.0], [0.0, 0.0], [1e-38, -1e-38]])
    back = there_and_back(VALUE_MODES["int8"]("w", weight))[1]
    assert bool(back.isfinite().all())
    assert there_and_back(VALUE_MODES["int8"]("w", torch.zeros(3, 4)))[1].tolist() == torch.zeros(3, 4).tolist()


@pytest.mark.parametrize("mode", ["int8", "codebook3"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_modes_that_need_finite_weights_say_so(mode, bad):
    with pytest.raises(OptionError, match=f"values='{mode}' needs finite weights, and 'layer' holds inf or NaN"):
        VALUE_MODES[mode]("layer", torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("bits_", range(1, 9))
def test_shared_values_are_few_and_stay_as_they_are(bits_):
    weight = torch.randn(60, 50) * (torch.rand(60, 50) < 0.5)
    mode = SharedValues(bits=bits_)
    shared = mode("w", weight)
    assert len(shared[shared != 0].unique()) <= 2**bits_
    assert torch.equal(mode("w", shared), shared)
    assert torch.equal(shared.bfloat16().float(), shared)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e200])
def test_values_of_any_size_are_shared(scale):
    weight = torch.randn(40, 40, dtype=torch.float64) * scale
    shared = SharedValues(bits=6)("w", weight)
    assert bool(((shared - weight).abs() < 0.3 * scale).all())
    assert same_bits(there_and_back(shared)[1], shared)


def test_more_bits_share_with_less_error():
    weight = torch.randn(100, 100)
    errors = [float((SharedValues(bits=b)("w", weight) - weight).square().mean()) for b in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[4] < 0.01 * float(weight.var())


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


def test_a_mode_by_name_or_by_value():
    assert value_mode("fp16") == Rounded(dtype="float16")
    assert value_mode(SharedValues(bits=3)) == VALUE_MODES["codebook3"]
    with pytest.raises(UnknownNameError, match="did you mean 'codebook5'"):
        value_mode("codebok5")
    with pytest.raises(OptionTypeError, match="values=3 is illegal"):
        value_mode(3)
    with pytest.raises(OptionError, match=r"bits=9 is illegal: it must be a whole number in \[1, 8\]"):
        SharedValues(bits=9)
    with pytest.raises(OptionError, match="'float8' is illegal"):
        Rounded(dtype="float8")


def test_a_dtype_that_cannot_be_stored_is_refused_by_name():
    with pytest.raises(OptionTypeError, match=r"torch\.qint8 cannot be stored"):
        element_type(torch.qint8)
