"""Where a list is meant, one text is refused by name, and where a mapping is meant, a list; nothing is changed."""

import pytest
import torch
from torch import nn

from prunecell import Pruner, PruneSpec, Static, pack, save, share_
from prunecell.data.images import list_images
from prunecell.errors import OptionTypeError
from prunecell.export import export


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
    with pytest.raises(OptionTypeError, match=rf"^{name}(=| is a ).*it must be a"):
        work(tmp_path, value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
