"""Damaged, lying and malicious files of version 1: a clear error or the same tensors, never a crash or a bomb."""

import base64
import json
import re
import struct
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecell.archive import Archive, inspect, load
from prunecell.archive.version1.manifest import unpack_list
from prunecell.codecs.dtypes import element_type, words_of
from prunecell.codecs.encode import encode_words
from prunecell.errors import FormatError

MEBIBYTE = 1 << 20


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def state():
    count = torch.arange(600)
    noise = ((count * 1103515245 + 12345) % 65521 - 32768).float() / 8192.1
    return {
        "gaps": torch.where(count % 9 == 0, noise, 0.0).reshape(20, 30),
        "mask": torch.where(count % 2 == 0, noise, 0.0).reshape(20, 30),
        "book": torch.where(count % 6 == 0, (count % 5 + 1) / 3.3, 0.0).reshape(30, 20),
        "all": noise.double() / 3,
        "plain": noise[:4].clone(),
        "flags": count % 2 == 0,
        "tied": count,
        "again": count,
    }


@pytest.fixture(scope="module")
def good():
    return version1(state(), {"epoch": 1})


@pytest.fixture(scope="module")
def small():
    weight = torch.zeros(40, 40)
    weight[::3, 7] = torch.linspace(-1.1, 2.3, 14)
    return version1({"w": weight, "b": torch.ones(3)})


def read(place, data):
    """Load a file in every way; the tensors, or None where it was refused by FormatError."""
    place.write_bytes(data)
    try:
        tensors = load(place, limit_bytes=MEBIBYTE)
        with Archive.open(place) as archive:
            for name in archive:
                assert len(archive.parts(name).positions) <= 2 * tensors[name].numel()
    except FormatError:
        return None
    inspect(place)
    return tensors


def refused(place, fact):
    """The message that tells why a file is refused."""
    with pytest.raises(FormatError, match=fact) as caught:
        load(place)
    return str(caught.value)


def entry_of(record):
    """What the list of a file says of an encoded tensor."""
    stored = {} if record.stored is record.kind else {"stored": record.stored.name}
    streams = [[stream.coder, stream.n_bytes] for stream in record.streams]
    forms = {"positions": record.positions, "values": record.values, "count": record.count, "streams": streams}
    return {"dtype": record.kind.name, "shape": list(record.shape), **stored, **forms}


def version1(tensors, metadata=None, backend="zlib"):
    """A file, as prunecell wrote it once: large tensors encoded, small ones plain, the same one twice an alias."""
    forgery, seen = Forgery.__new__(Forgery), {}
    forgery.strings, forgery.metadata = {"format": "pcell", "version": "1"}, metadata or {}
    forgery.header, forgery.list, forgery.data = {}, {}, {}
    for name, tensor in tensors.items():
        if id(tensor) in seen:
            forgery.list[name] = {"alias": seen[id(tensor)]}
            continue
        seen[id(tensor)], kind = name, element_type(tensor.dtype)
        encoded = encode_words(words_of(tensor), kind, tuple(tensor.shape), backend)
        is_plain = tensor.numel() * tensor.itemsize < 100
        forgery.list[name] = {"crc32": 0} | ({} if is_plain else entry_of(encoded.record))
        dtype, shape = (kind.container, list(tensor.shape)) if is_plain else ("U8", [])
        forgery.header[name] = {"dtype": dtype, "shape": shape}
        forgery.data[name] = words_of(tensor).tobytes() if is_plain else b"".join(encoded.blob)
    return forgery.build()


