"""No writer puts a file under the ending of another kind; no ending and an unknown one are legal."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from prunecell import Checkpoint, load, pack, save
from prunecell.archive import write
from prunecell.disk.endings import WRITTEN_ENDINGS, check_ending
from prunecell.errors import OptionError
from prunecell.export import FORMATS, export, to_csr, to_safetensors
from prunecell.export.formats import PROGRAM_ENDINGS
from prunecell.files.formats import FILE_FORMATS
from prunecell.report.picture import draw_run


def net():
    return nn.Linear(3, 2)


def packed(path):
    source = path.parent.parent / "source.pcell"
    save(net(), source)
    pack(source, path)


def exported(name):
    return lambda path: export(net(), path, format=name, example=torch.ones(1, 3))


WRITERS = {
    "save": (lambda path: save(net(), path), ".pcell"),
    "write": (lambda path: write([], path), ".pcell"),
    "pack": (packed, ".pcell"),
    "to_csr": (lambda path: to_csr(net(), path), ".npz"),
    "to_safetensors": (lambda path: to_safetensors(net(), path), ".safetensors"),
    "draw_run": (lambda path: draw_run(path, title="", sparsity=[], accuracies={}, n_epochs=1), ".png"),
    "Checkpoint": (lambda path: Checkpoint(path=path).save({}), ".pt"),
    **{name: (exported(name), ending) for name, ending in {
        "onnx": ".onnx", "onnx-dense": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors",
        "pcell": ".pcell", "torch": ".pt", "csr": ".npz",
    }.items()},
}  # fmt: skip
FOREIGN = (
    *(".npy", ".h5", ".gguf", ".zip", ".tar", ".tar.gz", ".json", ".txt", ".yaml", ".csv", ".pdf", ".jpg", ".JSON"),
    *(".safetensors.index.json", ".pcell.gz", ".pt.zip"),
)
ALL = (*WRITTEN_ENDINGS, *PROGRAM_ENDINGS, ".png", *FOREIGN)


def test_every_format_that_is_written_is_tried_here():
    assert set(FORMATS) <= set(WRITERS)


@pytest.mark.parametrize("writer", WRITERS)
def test_the_ending_of_another_kind_is_refused_and_the_file_there_kept(tmp_path, writer):
    work, own = WRITERS[writer]
    folder, torch_file = tmp_path / "to", {".pt", ".pth", ".bin", ".ckpt"}
    folder.mkdir()
    for ending in ALL:
        if ending == own or {ending, own} <= torch_file:
            continue
        path = folder / f"model{ending}"
        path.write_bytes(b"kept")
        message = f"^{re.escape(str(path))}: an? .* must not have the ending of another kind, .*end in {re.escape(own)}"
        with pytest.raises(OptionError, match=message):
            work(path)
        assert path.read_bytes() == b"kept"
        path.unlink()
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "name", ["q", "q.pcell", "q.weights", "q.pt.pcell", "pt", "q.v1.5", "q.json.bak", "json", "q.PCELL"]
)
def test_no_ending_and_an_unknown_one_are_legal(tmp_path, name):
    save({"w": torch.eye(3)}, tmp_path / name)
    assert load(tmp_path / name)["w"].equal(torch.eye(3))


def test_endings_of_ones_own_are_legal():
    for known in FILE_FORMATS.values():
        for ending in known.endings if known.write else ():
            kind = {".pcell": ".pcell file", ".safetensors": "safetensors file", ".npz": "file of CSR arrays"}
            check_ending(Path(f"a{ending}"), kind.get(ending, "torch checkpoint"))
    check_ending(Path("checkpoint.pth.tar"), "torch checkpoint")


def test_the_message_says_what_writes_such_a_file():
    for ending, call in {
        ".pt": "torch.save(model.state_dict(), 'model.pt')",
        ".npz": "prunecell.export.export(model, 'model.npz')",
        ".onnx": "prunecell.export.export(model, 'model.onnx', example=x)",
    }.items():
        with pytest.raises(OptionError, match=re.escape(f"or write such a file by {call}") + "$"):
            save(net(), f"model{ending}")
    for ending in (".json", ".safetensors.index.json", ".png"):
        with pytest.raises(OptionError, match=r"let its name end in \.pcell$"):
            save(net(), f"model{ending}")


@pytest.mark.parametrize("name", ["a.xyz", "a.v1.5", "a.png.bak", "a.PNGG"])
def test_a_picture_has_no_unknown_ending(name):
    with pytest.raises(OptionError, match=r"a picture is a PNG file: let its name end in \.png"):
        check_ending(Path(name), "picture")
    for legal in ("a.png", "a.PNG", "a"):
        check_ending(Path(legal), "picture")
