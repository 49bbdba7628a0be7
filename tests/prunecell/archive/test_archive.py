"""Model <-> file: what is saved is loaded, in order, in little space, and the format stays what docs/format.md says."""

import importlib
import re
import stat
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prunecell.archive import Alias, Archive, inspect, load, save, write
from prunecell.archive.container import WORDS
from prunecell.codecs.dtypes import ELEMENT_TYPES
from prunecell.codecs.encode import BACKENDS
from prunecell.codecs.modes import VALUE_MODES
from prunecell.codecs.zstandard import zstd
from prunecell.errors import FormatError, OptionError, OptionTypeError, UnknownNameError

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def assert_same(state, other):
    assert list(state) == list(other)
    for name, tensor in state.items():
        assert (other[name].dtype, other[name].shape) == (tensor.dtype, tensor.shape), name
        assert bits(other[name]) == bits(tensor), name


def sparse(*shape, density=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    return torch.where(keep, torch.randn(shape, generator=generator), 0.0)


def everything():
    """A state_dict that is stored in every way there is, the same on every machine: no random numbers."""
    count = torch.arange(1200, dtype=torch.int64)
    noise = ((count * 1103515245 + 12345) % 65521 - 32768).float() / 8192.1
    half = torch.where(count % 2 == 0, noise, 0.0).reshape(30, 40)
    few = torch.where(count % 7 == 0, noise, 0.0).reshape(30, 40)
    book = (torch.where(count % 7 == 0, (count % 5 + 1) / 3.3, 0.0)).reshape(40, 30)
    return {
        "bias": noise[:3].clone(),
        "gaps": few,
        "mask": half,
        "dense": noise.reshape(3, 10, 40),
        "book": book,
        "narrow": few.bfloat16().float(),
        "long": torch.where(count.repeat(9) % 3001 == 7, noise.repeat(9), 0.0),
        "zeros": torch.zeros(50, 60, dtype=torch.float64),
        "tied": few,
        "steps": torch.tensor(12),
        "empty": torch.empty(0, 5),
        "flags": count % 3 == 0,
        **{
            f"as.{name}": (count % 96).to(torch.uint8).repeat(16)[: 96 * kind.itemsize].view(kind.torch)
            for name, kind in ELEMENT_TYPES.items()
            if name not in ("bool", "float8_e8m0fnu", "float4_e2m1fn_x2")  # not every torch has the last two
        },
    }


def integers():
    """Tensors that are stored as integers under contexts in every way there is, the same on every machine."""
    drawn = [1]
    while len(drawn) < 1200:
        drawn.append((drawn[-1] * 1103515245 + 12345) % (1 << 31))
    noise = torch.tensor(drawn) >> 12
    small = torch.where(noise % 11 < 3, noise // 11 % 7 - 3, 0).float()
    disc = ((torch.arange(14.0) - 6.5).square()[:, None] + (torch.arange(14.0) - 6.5).square() < 30).float()
    book = torch.tensor([0.0, 0.3, -1.1, 2.7, -0.02])
    return {
        "conv.weight": small[:450].reshape(10, 5, 3, 3) * (torch.arange(10.0) % 3 > 0)[:, None, None, None] * 0.01
        + 0.0,
        "conv.bias": small[:10] * 0.5 + 0.0,
        "fc.weight": small[:1080].reshape(12, 90) * 0.3,
        "picture": small[:1176].reshape(6, 196) * disc.reshape(196) * 0.3 + 0.0,
        "rows": small.reshape(30, 40) * (torch.arange(30.0) + 2).sqrt()[:, None] + 0.0,
        "shared": book[(noise % 11 < 3) * (noise // 11 % 5)].reshape(40, 30),
        "halves": (small * 0.07).bfloat16() + 0.0,
        "large": torch.where(noise % 17 == 0, noise * 1003, 0),
        "signal": small.reshape(20, 6, 10) * 0.11,
        "counter": torch.tensor(123456),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pcell"


@pytest.fixture(scope="module")
def reader():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("read_pcell")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_dict_comes_back(path, backend):
    state = everything() | integers()
    save(state, path, backend=backend)
    assert_same(state, load(path))


def test_a_model_comes_back(task, path):
    for parameter in task.model.parameters():
        if parameter.dim() > 1:
            parameter.data *= torch.rand_like(parameter) < 0.1
            parameter.data += 0.0
    save(task.model, path)
    state = load(path)
    assert_same(task.model.state_dict(), state)
    other = task.make()
    other.load_state_dict(state)
    task.model.eval()
    assert torch.equal(other.eval()(task.x), task.model(task.x))


def test_the_file_is_smaller_than_what_gzip_makes(path):
    state = {"weight": sparse(300, 784, density=0.1)}
    save(state, path)
    assert path.stat().st_size < len(zlib.compress(state["weight"].numpy().tobytes(), 9)) * 0.75


def test_tied_tensors_are_stored_once_and_tied_again(path):
    linear = nn.Linear(64, 64, bias=False)
    model = nn.Sequential(linear, nn.ReLU(), linear)
    view = linear.weight.detach()[:32]  # shares memory, but is not the same tensor
    save({**model.state_dict(), "half": view}, path)
    state = load(path)
    assert state["0.weight"].data_ptr() == state["2.weight"].data_ptr()
    assert torch.equal(state["half"], view)
    facts = {row.name: row for row in inspect(path)}
    assert facts["2.weight"].encoding == "alias of 0.weight"
    assert facts["2.weight"].bytes_stored == 0
    assert facts["half"].bytes_stored > 0
    assert path.stat().st_size < 1.6 * linear.weight.numel() * 4


def test_empty_tensors_are_nobodys_alias(path):
    save({"a": torch.empty(0), "b": torch.empty(0)}, path)
    assert not any("alias" in row.encoding for row in inspect(path))


@pytest.mark.parametrize("values", VALUE_MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_small_reader_agrees(path, reader, values, backend):
    state = (
        everything()
        | integers()
        | {
            "weight": sparse(50, 70, density=0.3),
            "wide": sparse(40, 30, density=0.9).double(),
            "bf16": sparse(60, 70).bfloat16(),
            "half": sparse(60, 70).half(),
        }
    )
    save(state, path, values=values, backend=backend)
    wanted, found = load(path), reader.read(path)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape, name
        assert np.ascontiguousarray(found[name]).reshape(-1).view(np.uint8).tolist() == bits(tensor), name


def test_the_small_reader_is_small_and_needs_no_library():
    source = (ROOT / "tools" / "read_pcell.py").read_text()
    assert source.count("\n") < 150
    assert set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)) == {
        *("math", "sys", "zlib", "io", "typing", "numpy")
    }


# --- lazy reading


def test_a_tensor_is_read_when_it_is_asked_for(path):
    state = everything()
    save(state, path, metadata={"epoch": 3})
    with Archive.open(path) as archive:
        assert list(archive) == list(state)
        assert len(archive) == len(state)
        assert "gaps" in archive
        assert "nothing" not in archive
        assert archive.metadata == {"epoch": 3}
        assert archive.target("tied") == "gaps"
        found = {name: archive[name] for name in reversed(list(archive))}
        with pytest.raises(UnknownNameError, match="no tensor 'gap'; did you mean 'gaps'"):
            archive["gap"]
    assert_same(state, dict(reversed(found.items())))


@pytest.mark.parametrize("values", ["exact", "int8", "codebook3"])
def test_chunks_and_parts_are_the_tensor(path, values):
    save(everything() | integers(), path, values=values)
    with Archive.open(path) as archive:
        for name in archive:
            dense, stop = archive[name], 0
            if dense.is_complex():
                dense = torch.view_as_real(dense)
            rebuilt = torch.zeros(dense.numel() * dense.itemsize, dtype=torch.uint8).view(dense.dtype)
            for chunk in archive.chunks(name):
                assert chunk.start == stop
                stop = chunk.stop
                assert (chunk.positions.dtype, chunk.values.dtype) == (torch.int64, dense.dtype)
                assert (
                    not chunk.positions.numel() or chunk.start <= chunk.positions.min() <= chunk.positions.max() < stop
                )
                put(rebuilt, chunk.positions, chunk.values)
            assert stop == dense.numel()
            assert bits(rebuilt) == bits(dense)
            assert_parts_are(archive.parts(name), archive[name].shape, dense)


def assert_parts_are(parts, shape, dense):
    assert (parts.shape, len(parts.positions)) == (shape, len(parts.values))
    assert (parts.positions.diff() > 0).all()
    values = parts.values
    if parts.scales is not None:
        assert values.dtype == torch.int8
        values = (values * parts.scales[parts.positions // (dense.numel() // shape[0])]).to(dense.dtype)
    rebuilt = torch.zeros(dense.numel() * dense.itemsize, dtype=torch.uint8).view(dense.dtype)
    put(rebuilt, parts.positions, values)
    assert bits(rebuilt) == bits(dense)


def put(flat, positions, values):
    """Assign whatever the dtype: torch knows no indexing for the youngest ones."""
    size = flat.itemsize
    flat.view(torch.uint8).view(-1, size)[positions] = values.contiguous().view(torch.uint8).view(-1, size)


def test_inspection_says_how_and_how_much(path):
    save(everything(), path)
    rows = {row.name: row for row in inspect(path)}
    assert {name: rows[name].encoding for name in ("bias", "gaps", "mask", "dense", "book", "zeros", "tied")} == {
        "bias": "plain",
        "gaps": "gaps8 planes",
        "mask": "mask planes",
        "dense": "all planes",
        "book": "gaps8 codebook",
        "zeros": "none none",
        "tied": "alias of gaps",
    }
    row = rows["gaps"]
    assert (row.dtype, row.shape, row.n_weights, row.bytes_dense) == ("float32", (30, 40), 1200, 4800)
    assert row.n_nonzero == int((everything()["gaps"] != 0).sum())
    assert rows["dense"].n_nonzero is None
    header = path.stat().st_size - sum(row.bytes_stored for row in rows.values())
    assert 0 < header < 500


def test_inspection_decodes_nothing(path):
    save(everything(), path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    assert len(inspect(path)) == len(everything())
    with pytest.raises(FormatError, match="checksum"):
        load(path)


# --- writing


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_model_gives_the_same_bytes(path, tmp_path, backend):
    for values in VALUE_MODES:
        save(everything(), path, values=values, backend=backend, metadata={"b": [1, 2], "a": None})
        save(everything(), tmp_path / "again", values=values, backend=backend, metadata={"b": [1, 2], "a": None})
        assert path.read_bytes() == (tmp_path / "again").read_bytes()


def test_metadata_is_kept(path):
    metadata = {"plan": {"*": "Cubic(sparsity=0.9)"}, "architecture": ["LeNet", 28.0], "ü": "\u2028", "none": None}
    save({}, path, metadata=metadata)
    assert load(path) == {}
    with Archive.open(path) as archive:
        assert archive.metadata == metadata


@pytest.mark.parametrize("metadata", [{"a": {1: 2}}, {"a": (1, 2)}, {"a": float("nan")}, {"a": object()}, {1: 2}])
def test_metadata_that_json_would_change_is_refused(path, metadata):
    with pytest.raises(OptionError, match="metadata cannot be stored"):
        save({}, path, metadata=metadata)
    assert not path.exists()


def test_tensors_may_come_one_by_one(path):
    made = []

    def items():
        for i in range(5):
            made.append(i)
            yield f"layer{i}", sparse(100, 100, seed=i)
        yield "again", Alias(of="layer3")

    write(items(), path)
    assert made == list(range(5))
    assert torch.equal(load(path)["again"], sparse(100, 100, seed=3))


def test_a_large_body_waits_on_disk(path, monkeypatch):
    monkeypatch.setattr("prunecell.archive.spool._IN_MEMORY", 1000)
    state = everything()
    save(state, path)
    assert_same(state, load(path))
    assert list(path.parent.iterdir()) == [path]


def test_a_file_appears_whole_or_not_at_all(path):
    save({"old": torch.ones(3)}, path)

    def items():
        yield "new", torch.ones(4)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write(items(), path)
    assert list(load(path)) == ["old"]
    assert list(path.parent.iterdir()) == [path]


def test_the_file_has_the_rights_of_a_new_file(path, tmp_path):
    save({"w": torch.ones(3)}, path)
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("state", "error", "fact"),
    [
        ({1: torch.ones(2)}, OptionTypeError, "the key 1 is illegal: it must be a string"),
        ({"__metadata__": torch.ones(2)}, OptionError, "'__metadata__' is illegal"),
        ({"a\nb": torch.ones(2)}, OptionError, "the key 'a\\nb' is illegal: it holds a control character (U+000A)"),
        ({"w": [1.0]}, OptionTypeError, "'w' is a list: only tensors can be stored"),
        ({"w": torch.ones(3).to_sparse()}, OptionTypeError, "'w' cannot be stored: it must be a plain dense tensor"),
        ({"w": torch.ones(3, device="meta")}, OptionTypeError, "'w' cannot be stored"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(path, state, error, fact):
    with pytest.raises(error, match=re.escape(fact)):
        save(state, path)
    assert not list(path.parent.iterdir())


def odd_bools(*shape):
    """Bools whose bytes are 0 to 255."""
    n = int(np.prod(shape))
    return (torch.arange(n, dtype=torch.int64) % 256).to(torch.uint8).view(torch.bool).reshape(shape)


def quietly(make, *arguments, **options):
    """Make a tensor of a kind that torch warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **options)


ODD = {
    "a number": torch.tensor(3.0),
    "64 dimensions": torch.ones([1] * 64),
    "65 dimensions": torch.ones([1] * 65),
    "70 dimensions, none": torch.ones([0] + [1] * 69),
    "none, of 2^58": torch.empty(0, 1 << 58),
    "none, of 2^59": torch.empty(0, 1 << 59),
    "none, of 2^62": torch.empty(1 << 62, 0),
    "expanded": torch.arange(3.0)[:, None].expand(3, 500),
    "expanded beyond memory": torch.ones(1).expand(10**13),
    "expanded beyond all": torch.ones(1, dtype=torch.uint8).expand(1 << 60),
    "transposed": torch.randn(30, 20).T,
    "every second": torch.randn(400)[::2],
    "conjugate": torch.randn(5, dtype=torch.complex64).conj(),
    "negative": torch.randn(5, dtype=torch.complex64).conj().imag,
    "windows": torch.arange(9.0).as_strided((5, 5), (1, 1)),
    "odd bools": odd_bools(256),
    "odd bools, few": torch.cat([odd_bools(256), torch.zeros(4000, dtype=torch.bool)]),
    "odd bools, transposed": odd_bools(16, 32).T,
    "an odd bool, expanded": odd_bools(256)[7].expand(1000),
    "bits below a byte": torch.zeros(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "quantized": quietly(torch.quantize_per_tensor, torch.eye(3), 1.0, 0, torch.qint8),
    "nested": quietly(torch.nested.nested_tensor, [torch.ones(2), torch.ones(3)]),
    "jagged": quietly(torch.nested.nested_tensor, [torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "compressed": quietly(torch.eye(3).to_sparse_csr),
}


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("odd", list(ODD))
def test_what_is_saved_is_loaded_and_the_rest_is_refused_by_name(path, reader, odd, backend):
    state = {"before": torch.ones(2), "odd": ODD[odd]}
    try:
        save(state, path, backend=backend)
    except (OptionError, OptionTypeError) as error:
        assert str(error).startswith("'odd' cannot be stored: "), error  # noqa: PT017 - it may be saved, too
        assert not list(path.parent.iterdir())
        return
    loaded = load(path)["odd"]
    plain = ODD[odd].resolve_conj().resolve_neg()
    if plain.dtype == torch.bool:
        plain = plain.contiguous().view(torch.uint8) != 0
    assert_same({"odd": plain}, {"odd": loaded})
    if backend != "pcodec":
        assert reader.read(path)["odd"].shape == plain.shape


def test_unknown_options_are_refused_by_name(path):
    with pytest.raises(UnknownNameError, match="backend='pcodek' is illegal; did you mean 'pcodec'"):
        save({}, path, backend="pcodek")
    with pytest.raises(UnknownNameError, match="values='fp17' is illegal; did you mean 'fp16'"):
        save({}, path, values="fp17")
    with pytest.raises(OptionError, match="'b' cannot be an alias of 'a'"):
        write([("b", Alias(of="a"))], path)
    with pytest.raises(OptionError, match="'a' stands twice"):
        write([("a", torch.ones(2)), ("a", torch.ones(2))], path)


def test_a_mode_of_ones_own(path):
    def halved(name, tensor):
        return tensor / 2 if name == "w" else tensor

    save({"w": torch.ones(3), "b": torch.ones(3)}, path, values=halved)
    assert load(path)["w"].tolist() == [0.5] * 3
    assert load(path)["b"].tolist() == [1.0] * 3


def test_a_mode_must_keep_shape_and_dtype(path):
    with pytest.raises(OptionError, match=r"made torch\.float16 \(3,\) of 'w', which is torch\.float32 \(3,\)"):
        save({"w": torch.ones(3)}, path, values=lambda _, tensor: tensor.half())
    with pytest.raises(OptionError, match=r"made torch\.float32 \(1, 3\) of 'w'"):
        save({"w": torch.ones(3)}, path, values=lambda _, tensor: tensor[None])


# --- the specification


EXAMPLE = (
    b"\xf0pc\x02\x1bc.\xe7J\xe2\xca\xe6\xf2ad\x12\x10`\xe2\xe1\xe0`ddbab\xe3`f\x01\x00xT\xc0\x8f\xc9\xde\xd9\x98"
    b"\x03\xf0\x05\x00\x01x|\x00\x00\x00?\x00\x00\x80\xbe33\xb3>\xba%\x08F"
)
EXACT_ZLIB = "ng" not in zlib.ZLIB_RUNTIME_VERSION
"""zlib-ng, which some builds of Python have, deflates to other bytes than zlib, which both can read."""


def test_the_worked_example_of_the_specification(path):
    weight = torch.zeros(16, 16)
    weight[0, 3], weight[15, 9] = 1.0, -1.5
    thirds = torch.zeros(6, 8)
    thirds[1, 2] = thirds[4, 2] = 0.35
    thirds[1, 3] = -0.7
    state = {"w": weight, "b": torch.tensor([0.5, -0.25]), "k": thirds}
    save(state, path)
    if EXACT_ZLIB:
        assert path.read_bytes() == EXAMPLE
    path.write_bytes(EXAMPLE)
    assert_same(state, load(path))
    page = (ROOT / "docs" / "format.md").read_text()
    dump = re.search(r"```hex\n(.*?)```", page, re.DOTALL)[1]
    assert bytes.fromhex("".join(line[6 : 6 + 3 * 32] for line in dump.splitlines())) == EXAMPLE


def test_the_specification_names_the_dictionary():
    page = (ROOT / "docs" / "format.md").read_text()
    (words,) = (block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "fc1" in block)
    assert words.replace("\n", "").replace(r"\n", "\n").encode() == WORDS
    assert f"these {len(WORDS)} bytes" in page


def long_streams():
    """A tensor in each form of positions, with streams of more numbers than deflate is tried on."""
    count = torch.arange(80_000)
    noise = (count * 2_654_435_761 >> 8) % 1_000_003
    weight = (noise % 4001 - 2000) * (noise % 13 + 1) * 1e-5
    return {
        "all": weight[:20_000].bfloat16().reshape(100, 200),
        "gaps8": torch.where(noise // 7 % 4 == 0, weight, 0.0).bfloat16().reshape(400, 200),
        "mask": torch.where(noise // 7 % 2 == 0, weight, 0.0)[:40_000].bfloat16().reshape(200, 200),
    }


def test_long_streams_are_of_version_3_and_others_of_version_2(path, reader):
    golden = DATA / "v3_exact.pcell"
    for backend, version in (("zlib", 2), ("zstd", 3)):
        save(long_streams(), path, backend=backend)
        assert path.read_bytes()[3] == version
        assert_same(long_streams(), load(path))
        found = reader.read(path)
        assert all(found[name].reshape(-1).view(np.uint8).tolist() == bits(t) for name, t in long_streams().items())
    assert_same(long_streams(), load(golden))
    assert [*reader.read(golden)] == [*long_streams()]
    save(long_streams(), path)
    if EXACT_ZLIB and zstd.zstd_version == "1.5.7":  # others may make other bytes, which all can read
        assert path.read_bytes() == golden.read_bytes()
    save(dict.fromkeys(["a", "b"], torch.randn(300)), path)
    assert path.read_bytes()[3] == 2


def test_the_small_reader_says_which_library_it_lacks(reader, monkeypatch):
    assert reader.ZSTD in ("backports.zstd", "compression.zstd")
    monkeypatch.setattr(reader, "ZSTD", "no_such_library.zstd")
    with pytest.raises(ValueError, match=r"v3_exact.*No module named 'no_such_library"):
        reader.read(DATA / "v3_exact.pcell")
    assert reader.read(DATA / "v2_exact.pcell")


@pytest.mark.parametrize("values", ["exact", "int8"])
def test_threads_change_nothing(path, values):
    state = long_streams() | everything() | integers() | {f"w{i}": torch.randn(300, 100) for i in range(5)}
    written, before = {}, torch.get_num_threads()
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            save(state, path, values=values)
            written[n_threads] = path.read_bytes()
            back = load(path)
            assert list(back) == list(state)
            if values == "exact":
                assert_same(state, back)
    finally:
        torch.set_num_threads(before)
    assert written[1] == written[2] == written[5]


def test_what_goes_wrong_in_a_thread_is_told_as_without(path):
    before = torch.get_num_threads()
    save({f"w{i}": torch.randn(300, 100) for i in range(6)}, path)
    data = bytearray(path.read_bytes())
    for at in (len(data) // 2, len(data) - 9):
        data[at] ^= 1
    path.write_bytes(data)
    told = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            with pytest.raises(FormatError, match=r"tensor 'w[23]': its bytes are damaged") as error:
                load(path)
            told.append(str(error.value))
    finally:
        torch.set_num_threads(before)
    assert told[0] == told[1]


GOLDEN = {
    "exact": {},
    "pcodec": {"backend": "pcodec"},
    "fp16": {"values": "fp16"},
    "int8": {"values": "int8"},
    "codebook3": {"values": "codebook3"},
}
"""NAME -> how tests/data/v1_NAME.pcell and v2_NAME.pcell were saved. Files of a version are never written again."""


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_are_read_as_they_were_written(name, version, path, reader):
    golden, state = DATA / f"v{version}_{name}.pcell", everything()
    if version == 2:
        state |= integers()
    if name in ("exact", "pcodec"):
        assert_same(state, load(golden))
    save(state, path, **GOLDEN[name])
    assert_same(load(path), load(golden))
    if version == 2:
        assert list(reader.read(golden)) == list(state)
        if name != "pcodec" and EXACT_ZLIB:  # another version of pcodec too may make other bytes
            assert path.read_bytes() == golden.read_bytes()


def test_a_file_cut_or_grown_says_so(path):
    save({"w": torch.randn(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1500])
    with pytest.raises(FormatError, match=r"it is truncated: its tensors take [34],\d{3} bytes, and [12],\d{3} follow"):
        load(path)
    path.write_bytes(whole + bytes(1500))
    with pytest.raises(
        FormatError, match=r"1,500 bytes are left over: its tensors take [34],\d{3} bytes, and [45],\d{3} follow"
    ):
        load(path)


MODELS = {
    "one layer": lambda: nn.Linear(2, 2),
    "LeNet": lambda: nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10))
    ),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 12),
    "norms": lambda: nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(20))),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_header_is_as_small_as_the_documentation_says(model, tmp_path):
    path = tmp_path / "a.pcell"
    save(MODELS[model](), path)
    rows = inspect(path)
    header = path.stat().st_size - sum(row.bytes_stored for row in rows)
    assert 3 * len(rows) <= header <= 20 * len(rows)


def test_a_lenet_of_zeros_is_as_small_as_the_documentation_says(tmp_path):
    net = MODELS["LeNet"]()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    save(net, tmp_path / "a.pcell")
    assert (tmp_path / "a.pcell").stat().st_size == 62
