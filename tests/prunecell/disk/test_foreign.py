"""What a user hands over by mistake is told by its name, wherever it goes, with what to do."""

import argparse
import io
import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

import prunecell
from prunecell.archive import inspect
from prunecell.disk.foreign import recognized
from prunecell.errors import FormatError
from prunecell.files import pack, read


def torch_bytes(value, **how):
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def archive_bytes(folder):
    prunecell.save({"w": torch.eye(3)}, folder / "made")
    data = (folder / "made").read_bytes()
    (folder / "made").unlink()
    return data


def numpy_bytes(save_):
    file = io.BytesIO()
    save_(file)
    return file.getvalue()


def zip_bytes(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return file.getvalue()


STATE = {"w": torch.eye(3)}
INDEX = json.dumps({"metadata": {"note": "x" * 5000}, "weight_map": {"w": "a.safetensors"}}).encode()
KINDS = {
    "torch checkpoint": lambda _: torch_bytes(STATE),
    "torch checkpoint ": lambda _: torch_bytes(STATE, _use_new_zipfile_serialization=False),
    "safetensors file": lambda _: save(STATE),
    ".pcell file": archive_bytes,
    "index of shards": lambda _: INDEX,
    "empty file": lambda _: b"",
    "text": lambda _: "weights: \u00fc".encode() * 2000,
    "JSON text": lambda _: b'[{"layers": 3}]',
    "pointer of Git LFS": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "page of HTML or XML": lambda _: b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "gzip file": lambda _: b"\x1f\x8b\x08\x00" + b"\x00" * 50,
    "HDF5 file": lambda _: b"\x89HDF\r\n\x1a\n" + b"\x00" * 50,
    "GGUF file": lambda _: b"GGUF\x03\x00\x00\x00" + b"\x00" * 50,
    "numpy array": lambda _: numpy_bytes(lambda file: np.save(file, np.eye(3))),
    "numpy archive": lambda _: numpy_bytes(lambda file: np.savez(file, w=np.eye(3))),
    "TorchScript program": lambda _: zip_bytes("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"),
    "program of torch.export": lambda _: zip_bytes("m/models/model.json", "m/data/weights/model.pt"),
    "zip file": lambda _: zip_bytes("readme.txt"),
    "damaged zip file": lambda _: torch_bytes(STATE)[:-100],
}
WANTED = {
    ".pcell": ".pcell file",
    ".pt": "torch checkpoint",
    ".safetensors": "safetensors file",
    ".safetensors.index.json": "index of shards",
}


@pytest.mark.parametrize("ending", WANTED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_another_is_told(tmp_path, kind, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(KINDS[kind](tmp_path))
    if kind.strip() == WANTED[ending]:
        if kind != "index of shards":
            assert torch.equal(read(path)["w"], torch.eye(3))
        return
    message = (
        rf"^{re.escape(str(path))}: it is an? {re.escape(kind.strip())}, not an? {re.escape(WANTED[ending])}($|: )"
    )
    for work in (read, lambda path: pack(path, tmp_path / "out.pcell")):
        with pytest.raises(FormatError, match=message) as caught:
            work(path)
        if kind.strip() in WANTED.values():
            right = next(ending for ending, name in WANTED.items() if name == kind.strip())
            assert str(caught.value).endswith(f"let its name end in {right}")
    assert not (tmp_path / "out.pcell").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != ".pcell file"])
def test_what_is_no_archive_is_told_whatever_opens_it(tmp_path, kind):
    path = tmp_path / "sd.pt"
    path.write_bytes(KINDS[kind](tmp_path))
    for work in (prunecell.load, inspect, prunecell.Archive.open, lambda p: prunecell.compact_(nn.Linear(3, 3), p)):
        with pytest.raises(
            FormatError, match=rf"sd\.pt: it is an? {re.escape(kind.strip())}, not a \.pcell file"
        ) as caught:
            work(path)
        if kind.strip() in WANTED.values():
            advised = shlex.split(str(caught.value).partition("pack it")[2].partition(": ")[2])
            assert advised[:2] == ["prunecell", "pack"]
            if kind != "index of shards":
                Path(advised[2]).write_bytes(path.read_bytes())
                pack(*advised[2:])  # what is advised can be done


@pytest.mark.parametrize("folder", ["", "sub", "a folder's", "a/b c", "-x"])
@pytest.mark.parametrize(
    "files",
    [
        ["sd.pt"],
        ["my model.v2-1.pth"],
        ["$(x).safetensors"],
        ["sd"],
        ["pytorch_model.bin"],
        ["shard-1.safetensors", "shard-2.safetensors", "model.safetensors.index.json"],
    ],
)
def test_what_is_advised_for_a_file_or_its_folder_can_be_pasted(tmp_path, monkeypatch, folder, files):
    monkeypatch.chdir(tmp_path)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name in files:
        data = save(STATE) if name.endswith(".safetensors") else torch_bytes(STATE)
        shards = {str(n): shard for n, shard in enumerate(files[:-1])}
        (place / name).write_bytes(json.dumps({"weight_map": {"w": shards["1"]}}).encode() if "index" in name else data)
    for given in [place / files[-1], *([place] if files != ["sd"] else [])]:
        with pytest.raises(FormatError) as caught:
            inspect(given)
        command = shlex.split(str(caught.value).partition("prunecell pack ")[2])
        if files == ["sd"]:
            (place / "sd").rename(command[0])
        assert Path(command[0]).parent == given.parent
        assert not any(word.startswith("-") for word in command)
        pack(*command)
        assert torch.equal(prunecell.load(command[1])["w"], torch.eye(3))
        Path(command[1]).unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
@pytest.mark.parametrize("ending", WANTED)
def test_a_pipe_or_a_device_is_told_and_not_waited_for(tmp_path, ending):
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"device{ending}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        works = [read, lambda path: pack(path, tmp_path / "out.pcell")]
        for work in (*works, *([inspect, prunecell.load] if ending == ".pcell" else [])):
            with pytest.raises(FormatError, match=rf"{name}.*: it is a pipe or a device, not an? .*to a file first$"):
                work(tmp_path / f"{name}{ending}")


def test_of_a_folder_with_archives_only_they_are_offered(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save(STATE, tmp_path / name)
    with pytest.raises(FormatError, match=r"several files to pack: for example prunecell pack .*a\.pt .*a\.pcell$"):
        inspect(tmp_path)
    pack(tmp_path / "a.pt", tmp_path / "a.pcell")
    with pytest.raises(FormatError, match=r"give a file in it, such as [^ ]*a\.pcell$"):
        inspect(tmp_path)


class Net(nn.Module):
    """A model that is saved whole."""


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (Net(), "test_foreign.Net"),
        ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ({"model": STATE, "best": np.float64(0.5)}, "numpy._core.multiarray.scalar"),
        ({"model": STATE, "made_by": nn.Linear}, "torch.nn.modules.linear.Linear"),
    ],
)
def test_pickled_objects_are_named_with_what_to_do(tmp_path, value, held):
    torch.save(value, tmp_path / "sd.pt")
    message = rf"it holds pickled objects of .*{re.escape(held)}, whose code would have to run\. .*save the tensors:\n"
    with pytest.raises(FormatError, match=message) as caught:
        read(tmp_path / "sd.pt")
    assert f"torch.load({str(tmp_path / 'sd.pt')!r}, weights_only=False)" in str(caught.value)
    assert f"torch.save(model.state_dict(), {str(tmp_path / 'sd-state.pt')!r})" in str(caught.value)


