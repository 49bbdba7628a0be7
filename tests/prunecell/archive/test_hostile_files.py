"""Damaged, lying and malicious files: a clear error or the same tensors, never a crash, never a large allocation."""

import importlib
import itertools
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecell.archive import Archive, inspect, load, save
from prunecell.archive.container import WORDS
from prunecell.archive.listing import Alias, pack_entries, unpack_entries, version_of
from prunecell.archive.packing import Packed, packed
from prunecell.codecs.dtypes import ELEMENT_TYPES
from prunecell.codecs.modes import VALUE_MODES
from prunecell.codecs.positions import CHUNK
from prunecell.codecs.records import StreamFacts
from prunecell.codecs.zstandard import zstd
from prunecell.errors import FormatError, OptionError

MEBIBYTE = 1 << 20
LIMIT = (
    1 << 16
)  # bytes of the tensors of a file that is read, so that the small reader, which is slow, has little to do


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def state():
    """Tensors in every form, those of integers in each of their meanings."""
    drawn = [1]
    while len(drawn) < 600:
        drawn.append((drawn[-1] * 1103515245 + 12345) % (1 << 31))
    count, noise = torch.arange(600), torch.tensor(drawn) >> 12
    wide = (noise % 65521 - 32768).float() / 8192.1
    small = torch.where(noise % 11 < 3, noise // 11 % 7 - 3, 0).float()
    return {
        "gaps": torch.where(count % 9 == 0, wide, 0.0).reshape(20, 30),
        "mask": torch.where(count % 2 == 0, wide, 0.0).reshape(20, 30),
        "book": torch.where(count % 6 == 0, (count % 5 + 1) / 3.3, 0.0).reshape(30, 20),
        "all": wide.double() / 3,
        "plain": wide[:4].clone(),
        "flags": torch.tensor([True, False, True]),
        "scaled": torch.where(count % 2 == 0, wide, 0.0).reshape(20, 30),
        "conv": small[:270].reshape(10, 3, 3, 3) * (torch.arange(10.0) % 3 > 0)[:, None, None, None] * 0.01 + 0.0,
        "bias": small[:10] * 0.5 + 0.0,
        "matrix": small[:180].reshape(3, 60) * 0.3,
        "rows": small[:300].reshape(10, 30) * (torch.arange(10.0) + 2).sqrt()[:, None] + 0.0,
        "shared": torch.tensor([0.0, 0.3, -1.1, 2.7, -0.02])[(noise % 11 < 3) * (noise // 11 % 5)][:300].reshape(
            10, 30
        ),
        "words": torch.where(noise % 17 == 0, noise % 300, 0).to(torch.int16)[:300],
        "zeros": torch.zeros(50, 50),
        "tied": count,
        "again": count,
    }


def values(name, tensor):
    return VALUE_MODES["int8" if name == "scaled" else "exact"](name, tensor)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.pcell"
    save(state(), path, metadata={"epoch": 1}, values=values)
    return path.read_bytes()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.pcell"
    tensors = state()
    save({"w": tensors["conv"], "b": tensors["bias"], "c": torch.ones(3)}, path)
    return path.read_bytes()


def small_reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[3] / "tools")
        return importlib.import_module("read_pcell")


SMALL_READER = small_reader()


def read(place, data):
    """Load a file in every way; the tensors, or None where it was refused by FormatError.

    The small reader reads every file that prunecell reads, with the same values, and raises nothing but ValueError.
    """
    place.write_bytes(data)
    tensors, arrays = read_by_prunecell(place), read_by_small_reader(place)
    if tensors is not None:
        assert [*arrays] == [*tensors]
        for name, tensor in tensors.items():
            assert arrays[name].shape == tensor.shape
            assert arrays[name].tobytes() == bytes(bits(tensor)), name
    return tensors


def is_damaged(place, data):
    """Whether both refuse it, as they must where a checksum is wrong."""
    return read(place, data) is None and read_by_small_reader(place) is None


def read_by_small_reader(place):
    try:
        return SMALL_READER.read(place, limit_bytes=LIMIT)
    except ValueError as error:
        assert str(error).startswith(f"{place}: ")  # noqa: PT017 - it may as well be read
        return None


def refused(place, fact):
    """The message of prunecell, which alone sees every lie."""
    with pytest.raises(FormatError, match=fact) as caught:
        load(place)
    read(place, place.read_bytes())
    return str(caught.value)


def read_by_prunecell(place):
    try:
        tensors = load(place, limit_bytes=LIMIT)
        with Archive.open(place) as archive:
            for name in archive:
                assert len(archive.parts(name).positions) <= 2 * tensors[name].numel()
    except FormatError:
        return None
    inspect(place)
    return tensors


class Forgery:
    """A file taken apart, to be changed and put together again with checksums that are right."""

    def __init__(self, data):
        start = Packed(data[4:])
        size = start.number()
        inflate = zlib.decompressobj(-15, WORDS)
        self.list, self.more = unpack_entries(inflate.decompress(start.rest()[:size]), data[3])
        n_bytes = {name: 0 if isinstance(e, Alias) else e.n_bytes for name, e in self.list.items()}
        at, self.data = len(data) - sum(n_bytes.values()), {}
        for name, size in n_bytes.items():
            self.data[name] = data[at : at + size]
            at += size

    def build(self, change=lambda text: text, version=None):
        """Put it together; the list is changed before it is sealed."""
        sizes, crcs = [], []
        for data in self.data.values():
            if sizes and sizes[-1] + len(data) <= 1 << 16:
                sizes[-1], crcs[-1] = sizes[-1] + len(data), zlib.crc32(data, crcs[-1])
            elif data:
                sizes, crcs = [*sizes, len(data)], [*crcs, zlib.crc32(data)]
        listed = deflate(change(pack_entries(self.list) + self.more), WORDS)
        start = b"\xf0pc" + bytes([version or version_of(self.list)]) + packed(len(listed)) + listed
        sealed = b"".join(crc.to_bytes(4, "little") for crc in (zlib.crc32(start), *crcs))
        return start + sealed + b"".join(self.data.values())

    def edit(self, name, **fields):
        self.list[name] = replace(self.list[name], **fields)

    def replace_stream(self, name, index, coder, data):
        """Put other bytes in place of one stream."""
        streams = [*self.list[name].streams]
        start = sum(stream.n_bytes for stream in streams[:index])
        blob = self.data[name]
        self.data[name] = blob[:start] + data + blob[start + streams[index].n_bytes :]
        streams[index] = StreamFacts(coder=coder, n_bytes=len(data))
        self.edit(name, streams=tuple(streams))

    def replace_data(self, name, data):
        """Put other bytes in place of all of a tensor of integers."""
        self.data[name] = data
        self.edit(name, n_bytes=len(data))


def deflate(data, words=b""):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, words)
    return stream.compress(data) + stream.flush()