class Forgery:
    """A file taken apart, to be changed and put together again with checksums that are right."""

    def __init__(self, data):
        size = struct.unpack("<Q", data[:8])[0]
        self.header = json.loads(data[8 : 8 + size])
        self.strings = self.header.pop("__metadata__")
        listed = unpack_list(self.strings.pop("header"), MEBIBYTE)
        self.list, self.metadata = listed["tensors"], listed["metadata"]
        self.data = {n: data[8 + size :][slice(*info["data_offsets"])] for n, info in self.header.items()}

    def build(self, header_text=lambda text: text, list_text=lambda text: text):
        """Put it together: offsets and checksums follow the data; the texts are changed before they are sealed."""
        at = 0
        for name, data in self.data.items():
            if self.header[name]["dtype"] == "U8":
                self.header[name]["shape"] = [len(data)]
            self.header[name]["data_offsets"] = [at, at + len(data)]
            if isinstance(entry := self.list.get(name), dict) and "crc32" in entry:
                entry["crc32"] = zlib.crc32(data)
            at += len(data)
        packed = list_text(json.dumps({"tensors": self.list, "metadata": self.metadata}))
        strings = {**self.strings, "crc32": "00000000", "header": base64.b64encode(deflate(packed.encode())).decode()}
        text = header_text(json.dumps({"__metadata__": strings, **self.header}, separators=(",", ":")).encode())
        text = text.replace(b'"crc32":"00000000"', f'"crc32":"{zlib.crc32(text):08x}"'.encode(), 1)
        return struct.pack("<Q", len(text)) + text + b"".join(self.data.values())

    def replace_stream(self, name, index, coder, data):
        """Put other bytes in place of one stream of a blob."""
        streams = self.list[name]["streams"]
        start = sum(n_bytes for _, n_bytes in streams[:index])
        blob = self.data[name]
        self.data[name] = blob[:start] + data + blob[start + streams[index][1] :]
        streams[index] = [coder, len(data)]


def deflate(data):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


# --- accidents: the checksums are as they were


def test_the_good_files_are_good(good, small, place):
    for data in (good, Forgery(good).build(), small):
        tensors = read(place, data)
        assert tensors is not None
    assert {name: bits(t) for name, t in read(place, Forgery(good).build()).items()} == {
        name: bits(t) for name, t in state().items()
    }


def test_no_accident_is_missed(small, place, accidents):
    for what, file in accidents(small):
        assert read(place, file) is None, what


@settings(max_examples=200)
@given(st.data())
def test_bytes_that_are_moved_or_replaced_are_found(good, place, moved_or_replaced, data):
    changed = moved_or_replaced(good, data)
    assert changed == good or read(place, changed) is None


@given(st.binary(max_size=300))
def test_noise_is_refused(place, data):
    assert read(place, data) is None


# --- lies: the checksums are right, the rest is not


def edit(name, **entry):
    return lambda f: f.list[name].update(entry)


def stream(name, index, coder, data):
    return lambda f: f.replace_stream(name, index, coder, data)


def header(name, **entry):
    return lambda f: f.header[name].update(entry)