def test_a_folder_is_searched_for_the_file_that_is_meant(tmp_path):
    def expect(words):
        with pytest.raises(FormatError, match=words):
            pack(tmp_path, tmp_path / "out" / "x.pcell")

    (tmp_path / "out").mkdir()
    expect("a folder without a file of tensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1.safetensors").write_bytes(save({"a": torch.eye(3)}))
    assert list(read(tmp_path)) == ["a"]
    (tmp_path / "2.safetensors").write_bytes(save({"b": torch.ones(3)}))
    expect(r"with several files of tensors \(1\.safetensors, 2\.safetensors\): name one of them")
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(read(tmp_path)) == ["a", "b"]
    with pytest.raises(
        FormatError, match=r"it is a folder, not a \.pcell file: pack what is in it first: prunecell pack "
    ):
        prunecell.load(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_in_a_torch_checkpoint_is_our_error(tmp_path, zipped):
    """Bytes changed, taken out and put in: whatever torch's parsers raise is a FormatError, or it is read."""
    good = torch_bytes(
        {"model": {f"{n}.w": torch.randn(5, 7) for n in range(4)}}, _use_new_zipfile_serialization=zipped
    )
    random = np.random.default_rng(3)
    path, refused = tmp_path / "sd.pt", 0
    for _ in range(100):
        data = bytearray(good)
        for _ in range(random.choice([1, 1, 2, 8])):
            at = int(random.integers(random.choice([300, len(data)])))
            what = random.integers(3)
            data[at : at + int(what == 1)] = b"" if what == 1 else random.bytes(4)
        path.write_bytes(data)
        try:
            read(path)
        except FormatError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - most of them are refused, not all
            refused += 1
    assert refused > 30


def test_a_header_of_any_size_is_one(tmp_path, for_every):
    def law(size):
        header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(size)
        (tmp_path / "in.safetensors").write_bytes(size.to_bytes(8, "little") + header + b"\0")
        assert recognized(tmp_path / "in.safetensors") == ("safetensors file", "")
        assert read(tmp_path / "in.safetensors")["w"].tolist() == [0]

    for_every(law, range(56, 257))