# --- accidents: the checksums are as they were


def test_the_good_files_are_good(good, small, place):
    forms = {
        "all",
        "gaps8",
        "mask",
        "codebook",
        "planes",
        "plain",
        "integers",
        "step",
        "steps",
        "book",
        "words",
        "none",
    }
    assert Forgery(good).build() == good
    for data in (good, small):
        tensors = read(place, data)
        assert tensors is not None
    read(place, good)
    assert forms == {word for row in inspect(place) if "alias" not in row.encoding for word in row.encoding.split()}
    assert {name: bits(t) for name, t in load(place).items() if name != "scaled"} == {
        name: bits(t) for name, t in state().items() if name != "scaled"
    }


def test_no_accident_is_missed(small, place, accidents):
    for what, file in accidents(small):
        assert is_damaged(place, file), what


@settings(max_examples=100)
@given(st.data())
def test_bytes_that_are_moved_or_replaced_are_found(good, place, moved_or_replaced, data):
    changed = moved_or_replaced(good, data)
    assert changed == good or is_damaged(place, changed)


@given(st.binary(max_size=300))
def test_noise_is_refused(place, data):
    assert is_damaged(place, data)
    assert is_damaged(place, b"\xf0pc\x02" + data)


# --- lies: the checksums are right, the rest is not


def edit(name, **fields):
    return lambda f: f.edit(name, **fields)


def stream(name, index, coder, data):
    return lambda f: f.replace_stream(name, index, coder, data)