LIES = {
    "version": (lambda f: f.strings.update(version="2"), "version '2' is unknown; this prunecell reads 1, 2 and 3"),
    "format": (lambda f: f.strings.update(format="pt"), "it is a safetensors file, not a .pcell file"),
    "unknown dtype": (edit("gaps", dtype="float31"), "tensor 'gaps': unknown dtype 'float31'"),
    "unknown container dtype": (header("plain", dtype="F31"), "tensor 'plain': unknown dtype 'F31'"),
    "unknown positions": (edit("gaps", positions="gaps16"), "unknown word 'gaps16'; legal here: none, all, gaps8"),
    "unknown values": (edit("gaps", values="magic"), "unknown word 'magic'; legal here: none, planes"),
    "unknown coder": (lambda f: f.list["gaps"]["streams"][0].__setitem__(0, "lzma"), "unknown word 'lzma'"),
    "unknown key": (edit("gaps", more=1), "tensor 'gaps': unknown key 'more'"),
    "missing key": (lambda f: f.list["gaps"].pop("count"), "the key 'count' is missing"),
    "a dtype that cannot be narrower": (edit("gaps", stored="float64"), "float32 cannot be stored as float64"),
    "count too large": (edit("gaps", count=601), "601 kept words in a tensor of 600"),
    "count one more": (edit("gaps", count=68), "tensor 'gaps': "),
    "count one less": (edit("gaps", count=66), "tensor 'gaps': "),
    "count negative": (edit("gaps", count=-1), r"count is -1: it must be a whole number in \[0, 2\^62\)"),
    "count true": (edit("gaps", count=True), "count is True"),
    "count float": (edit("gaps", count=67.0), "count is 67.0"),
    "count zero": (edit("gaps", count=0), "0 kept words, positions 'gaps8'"),
    "shape negative": (edit("gaps", shape=[-20, -30]), "a size is -20"),
    "shape overflows": (edit("gaps", shape=[1 << 40, 1 << 40]), "a shape of too many elements"),
    "shape overflows beside zero": (edit("gaps", shape=[0, 1 << 40, 1 << 40]), "a shape of too many elements"),
    "shape of 65 sizes": (edit("gaps", shape=[1] * 65), "shape must be a list of at most 64"),
    "shape smaller": (edit("gaps", shape=[20, 29]), "lead past the end of 580 words"),
    "shape of another mask": (edit("mask", shape=[600, 30]), "tensor 'mask': "),
    "plain shape": (header("plain", shape=[5]), r"shape \[5\] of F32 in 16 bytes"),
    "streams missing": (lambda f: f.list["gaps"]["streams"].pop(), "4 streams where there must be 5"),
    "streams too long": (lambda f: f.list["gaps"]["streams"][0].__setitem__(1, 9999), "bytes of streams in"),
    "all but not all": (edit("all", count=599), "all positions, but 599 kept words in a tensor of 600"),
    "crc missing": (lambda f: f.list["gaps"].pop("crc32"), r"its crc32 must be a whole number in \[0, 2\^32\)"),
    "crc beside an alias": (edit("again", crc32=1), "an alias of 'tied', which is not stored before it"),
    "alias of nothing": (edit("again", alias="nothing"), "an alias of 'nothing', which is not stored before it"),
    "alias of itself": (edit("again", alias="again"), "an alias of 'again', which is not stored before it"),
    "an entry that is no object": (lambda f: f.list.update(again=7), "its entry must be a JSON object"),
    "not in the list": (lambda f: f.list.pop("plain"), "tensor 'plain': it is not in the list"),
    "not in the container": (lambda f: f.list.update(extra={"crc32": 0}), "tensor 'extra': its bytes are missing"),
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
    "a bool of 2": (stream("flags", 0, "raw", bytes([2] * 600)), "a bool that is neither 0 nor 1"),
    "deflate damaged": (stream("gaps", 0, "deflate", b"\xff" * 50), "a deflate stream is damaged"),
    "deflate cut": (stream("gaps", 0, "deflate", deflate(bytes(range(67)))[:-9]), "tensor 'gaps': "),
    "deflate too short": (stream("mask", 0, "deflate", deflate(b"\1" * 74)), "a stream ends early"),
    "deflate with more behind": (stream("mask", 0, "deflate", deflate(b"\x55" * 75) + b"\0"), "cut or too long"),
    "deflate that goes on": (stream("mask", 0, "deflate", deflate(b"\x55" * 76)), "cut or too long"),
    "planes of another coder": (stream("gaps", 1, "pco", b"\0" * 9), "coder 'pco' does not code numbers of 1 bytes"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name, good, place):
    change, fact = LIES[name]
    forgery = Forgery(good)
    change(forgery)
    place.write_bytes(forgery.build())
    assert refused(place, fact).startswith(f"{place}: ")


MORE = b'"more":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
TEXTS = {
    "a tensor twice": (lambda t: t.replace(b'"gaps":{"dtype"', b'"plain":{"dtype"', 1), "'plain' stands twice"),
    "an entry key twice": (lambda t: t.replace(b'"shape":', b'"dtype":"U8","shape":', 1), "'dtype' stands twice"),
    "no JSON": (lambda t: t[:-1], "a header is no JSON"),
    "no UTF-8": (lambda t: t.replace(b"plain", b"pl\xffin"), "a header is no JSON"),
    "a list": (lambda t: b"[" + t + b"]", "a header must be a JSON object"),
    "deep": (lambda _: b"[" * 200_000, "a header is no JSON"),
    "NaN": (lambda t: t.replace(b'"shape":[', b'"shape":[NaN,', 1), "NaN is no JSON"),
    "a number of 10,000 digits": (lambda t: t.replace(b'"shape":[', b'"shape":[' + b"9" * 10_000 + b",", 1), "no JSON"),
    "an offset too far": (
        lambda t: t.replace(b'"data_offsets":[0,', b'"data_offsets":[1,', 1),
        "a hole in the data at byte 0",
    ),
    "an offset negative": (
        lambda t: t.replace(b'"data_offsets":[0,', b'"data_offsets":[-1,', 1),
        "must be whole numbers",
    ),
    "offsets that overlap": (
        lambda t: t.replace(b'"plain":{', MORE + b',"plain":{'),
        "an overlap in the data at byte 1",
    ),
    "an entry with more": (
        lambda t: t.replace(b'"shape":', b'"more":1,"shape":', 1),
        "must have dtype, shape and data_offsets",
    ),
    "metadata of numbers": (
        lambda t: t.replace(b'"version":"1"', b'"version":1'),
        "__metadata__ must hold strings only",
    ),
    "no seal": (lambda t: t.replace(b'"crc32":"00000000",', b""), "the header is damaged"),
    "65 dimensions": (
        lambda t: t.replace(b'"shape":[4]', b'"shape":[4' + b",1" * 64 + b"]"),
        "shape must be a list of at most 64",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_header_that_lies_is_named(name, good, place):
    change, fact = TEXTS[name]
    place.write_bytes(Forgery(good).build(header_text=change))
    refused(place, fact)


LISTS = {
    "a name twice": (lambda text: text.replace('"mask"', '"gaps"', 1), "the key 'gaps' stands twice"),
    "no metadata": (lambda text: text.replace('"metadata"', '"data"'), "a JSON object of two, tensors and metadata"),
    "metadata of no keys": (lambda text: text.replace('{"epoch": 1}', "[]"), "a JSON object of two"),
    "no JSON": (lambda text: text[1:], "a header is no JSON"),
    "empty": (lambda _: "", "a header is no JSON"),
    "a bomb": (lambda _: "[" * (64 * MEBIBYTE), "the list of tensors is cut, or takes more than 16777216 bytes"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_lies_is_named(name, good, place):
    change, fact = LISTS[name]
    place.write_bytes(Forgery(good).build(list_text=change))
    refused(place, fact)


NAMES = ["\x1b[31mred", "two\nlines", "bell\a", "half\ud800", "\u202eback", "\u200bnothing", "\u2028", "\xa0", "\ue000"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_saved_cannot_be_read(name, good, place):
    forgery = Forgery(good)
    for part in (forgery.header, forgery.data, forgery.list):
        part[name] = part.pop("plain")
    place.write_bytes(forgery.build())
    for read_it in (load, inspect, Archive.open):
        with pytest.raises(FormatError, match=r"its name is illegal: it holds|is no JSON") as caught:
            read_it(place)
        assert str(caught.value).isprintable()


def test_a_long_name_is_shown_in_few_characters(good, place):
    forgery = Forgery(good)
    for part in (forgery.header, forgery.data, forgery.list):
        part["x" * 100_000] = part.pop("gaps")
    forgery.list["x" * 100_000]["count"] = 68
    place.write_bytes(forgery.build())
    with pytest.raises(FormatError) as caught:
        load(place)
    assert len(str(caught.value)) < 400


def test_half_of_a_character_is_not_saved_and_not_read_anywhere(good, place):
    place.write_bytes(Forgery(good).build(list_text=lambda text: text.replace('{"epoch": 1}', r'{"a": ["\ud800"]}')))
    with pytest.raises(FormatError, match="a header is no JSON"):
        load(place)
    place.write_bytes(
        Forgery(good).build(list_text=lambda text: text.replace('{"epoch": 1}', r'{"a": "\ud83d\ude00"}'))
    )
    with Archive.open(place) as archive:
        assert archive.metadata == {"a": "\U0001f600"}


@pytest.mark.parametrize("header", ["", "?", "AAAA", base64.b64encode(b"\xff" * 9).decode()])
def test_a_list_that_cannot_be_unpacked_is_named(header, good, place):
    seal = re.compile(rb'"header":"[^"]*"')
    place.write_bytes(Forgery(good).build(lambda text: seal.sub(f'"header":"{header}"'.encode(), text)))
    refused(place, "the list of tensors is")


def test_a_header_longer_than_the_file_is_refused(good, place):
    for size in (len(good) - 7, 100_000_001, 2**63, 2**64 - 1):
        place.write_bytes(struct.pack("<Q", size) + good[8:])
        refused(place, f"a header of {size} bytes in a file of {len(good)}")


numbers = st.integers(-2, 700) | st.sampled_from([2**31, 2**62, 2**64, -(2**63)]) | st.floats()
words = st.sampled_from(["float16", "int8", "float64", "all", "mask", "gaps32", "numbers", "pco", "raw", "deflate"])
lists = st.lists(st.integers(0, 70) | st.lists(st.integers(0, 70), max_size=2), max_size=4)
values = numbers | words | lists | st.booleans() | st.none() | st.text(max_size=5)


@settings(max_examples=300)
@given(data=st.data())
def test_any_value_in_any_place_of_the_list(good, place, data):
    forgery = Forgery(good)
    at = forgery.list
    keys = []
    while isinstance(at, dict | list) and at and (not keys or data.draw(st.booleans())):
        inside, key = at, data.draw(st.sampled_from(range(len(at)) if isinstance(at, list) else sorted(at)))
        keys.append(key)
        at = at[key]
    inside[key] = data.draw(values)
    tensors = read(place, forgery.build())
    assert tensors is None or sum(t.numel() * t.itemsize for t in tensors.values()) <= 2 * MEBIBYTE


@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_in_any_blob(good, place, spoilt, data):
    forgery = Forgery(good)
    name = data.draw(st.sampled_from(sorted(forgery.data)))
    forgery.data[name] = spoilt(forgery.data[name], data)
    tensors = read(place, forgery.build())
    if tensors is not None:
        assert {n: (t.dtype, t.shape) for n, t in tensors.items()} == {
            n: (t.dtype, t.shape) for n, t in state().items()
        }


@pytest.fixture(scope="module")
def of_pcodec():
    count = torch.arange(5000)
    return version1({"all": ((count * 1103515245 + 12345) % 65521).float() / 3}, backend="pcodec")


@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_in_a_frame_of_pcodec(of_pcodec, place, spoilt, data):
    forgery = Forgery(of_pcodec)
    assert forgery.list["all"]["streams"][0][0] == "pco"
    forgery.data["all"] = spoilt(forgery.data["all"], data, within=200)
    read(place, forgery.build())


# --- bombs


def test_a_declared_size_over_the_limit_is_refused_before_anything_is_allocated(good, place, peak):
    forgery = Forgery(good)
    forgery.list["gaps"]["shape"] = [1 << 34, 30]
    place.write_bytes(forgery.build())
    error, memory = peak(place)
    assert "more than limit_bytes=68719476736" in error
    assert memory < MEBIBYTE
    place.write_bytes(Forgery(good).build())
    with pytest.raises(FormatError, match="take 17416 bytes, more than limit_bytes=17415"):
        load(place, limit_bytes=17415)


def test_a_bomb_in_a_stream_is_not_inflated(good, place, peak):
    bomb = deflate(bytes([1]) * (64 * MEBIBYTE))
    for name, index in (("gaps", 0), ("gaps", 4), ("mask", 0), ("book", 2), ("all", 7)):
        forgery = Forgery(good)
        forgery.replace_stream(name, index, "deflate", bomb)
        place.write_bytes(forgery.build())
        error, memory = peak(place)
        assert f"tensor {name!r}: " in error
        assert memory < 4 * MEBIBYTE


def test_words_that_no_stream_of_that_size_can_hold_are_refused_at_once(good, place, peak):
    forgery = Forgery(good)
    forgery.list["all"].update(shape=[1 << 28], count=1 << 28)
    forgery.list["all"]["streams"] = [["deflate", n_bytes] for _, n_bytes in forgery.list["all"]["streams"]]
    place.write_bytes(forgery.build())
    error, memory = peak(place)
    assert "bytes of deflate cannot hold 268435456 values" in error
    assert memory < MEBIBYTE


def test_a_large_tensor_of_zeros_is_no_bomb(place):
    place.write_bytes(version1({"zeros": torch.zeros(4000, 4000)}))
    assert not load(place)["zeros"].any()
