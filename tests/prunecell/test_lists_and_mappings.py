"""Where a list, a mapping or a path is meant, what is none is refused by name; nothing is changed."""

import pytest
import torch
from torch import nn

from prunecell import Checkpoint, Pruner, PruneSpec, Static, compact_, load, pack, save, share_, unpack
from prunecell.archive import Archive, inspect
from prunecell.data.images import list_images
from prunecell.errors import OptionError, OptionTypeError
from prunecell.export import export
from prunecell.files import read


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))


def half(model):
    return Pruner(model, PruneSpec(schedule=Static(sparsity=0.5)))


TEXTS = {
    "share_": ("names", lambda _, value: share_(net(), names=value)),
    "list_images": ("extensions", lambda folder, value: list_images(folder, extensions=value)),
}


@pytest.mark.parametrize("value", ["png", 3, [None], [["png"]], b"png"], ids=repr)
@pytest.mark.parametrize("call", TEXTS)
def test_one_text_is_no_list_of_texts(tmp_path, call, value):
    name, work = TEXTS[call]
    with pytest.raises(OptionTypeError, match=rf"^{name}(=| holds ).*it must be a list of texts"):
        work(tmp_path, value)


MAPPINGS = {
    "save": ("model_or_state_dict", lambda folder, value: save(value, folder / "a.pcell")),
    "save, metadata": ("metadata", lambda folder, value: save(net(), folder / "a.pcell", metadata=value)),
    "pack, metadata": ("metadata", lambda folder, value: pack(folder / "a.pt", folder / "a.pcell", metadata=value)),
    "export": ("model_or_state_dict", lambda folder, value: export(value, folder / "a.npz")),
    "Pruner": ("plan", lambda _, value: Pruner(net(), value)),
    "set_masks": ("masks", lambda _, value: half(net()).set_masks(value)),
}


@pytest.mark.parametrize("value", [["ab"], [("w", torch.eye(3))], "w", 3], ids=["pairs", "tuples", "text", "number"])
@pytest.mark.parametrize("call", MAPPINGS)
def test_a_list_is_no_mapping(tmp_path, call, value):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    name, work = MAPPINGS[call]
    with pytest.raises(OptionTypeError, match=rf"^{name}(=| is an? ).*it must be a"):
        work(tmp_path, value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


PATHS = {
    "save": ("path", lambda value: save(net(), value)),
    "load": ("path", load),
    "inspect": ("path", inspect),
    "Archive.open": ("path", Archive.open),
    "read": ("path", read),
    "pack": ("source", lambda value: pack(value, "a.pcell")),
    "pack, target": ("target", lambda value: pack("a.pt", value)),
    "unpack": ("source", lambda value: unpack(value, "a.pt")),
    "unpack, target": ("target", lambda value: unpack("a.pcell", value)),
    "export": ("path", lambda value: export(net(), value)),
    "compact_": ("path", lambda value: compact_(net(), value)),
    "Checkpoint": ("path", lambda value: Checkpoint(path=value)),
}


@pytest.mark.parametrize("call", PATHS)
def test_what_is_no_path_is_refused_by_name(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    save(net(), "a.pcell")  # which an empty path must not find
    name, work = PATHS[call]
    for value in (3, b"a.pcell", ["a.pcell"]):
        with pytest.raises(OptionTypeError, match=rf"^{name}=.* is illegal: it must be the name of a file or folder"):
            work(value)
    with pytest.raises(OptionError, match=rf"^{name}='' is illegal: .*; the current folder is '\.'$"):
        work("")


@pytest.mark.parametrize("key", [["a"], 3, b"a"], ids=repr)
def test_a_key_that_is_no_text_is_refused_by_name(tmp_path, key):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    with pytest.raises(OptionTypeError, match=r"^key=.* is illegal: it must be a text"):
        pack(tmp_path / "a.pt", tmp_path / "a.pcell", key=key)