def kind(name):
    return ELEMENT_TYPES[name]


LIES = {
    "count too large": (edit("gaps", count=601), "601 kept words in a tensor of 600"),
    "count one more": (edit("gaps", count=68), "tensor 'gaps': "),
    "count one less": (edit("gaps", count=66), "tensor 'gaps': "),
    "a dtype that cannot be narrower": (edit("gaps", stored=kind("float64")), "float32 cannot be stored as float64"),
    "shape overflows": (edit("gaps", shape=(1 << 40, 1 << 40)), "a shape of too many elements"),
    "shape overflows beside zero": (edit("gaps", shape=(0, 1 << 40, 1 << 40)), "a shape of too many elements"),
    "shape of 65 sizes": (edit("gaps", shape=(1,) * 65), "a shape of 65 dimensions: there may be at most 64"),
    "shape smaller": (edit("gaps", shape=(20, 29)), "lead past the end of 580 words"),
    "shape of another mask": (edit("mask", shape=(600, 30)), "tensor 'mask': "),
    "plain shape": (edit("plain", shape=(5,)), "it is truncated: its tensors take"),
    "streams too long": (edit("gaps", streams=(StreamFacts(coder="raw", n_bytes=9999),) * 5), "cannot hold 67 values"),
    "alias of itself": (edit("again", of="again"), "it refers to the tensor 0 before it"),
    "scaled without rows": (edit("scaled", shape=()), "a tensor without dimensions has no rows to scale"),
    "gaps past the end": (stream("gaps", 0, "raw", bytes([239] * 67)), "lead past the end of 600 words"),
    "gaps that end with a skip": (stream("gaps", 0, "raw", bytes([1] * 67 + [240])), "end with a skip"),
    "too few gaps": (stream("gaps", 0, "raw", bytes([1] * 60)), "60 positions for 67 kept words"),
    "too many gaps": (stream("gaps", 0, "raw", bytes([1] * 70)), "more positions than the 67 kept words"),
    "a mask too short": (stream("mask", 0, "raw", bytes(74)), "74 bytes of raw cannot hold 75 positions of 1 bytes"),
    "a mask of too few bits": (stream("mask", 0, "raw", bytes(75)), "0 positions for 300 kept words"),
    "an index outside of the book": (stream("book", 2, "raw", bytes([5] * 100)), "index 5 into a codebook of 5 words"),
    "an empty book": (stream("book", 1, "raw", b""), "a codebook of 0 bytes"),
    "a book too large": (stream("book", 1, "raw", bytes(1028)), "a codebook of 1028 bytes; at most 256 words of 4"),
    "a book of half a word": (stream("book", 1, "raw", bytes(7)), "a raw stream of 7 bytes holds no whole numbers"),
    "a book that is deflate": (stream("book", 1, "deflate", deflate(bytes(20))), "the book must be raw"),
    "a bool of 2": (lambda f: f.data.update(flags=b"\0\1\2"), "a bool that is neither 0 nor 1"),
    "deflate damaged": (stream("gaps", 0, "deflate", b"\xff" * 50), "a deflate stream is damaged"),
    "deflate too short": (stream("mask", 0, "deflate", deflate(b"\1" * 74)), "a stream ends early"),
    "deflate with more behind": (stream("mask", 0, "deflate", deflate(b"\x55" * 75) + b"\0"), "cut or too long"),
    "zstd damaged": (stream("gaps", 0, "zstd", b"\xff" * 50), "a zstd stream is damaged"),
    "zstd too short": (stream("mask", 0, "zstd", zstd.compress(b"\1" * 74)), "a stream ends early"),
    "zstd cut": (stream("mask", 0, "zstd", zstd.compress(bytes(range(75)))[:-9]), "a stream ends early"),
    "zstd with more behind": (stream("mask", 0, "zstd", zstd.compress(b"\x55" * 75) + b"\0"), "cut or too long"),
    "zstd twice": (stream("mask", 0, "zstd", 2 * zstd.compress(b"\x55" * 75)), "cut or too long"),
    "zstd of floats": (stream("scaled", 1, "zstd", zstd.compress(bytes(80))), "the scales must be raw"),
    "planes of another coder": (stream("gaps", 1, "pco", b"\0" * 9), "coder 'pco' does not code numbers of 1 bytes"),
    "an infinite scale": (stream("scaled", 1, "raw", b"\0\0\x80\x7f" * 20), "a scale that is not finite"),
    # integers
    "integers: one more": (lambda f: f.edit("conv", count=f.list["conv"].count + 1), "tensor 'conv': "),
    "integers: none": (edit("words", shape=()), "numbers that are not zero in a tensor of 1"),
    "integers: floats as words": (edit("conv", meaning="words"), "float32 cannot be stored as float32|of float32|mean"),
    "integers: words with a step": (
        edit("words", meaning="step", stored=kind("int8")),
        "int16 cannot be stored as int8",
    ),
    "integers: stored too wide": (edit("conv", stored=kind("int64")), "float32 cannot be stored as int64"),
    "integers: out of int8": (edit("words", kind=kind("int8"), stored=kind("int8")), "a number that is out of int8"),
    "integers: out of bool": (edit("words", kind=kind("bool"), stored=kind("bool")), "a number that is out of bool"),
    "integers: a step of NaN": (lambda f: f.replace_data("conv", b"\0\0\xc0\x7f" + f.data["conv"][4:]), "not finite"),
    "integers: cut": (lambda f: f.replace_data("matrix", f.data["matrix"][:-5]), "a stream of contexts ends early"),
    "integers: longer": (lambda f: f.replace_data("matrix", f.data["matrix"] + bytes(5)), "is too long"),
    "integers: pictures of no matrix": (edit("conv", side=3), r"has no pictures of 3 x 3"),
    "integers: pictures too large": (edit("rows", side=6), r"a shape \[10, 30\] has no pictures of 6 x 6"),
    "integers: huge pictures": (edit("rows", side=1 << 61), "has no pictures"),
    "integers: above no integers": (edit("conv", above="plain"), "it refers to the tensor 3 before it"),
    "integers: above of other rows": (edit("bias", shape=(7,)), "7 columns cannot be fed by 10 rows"),
    "integers: too many columns": (edit("words", shape=((1 << 22) + 1,)), "has no place for a shape"),
    "integers: too many numbers": (edit("matrix", shape=(1 << 30, 1 << 20)), "has no place for a shape"),
    "integers: no rows of many": (edit("matrix", shape=(0, 1 << 16, 1 << 22)), "tensor .matrix.: "),
    "integers: a book of 257": (edit("shared", n_book=257, n_bytes=2000), "a book of 257 words"),
    "integers: zero out of the book": (edit("shared", n_before=5), "a book of 4 words, 5 of them below zero"),
    "integers: a place out of the book": (edit("shared", n_before=4), "a number that is out of a book of 4 words"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name, good, place):
    change, fact = LIES[name]
    forgery = Forgery(good)
    change(forgery)
    place.write_bytes(forgery.build())
    assert refused(place, fact).startswith(f"{place}: ")


TEXTS = {
    "a name twice": (lambda t: t.replace(b"\nmask\n", b"\ngaps\n"), "tensor 'gaps': its name stands twice"),
    "a name of no UTF-8": (
        lambda t: t.replace(b"\nmask\n", b"\nm\xffsk\n"),
        "a name in the list of tensors is no UTF-8",
    ),
    "a name that is none": (lambda t: t.replace(b"\nmask\n", b"\n__metadata__\n"), "its name is illegal"),
    "fewer entries": (lambda t: t[:200], "the list of tensors ends early"),
    "cut within a name": (lambda _: packed(3) + b"w\nv", "ends within a name"),
    "more tensors": (lambda t: packed(2**61) + t[1:], "a name in the list of tensors is no UTF-8|the list ends"),
    "nothing": (lambda _: b"", "the list of tensors ends early"),
    "a number too large": (lambda _: b"\xff" * 9 + b"\1", r"a number in the list of tensors is 2\^62 or more"),
    "an unknown form": (lambda _: packed(1) + b"w\n" + bytes([7]), "tensor 'w': unknown form 7"),
    "another form": (lambda _: packed(1) + b"w\n" + bytes([11]), "tensor 'w': unknown form 11"),
    "a flag of others": (lambda _: packed(1) + b"w\n" + bytes([33, 0]), "has flags that it cannot have"),
    "an unknown dtype": (lambda _: packed(1) + b"w\n" + bytes([129, 21, 0]), "tensor 'w': unknown dtype 21"),
    "an unknown coder": (lambda _: packed(1) + b"w\n" + bytes([8, 1, 1, 7, 7, 7, 7]), "unknown coder 3"),
    "no words, but a form": (
        lambda _: packed(1) + b"w\n" + bytes([8, 1, 0, 0, 0, 0, 0]),
        "0 kept words, positions 'all'",
    ),
    "an alias of nothing": (lambda _: packed(1) + b"w\n" + bytes([0, 1]), "it refers to the tensor 1 before it"),
    "an alias of an alias": (lambda _: packed(3) + b"a\nb\nc\n" + bytes([1, 0, 0, 1, 0, 1]), "which is not one that"),
    "metadata of no object": (lambda t: t.replace(b'{"epoch":1}', b"[1]"), "a header must be a JSON object"),
    "metadata of no JSON": (lambda t: t.replace(b'{"epoch":1}', b"{"), "a header is no JSON"),
    "a key twice": (lambda t: t.replace(b'{"epoch":1}', b'{"a":1,"a":2}'), "the key 'a' stands twice"),
    "NaN": (lambda t: t.replace(b'{"epoch":1}', b'{"a":NaN}'), "NaN is no JSON"),
    "half a character": (lambda t: t.replace(b'{"epoch":1}', rb'{"a":"\ud800"}'), "a header is no JSON"),
    "deep": (lambda t: t.replace(b'{"epoch":1}', b"[" * 200_000), "a header is no JSON"),
    "a bomb": (lambda _: b"\1" * (64 * MEBIBYTE), "the list of tensors is cut, or takes more than 16777216 bytes"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_list_that_lies_is_named(name, good, place):
    change, fact = TEXTS[name]
    place.write_bytes(Forgery(good).build(change))
    refused(place, fact)


def test_other_versions_are_refused(good, place):
    for version in (0, 1, 4, 255):
        place.write_bytes(good[:3] + bytes([version]) + good[4:])
        assert read_by_small_reader(place) is None
        refused(place, f"version {version} is unknown; this prunecell reads 1, 2 and 3")


def test_a_list_longer_than_the_file_is_refused(good, place):
    for size in (len(good), 100_000_001, (1 << 62) - 1):
        place.write_bytes(good[:4] + packed(size) + good[6:])
        refused(place, f"it is truncated: a list of {size:,} bytes in a file of")


NAMES = ["\x1b[31mred", "bell\a", "\u202eback", "\u200bnothing", "\u2028", "\xa0", "\ue000"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_saved_cannot_be_read(name, good, place):
    with pytest.raises(OptionError, match="is illegal: it holds"):
        save({name: torch.ones(3)}, place)
    place.write_bytes(Forgery(good).build(lambda t: t.replace(b"\nplain\n", b"\n" + name.encode() + b"\n")))
    for read_it in (load, inspect, Archive.open):
        with pytest.raises(FormatError, match="its name is illegal: it holds") as caught:
            read_it(place)
        assert str(caught.value).isprintable()


def test_a_long_name_is_shown_in_few_characters(good, place):
    forgery = Forgery(good)
    forgery.edit("gaps", count=601)
    place.write_bytes(forgery.build(lambda t: t.replace(b"gaps\n", b"x" * 100_000 + b"\n", 1)))
    with pytest.raises(FormatError) as caught:
        load(place)
    assert len(str(caught.value)) < 400


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_in_any_place_of_the_list(good, place, data):
    def changed(text):
        text = bytearray(text)
        for _ in range(data.draw(st.integers(1, 2))):
            at = data.draw(st.integers(0, len(text) - 1))
            text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        return bytes(text)

    tensors = read(place, Forgery(good).build(changed))
    assert tensors is None or sum(t.numel() * t.itemsize for t in tensors.values()) <= LIMIT


FIELDS = {
    "kind": st.sampled_from([*ELEMENT_TYPES.values()]),
    "stored": st.sampled_from([*ELEMENT_TYPES.values()]),
    "shape": st.lists(st.sampled_from([0, 1, 2, 3, 10, 20, 30, 90, 600]), max_size=4).map(tuple),
    "count": st.integers(1, 601),
    "positions": st.sampled_from(["all", "gaps8", "gaps32", "mask"]),
    "values": st.sampled_from(["planes", "numbers", "codebook"]),
    "meaning": st.sampled_from(["words", "step", "steps", "book"]),
    "side": st.integers(0, 5),
    "above": st.sampled_from([None, "gaps", "conv", "bias", "matrix", "rows", "shared"]),
    "n_before": st.integers(0, 6),
    "n_book": st.integers(0, 6),
    "n_bytes": st.integers(0, 300),
}


@settings(max_examples=150)
@given(data=st.data())
def test_any_value_of_any_field(good, place, data):
    forgery = Forgery(good)
    name = data.draw(st.sampled_from([*forgery.list]))
    fields = [f for f in FIELDS if hasattr(forgery.list[name], f) and f in forgery.list[name].__dataclass_fields__]
    for field in data.draw(st.lists(st.sampled_from(fields), max_size=3)) if fields else ():
        forgery.edit(name, **{field: data.draw(FIELDS[field])})
    if (more := getattr(forgery.list[name], "n_bytes", 0) - len(forgery.data[name])) > 0:
        forgery.data[name] += bytes(more)
    try:
        built = forgery.build()
    except ValueError:  # a name that no list can refer to
        return
    read(place, built)


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_in_any_blob(good, place, spoilt, data):
    forgery = Forgery(good)
    name = data.draw(st.sampled_from([name for name, data in forgery.data.items() if data]))
    forgery.data[name] = spoilt(forgery.data[name], data)
    tensors = read(place, forgery.build())
    if tensors is not None:
        assert {n: (t.dtype, t.shape) for n, t in tensors.items()} == {
            n: (t.dtype, t.shape) for n, t in state().items()
        }


@pytest.fixture(scope="module")
def of_pcodec(tmp_path_factory):
    path = tmp_path_factory.mktemp("pco") / "good.pcell"
    count = torch.arange(5000)
    save({"all": ((count * 1103515245 + 12345) % 65521).float() / 3}, path, backend="pcodec")
    return path.read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_in_a_frame_of_pcodec(of_pcodec, place, spoilt, data):
    forgery = Forgery(of_pcodec)
    assert forgery.list["all"].streams[0].coder == "pco"
    forgery.data["all"] = spoilt(forgery.data["all"], data, within=200)
    read(place, forgery.build())


# --- bombs


def test_a_declared_size_over_the_limit_is_refused_before_anything_is_allocated(good, place, peak):
    forgery = Forgery(good)
    forgery.edit("zeros", shape=(1 << 34, 30))
    place.write_bytes(forgery.build())
    error, memory = peak(place)
    assert "more than limit_bytes=68719476736" in error
    assert memory < MEBIBYTE
    n_bytes = sum(t.numel() * t.itemsize for name, t in state().items() if name != "again")
    place.write_bytes(good)
    with pytest.raises(FormatError, match=f"take {n_bytes} bytes, more than limit_bytes={n_bytes - 1}"):
        load(place, limit_bytes=n_bytes - 1)


def test_a_bomb_in_a_stream_is_not_inflated(good, place, peak):
    many = bytes([1]) * (64 * MEBIBYTE)
    bombs = [("deflate", deflate(many)), ("zstd", zstd.compress(many))]
    places = [("gaps", 0), ("gaps", 4), ("mask", 0), ("book", 2), ("all", 7)]
    for (name, index), (coder, bomb) in itertools.product(places, bombs):
        forgery = Forgery(good)
        forgery.replace_stream(name, index, coder, bomb)
        place.write_bytes(forgery.build())
        error, memory = peak(place)
        assert f"tensor {name!r}: " in error
        assert memory < 4 * MEBIBYTE


def test_words_that_no_stream_of_that_size_can_hold_are_refused_at_once(good, place, peak):
    forgery = Forgery(good)
    streams = tuple(StreamFacts(coder="deflate", n_bytes=s.n_bytes) for s in forgery.list["all"].streams)
    forgery.edit("all", shape=(1 << 28,), count=1 << 28, streams=streams)
    place.write_bytes(forgery.build())
    error, memory = peak(place)
    assert "bytes of deflate cannot hold 268435456 values" in error
    assert memory < MEBIBYTE


def test_zstd_is_refused_in_version_2(good, place):
    forgery = Forgery(good)
    forgery.replace_stream("mask", 0, "zstd", zstd.compress(b"\x55" * 75))
    data = forgery.build()
    assert data[3] == 3
    place.write_bytes(data)
    load(place)
    place.write_bytes(forgery.build(version=2))
    refused(place, "unknown coder 3")


def test_a_short_stream_of_contexts_makes_little_work(good, place):
    """Of 2^30 numbers; each byte tells 23,000 at most."""
    forgery = Forgery(good)
    forgery.edit("rows", shape=(1 << 20, 1 << 10), meaning="step", stored=kind("int8"), side=0, above=None, count=5)
    forgery.replace_data("rows", bytes(4) + b"\x7f" * 40)
    place.write_bytes(forgery.build())
    with Archive.open(place) as archive, pytest.raises(FormatError, match="a stream of contexts ends early"):
        list(archive.chunks("rows"))


def test_a_large_tensor_of_zeros_is_no_bomb(place):
    save({"zeros": torch.zeros(4000, 4000)}, place)
    assert place.stat().st_size < 30
    assert not load(place)["zeros"].any()


# --- files that change while they are open


def large(place):
    torch.manual_seed(0)
    state = {"w": torch.where(torch.rand(900, 900) < 0.1, torch.randn(900, 900), 0.0), "b": torch.ones(5)}
    save(state, place)
    return state


WAYS = {
    "dense": lambda archive: archive["w"],
    "parts": lambda archive: archive.parts("w"),
    "chunks": lambda archive: list(archive.chunks("w")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_cut_while_it_is_open_is_an_error_and_no_signal(place, way):
    large(place)
    size = place.stat().st_size
    with Archive.open(place) as archive:
        for left in (size // 2, 5, 0):
            os.truncate(place, left)
            with pytest.raises(FormatError, match=r"tensor 'w': the file was cut while it was read"):
                WAYS[way](archive)


def test_a_file_that_is_cut_between_two_chunks_is_an_error(place):
    save({"w": torch.randn(3 * CHUNK)}, place)
    with Archive.open(place) as archive:
        chunks = archive.chunks("w")
        next(chunks)
        os.truncate(place, 1000)
        with pytest.raises(FormatError, match=r"tensor 'w': the file was cut while it was read"):
            list(chunks)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_overwritten_while_it_is_open_is_an_error(place, way):
    large(place)
    with Archive.open(place) as archive, place.open("r+b") as file:
        file.seek(place.stat().st_size // 2)
        file.write(bytes(100))
        file.flush()
        with pytest.raises(FormatError, match="its bytes are damaged"):
            WAYS[way](archive)


def test_a_file_that_is_replaced_while_it_is_open_is_read_as_it_was(place):
    state = large(place)
    with Archive.open(place) as archive:
        save({"w": torch.zeros(3)}, place)
        assert torch.equal(archive["w"], state["w"])


# --- blocks


def test_a_tensor_needs_no_more_of_the_file_than_its_block(place):
    sizes = (10, 100, 40_000, 80_000, 5, 65_536, 4, 65_532)
    state = {f"w{i}": torch.randint(256, (size,), dtype=torch.uint8) for i, size in enumerate(sizes)}
    save(state, place)
    data = place.read_bytes()
    assert {row.encoding for row in inspect(place)} == {"plain"}
    blocks = [(0, 1, 2), (3,), (4,), (5,), (6, 7)]
    start = len(data) - sum(sizes)
    for block in blocks:
        ruined = bytearray(data)
        ruined[start] ^= 1
        place.write_bytes(ruined)
        with Archive.open(place) as archive:
            for i in range(len(sizes)):
                if i not in block:
                    assert torch.equal(archive[f"w{i}"], state[f"w{i}"])
                    continue
                with pytest.raises(FormatError, match=f"tensor 'w{i}': its bytes are damaged"):
                    archive[f"w{i}"]
        start += sum(sizes[i] for i in block)
