"""Model files of others are packed and come back bit for bit."""

import json
import re
import struct
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from prunecell.archive import Archive, inspect, load, save
from prunecell.codecs.dtypes import ELEMENT_TYPES
from prunecell.errors import FormatError, OptionError, OptionTypeError, UnknownNameError
from prunecell.files import FILE_FORMATS, pack, read, unpack
from prunecell.files.formats import READERS, WRITERS, convert
from prunecell.sparse import compact_


def sparse(*shape, dtype=torch.float32):
    return (torch.randn(shape) * (torch.rand(shape) < 0.2) + 0.0).to(dtype)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {
        "b.weight": sparse(60, 50),
        "a.weight": sparse(40, 30, dtype=torch.bfloat16),
        "a.bias": torch.randn(40),
        "steps": torch.tensor(7),
    }


def assert_same(state, other, *, in_order=True):
    assert list(state) == list(other) if in_order else state.keys() == other.keys()
    for name, tensor in state.items():
        assert (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape)
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), other[name].reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_state_dict_of_torch(tmp_path, state, ending, zipped, wrap):
    torch.save(wrap(state), tmp_path / f"in{ending}", _use_new_zipfile_serialization=zipped)
    rows = pack(tmp_path / f"in{ending}", tmp_path / "model.pcell")
    assert [row.name for row in rows] == list(state)
    unpack(tmp_path / "model.pcell", tmp_path / f"out{ending}")
    out = torch.load(tmp_path / f"out{ending}", weights_only=True)
    assert out.keys() == wrap(state).keys()
    assert_same(state, next((item for item in out.values() if isinstance(item, dict)), out))


def test_tied_weights_are_packed_once_and_unpacked_tied(tmp_path):
    linear = nn.Linear(30, 30)
    torch.save(nn.Sequential(linear, linear).state_dict(), tmp_path / "in.pt")
    rows = {row.name: row for row in pack(tmp_path / "in.pt", tmp_path / "model.pcell")}
    assert rows["1.weight"].encoding == "alias of 0.weight"
    unpack(tmp_path / "model.pcell", tmp_path / "out.pt")
    out = torch.load(tmp_path / "out.pt")
    assert out["0.weight"].data_ptr() == out["1.weight"].data_ptr()


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "in.safetensors", metadata={"format": "pt", "note": "ü"})
    pack(tmp_path / "in.safetensors", tmp_path / "model.pcell", metadata={"plan": {"sparsity": 0.9}})
    with Archive.open(tmp_path / "model.pcell") as archive:
        assert archive.metadata == {"format": "pt", "note": "ü", "plan": {"sparsity": 0.9}}
    unpack(tmp_path / "model.pcell", tmp_path / "out.safetensors")
    assert_same(state, load_file(tmp_path / "out.safetensors"), in_order=False)
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "ü", "plan": '{"sparsity": 0.9}'}


def shard(folder, state, weight_map):
    for name in set(weight_map.values()):
        save_file({key: state[key] for key in weight_map if weight_map[key] == name}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_safetensors_in_shards(tmp_path, state):
    weight_map = dict(zip(state, ["2.safetensors", "1.safetensors", "1.safetensors", "2.safetensors"], strict=True))
    pack(shard(tmp_path, state, weight_map), tmp_path / "model.pcell")
    assert_same(state, load(tmp_path / "model.pcell"), in_order=False)


def test_shards_of_torch(tmp_path, state):
    state = {**state, "tied": state["b.weight"]}
    files = ["2.bin", "1.bin", "1.bin", "2.bin", "2.bin"]
    for file in set(files):
        torch.save({n: state[n] for n, f in zip(state, files, strict=True) if f == file}, tmp_path / file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip(state, files, strict=True))}))
    rows = {row.name: row for row in pack(tmp_path, tmp_path / "model.pcell")}
    assert rows["tied"].encoding == "alias of b.weight"
    assert_same(state, load(tmp_path / "model.pcell"), in_order=False)
    index.write_text(json.dumps({"weight_map": {"stranger": "1.bin"}}))
    with pytest.raises(FormatError, match=r"1\.bin: it lacks the tensor 'stranger', which the index says is in it"):
        pack(index, tmp_path / "out.pcell")


def test_tied_tensors_are_in_safetensors_as_often_as_they_have_names(tmp_path):
    large = torch.randn(300, 300)  # more bytes than are copied at once
    save({"one": large, "other": torch.ones(3), "two": large, "last": torch.zeros(2)}, tmp_path / "model.pcell")
    unpack(tmp_path / "model.pcell", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found["two"], large)
    assert torch.equal(found["one"], large)
    assert found["last"].tolist() == [0, 0]


def test_every_ending_is_of_one_format_only():
    endings = [ending for known in FILE_FORMATS.values() for ending in known.endings]
    assert len(endings) == len(set(endings))
    assert set(endings) == READERS.keys() | WRITERS.keys()


@pytest.mark.parametrize("ending", WRITERS)
def test_what_every_writer_writes_its_reader_reads(tmp_path, state, ending):
    save(state | {"tied": state["b.weight"]}, tmp_path / "model.pcell")
    unpack(tmp_path / "model.pcell", tmp_path / f"out{ending}")
    if ending in READERS:
        assert_same(state | {"tied": state["b.weight"]}, read(tmp_path / f"out{ending}"), in_order=False)
        pack(tmp_path / f"out{ending}", tmp_path / "again.pcell")
        assert_same(state | {"tied": state["b.weight"]}, load(tmp_path / "again.pcell"), in_order=False)


def test_an_archive_is_packed_again(tmp_path, state):
    save(state | {"tied": state["b.weight"]}, tmp_path / "in.pcell", metadata={"epoch": 1})
    rows = pack(tmp_path / "in.pcell", tmp_path / "out.pcell", values="codebook4", backend="pcodec")
    assert {row.name: row.encoding for row in rows}["tied"] == "alias of b.weight"
    assert (tmp_path / "out.pcell").stat().st_size < 0.6 * (tmp_path / "in.pcell").stat().st_size
    with Archive.open(tmp_path / "out.pcell") as archive:
        assert archive.metadata == {"epoch": 1}
    pack(tmp_path / "in.pcell", tmp_path / "in.pcell")
    assert list(load(tmp_path / "in.pcell")) == [*state, "tied"]


def test_no_code_of_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"weight": Evil()}, tmp_path / "in.pt")
    with pytest.raises(FormatError, match=r"it holds pickled objects of io\.open, whose code would have to run"):
        pack(tmp_path / "in.pt", tmp_path / "out.pcell")
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out.pcell").exists()


@pytest.mark.parametrize(
    ("found", "fact"),
    [
        ([torch.ones(2)], "it holds no state_dict but a list"),
        (torch.ones(2), "it holds no state_dict but a Tensor"),
        (
            {"epoch": 3, "best": torch.tensor(0.5)},
            "it holds no state_dict, which is names with tensors, but 'epoch': int",
        ),
        (
            {"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(2)}},
            "it holds several state_dicts: a, b; choose one of them by key=",
        ),
        (torch.optim.SGD([torch.ones(2)]).state_dict(), "it holds no state_dict, which is names with tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, found, fact):
    torch.save(found, tmp_path / "in.pt")
    with pytest.raises(FormatError, match=re.escape(fact)):
        pack(tmp_path / "in.pt", tmp_path / "out.pcell")


@pytest.mark.parametrize("name", ["in.pt", "in.safetensors", "in.safetensors.index.json", "in.pcell"])
def test_a_damaged_source_is_refused(tmp_path, name):
    for data in (b"", b"noise", b"PK\x03\x04", b"{}", b"\x00" * 100):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match=re.escape(f"{tmp_path / name}: ")):
            pack(tmp_path / name, tmp_path / "out.pcell")
    assert not (tmp_path / "out.pcell").exists()


def test_shards_outside_of_the_folder_or_missing_are_refused(tmp_path, state):
    index = shard(tmp_path, state, dict.fromkeys(state, "1.safetensors"))
    for bad in ("../1.safetensors", str(tmp_path / "1.safetensors"), "2.safetensors"):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(state, bad)}))
        with pytest.raises(FormatError, match=r"there is no file .* beside it"):
            pack(index, tmp_path / "out.pcell")
    index.write_text(json.dumps({"weight_map": {"stranger": "1.safetensors"}}))
    with pytest.raises(FormatError, match="stranger"):
        pack(index, tmp_path / "out.pcell")


def test_unknown_endings_are_refused(tmp_path, state):
    save(state, tmp_path / "model.pcell")
    with pytest.raises(UnknownNameError, match=r"in\.onnx: its ending is none that can be read; legal: "):
        pack(tmp_path / "in.onnx", tmp_path / "out.pcell")
    with pytest.raises(UnknownNameError, match=r"out\.safetensor: its ending .*did you mean '\.safetensors'"):
        unpack(tmp_path / "model.pcell", tmp_path / "out.safetensor")


def test_a_dtype_that_safetensors_lacks_is_named(tmp_path):
    save({"w": torch.ones(3, dtype=torch.complex128)}, tmp_path / "model.pcell")
    with pytest.raises(OptionError, match="'w' is of complex128, which safetensors cannot hold"):
        unpack(tmp_path / "model.pcell", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    unpack(tmp_path / "model.pcell", tmp_path / "out.pt")
    assert torch.equal(torch.load(tmp_path / "out.pt")["w"], torch.ones(3, dtype=torch.complex128))


@pytest.mark.parametrize("kind", ELEMENT_TYPES)
def test_every_dtype_is_written_to_every_ending_or_refused_by_name(tmp_path, kind):
    tensor = torch.ones(32, dtype=torch.uint8).view(getattr(torch, kind)).reshape(2, -1)
    save({"w": tensor}, tmp_path / "model.pcell")
    for ending in WRITERS:
        try:
            unpack(tmp_path / "model.pcell", tmp_path / f"out{ending}")
        except OptionError as error:
            assert f"'w' is of {kind}, which" in str(error)  # noqa: PT017 - it may be written, too
            assert not (tmp_path / f"out{ending}").exists()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("wrap", [lambda w: {"w": w}, lambda w: {"v": torch.ones(2, 2), "w": w}])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.ones(1).expand(10**13),
        lambda: torch.ones([1] * 65),
    ],
)
@pytest.mark.parametrize("ending", WRITERS)
def test_a_tensor_that_cannot_be_stored_is_refused_by_name(tmp_path, make, wrap, ending):
    torch.save(wrap(make()), tmp_path / "in.pt")
    for turn in (pack, convert):
        with pytest.raises((OptionError, OptionTypeError), match="'w' cannot be stored"):
            turn(tmp_path / "in.pt", tmp_path / ("out.pcell" if turn is pack else f"out{ending}"))
    assert [file.name for file in tmp_path.iterdir()] == ["in.pt"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_beside_the_weights_is_left_out_by_name(tmp_path):
    beside = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save({"state_dict": {"w": torch.ones(2, 2)}, "beside": beside}, tmp_path / "in.pt")
    with pytest.warns(UserWarning, match=r"beside \(a nested tensor\)"):
        assert [row.name for row in pack(tmp_path / "in.pt", tmp_path / "out.pcell")] == ["w"]


def write_header(path, shape, dtype="F32", data=b""):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"w": entry}, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize("shape", [[0, 1 << 63], [0, 1 << 62], [0, 1 << 61, 1 << 61], [0] * 65, [1 << 63, 0]])
def test_a_shape_in_safetensors_that_no_tensor_has_is_refused_by_name(tmp_path, shape):
    write_header(tmp_path / "in.safetensors", shape)
    with pytest.raises((FormatError, OptionError), match="'w'"):
        pack(tmp_path / "in.safetensors", tmp_path / "out.pcell")


def test_bools_of_any_byte_become_zero_and_one(tmp_path):
    write_header(tmp_path / "in.safetensors", [5], "BOOL", bytes([0, 1, 2, 3, 255]))
    torch.save({"w": torch.tensor([0, 1, 2, 3, 255], dtype=torch.uint8).view(torch.bool)}, tmp_path / "in.pt")
    for source in (tmp_path / "in.safetensors", tmp_path / "in.pt"):
        pack(source, tmp_path / "out.pcell")
        assert load(tmp_path / "out.pcell")["w"].view(torch.uint8).tolist() == [0, 1, 1, 1, 1]
        convert(source, tmp_path / "out.safetensors")
        assert (tmp_path / "out.safetensors").read_bytes()[-5:] == bytes([0, 1, 1, 1, 1])


def test_a_name_of_a_shard_that_is_no_name_is_cut_in_the_message(tmp_path):
    for name in ("x" * 5000, "", ".", "..", "a\0b", "/etc/passwd"):
        (tmp_path / "in.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(FormatError, match=r"there is no file '.*' beside it") as caught:
            pack(tmp_path / "in.safetensors.index.json", tmp_path / "out.pcell")
        assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_packing_says_what_it_made(tmp_path, state):
    torch.save(state, tmp_path / "in.pt")
    assert pack(tmp_path / "in.pt", tmp_path / "out.pcell") == inspect(tmp_path / "out.pcell")


@pytest.mark.parametrize("ending", [".pcell", *(ending for ending in WRITERS if ending != ".pcell")])
def test_a_target_without_a_folder_is_named_as_it_was_given(tmp_path, state, ending):
    save(state, tmp_path / "in.pcell")
    work = pack if ending == ".pcell" else unpack
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(
        IsADirectoryError, match=rf"it is a folder: give the name of a file in it: .*folder{re.escape(ending)}'"
    ):
        work(tmp_path / "in.pcell", tmp_path / f"folder{ending}")
    for bad, error in ((tmp_path / "nowhere", FileNotFoundError), (tmp_path / "in.pcell", NotADirectoryError)):
        with pytest.raises(error) as caught:
            work(tmp_path / "in.pcell", bad / f"out{ending}")
        assert caught.value.filename == str(bad / f"out{ending}")


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
@pytest.mark.parametrize("work", [pack, convert])
def test_a_shard_whose_index_lies_beside_it_is_told_to_be_a_part(tmp_path, ending, work):
    parts = [tmp_path / f"model-0000{n}-of-00002{ending}" for n in (1, 2)]
    for n, part in enumerate(parts):
        write_to = save_file if ending == ".safetensors" else torch.save
        write_to({f"{n}.weight": torch.eye(3)}, part)
    index = tmp_path / f"model{ending}.index.json"
    (tmp_path / "another.bin.index.json").write_text("{")  # whatever lies there besides
    target = tmp_path / "out.pcell"
    work(parts[0], target)
    index.write_text(json.dumps({"weight_map": {f"{n}.weight": part.name for n, part in enumerate(parts)}}))
    with pytest.warns(UserWarning, match=re.escape(f"{parts[0]}: it is a part of a model only: {index} names all")):
        work(parts[0], target)
    assert list(load(target)) == ["0.weight"]
    work(index, target)
    assert list(load(target)) == ["0.weight", "1.weight"]
    index.write_text(json.dumps({"weight_map": {"0.weight": parts[0].name}}))
    work(parts[0], target)


@pytest.mark.parametrize("work", [unpack, convert])
def test_parts_of_sparse_layers_are_told_where_dense_weights_are_expected(tmp_path, work):
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(512, 512))
    nn.init.sparse_(model[2].weight, sparsity=0.95)
    save(model, tmp_path / "dense.pcell")
    save(compact_(model, prefer="memory"), tmp_path / "compact.pcell")
    told = r"out\.pt: no dense weights, but the parts of sparse layers are written for '2', .*save before compact_"
    with pytest.warns(UserWarning, match=told):
        work(tmp_path / "compact.pcell", tmp_path / "out.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        work(tmp_path / "dense.pcell", tmp_path / "out.pt")
