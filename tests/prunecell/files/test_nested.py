"""Checkpoints around a state_dict: which entry is packed, what is kept beside it, and what is told to be left out."""

import math
import re
import warnings
from collections import OrderedDict

import pytest
import torch

from prunecell.archive import Archive, load
from prunecell.codecs.modes import VALUE_MODES
from prunecell.errors import FormatError, OptionError, UnknownNameError
from prunecell.files import pack, read, unpack
from prunecell.files.contents import contents_of
from prunecell.files.safetensors_file import read_safetensors, write_safetensors

A = {"layer.weight": torch.eye(3), "n": torch.tensor(7)}
B = {"other.weight": torch.ones(2, 2)}
OPTIMIZER = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
PLAIN = {
    "epoch": 3,
    "best": 0.1 + 0.2,
    "name": "LeNet ü\u202e",
    "done": True,
    "none": None,
    "lr": [0.1, -0.0, 1e-300, 10**30],
    "config": {"data": {"path": "/data", "sizes": [1, 2]}, "empty": {}},
}


def same(one, other):
    assert type(one) is type(other) or {type(one), type(other)} <= {dict, OrderedDict}
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and (not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other))


@pytest.mark.parametrize("through", [[], ["a.safetensors", "b.pcell"]], ids=["straight", "through safetensors"])
@pytest.mark.parametrize(
    "checkpoint",
    [
        A,
        {"model": A},
        {"state_dict": A, **PLAIN},
        {**PLAIN, "model_state_dict": OrderedDict(A)},
        {"net": A, "epoch": 1},
        {"epoch": 1, **A},
        {"model": {"encoder": {"inner": A}}, "epoch": 1},
        {"state_dict": {**A, "extra": "text"}, "epoch": 2},
        {"a.b": A, "epoch": 2},
        {},
    ],
)
def test_a_checkpoint_of_plain_values_comes_back_whole(tmp_path, checkpoint, through):
    torch.save(checkpoint, tmp_path / "in.pt")
    pack(tmp_path / "in.pt", tmp_path / "in.pcell")
    last = "in.pcell"
    for one in through:
        (unpack if one.endswith(".safetensors") else pack)(tmp_path / last, tmp_path / one)
        last = one
    unpack(tmp_path / last, tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt"), checkpoint)


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({"optimizer": OPTIMIZER}, "optimizer (a dict with tensors)"),
        ({"ema": A}, "ema (a dict with tensors)"),
        ({"best": torch.tensor(0.5)}, "best (a tensor of shape ())"),
        ({"betas": (0.9, 0.999)}, "betas (a tuple)"),
        ({"args": {"betas": (0.9, 0.999)}}, "args (a dict with values that are neither numbers nor text)"),
        ({"loss": math.nan}, "loss (a float)"),
        ({"loss": [math.inf]}, "loss (a list)"),
        ({7: "seven"}, "7 (its name is no text)"),
        ({"numbers": {1: 2}}, "numbers (a dict"),
        ({"bytes": b"abc"}, "bytes (a bytes)"),
        ({"long": "x" * (1 << 20)}, "long (a str)"),
        ({"half": "\udc80"}, "half (a str)"),
    ],
)
def test_what_cannot_be_kept_is_told_and_the_rest_comes_back(tmp_path, beside, told):
    torch.save({"model": A, "epoch": 3, **beside}, tmp_path / "in.pt")
    with pytest.warns(UserWarning, match=re.escape("in.pt: left out, because only tensors are kept")) as caught:
        pack(tmp_path / "in.pt", tmp_path / "in.pcell")
    assert told in str(caught[0].message)
    unpack(tmp_path / "in.pcell", tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt"), {"model": A, "epoch": 3})


@pytest.mark.parametrize(
    ("key", "wanted"), [("g", A), ("d", B), ("both.x", A), ("both.y", B), ("with.dot", B), (None, None)]
)
def test_a_key_chooses_among_several(tmp_path, key, wanted):
    torch.save({"g": A, "d": B, "both": {"x": A, "y": B}, "with.dot": B, "epoch": 1}, tmp_path / "in.pt")
    if key is None:
        with pytest.raises(
            FormatError, match=r"several state_dicts: g, d, both\.x, both\.y, with\.dot; choose one of them by key="
        ):
            read(tmp_path / "in.pt")
        return
    assert same(read(tmp_path / "in.pt", key=key), wanted)
    with pytest.warns(UserWarning, match="left out"):
        pack(tmp_path / "in.pt", tmp_path / "out.pcell", key=key)
    assert same(load(tmp_path / "out.pcell"), wanted)


@pytest.mark.parametrize("key", ["epoch", "modle", "model.epoch", "", ".", "model.", "best"])
def test_a_key_without_a_state_dict_is_refused(tmp_path, key):
    torch.save({"model": A, "epoch": 1, "best": torch.tensor(1.0)}, tmp_path / "in.pt")
    with pytest.raises(
        UnknownNameError, match=rf"in\.pt: key={key!r} is illegal: no state_dict is there; .*[Ll]egal: model"
    ):
        read(tmp_path / "in.pt", key=key)


def test_only_a_torch_checkpoint_has_entries(tmp_path):
    torch.save(A, tmp_path / "in.pt")
    pack(tmp_path / "in.pt", tmp_path / "in.pcell")
    with pytest.raises(
        OptionError, match=r"key='model' is illegal: only a torch checkpoint has entries to choose from"
    ):
        pack(tmp_path / "in.pcell", tmp_path / "out.pcell", key="model")


@pytest.mark.parametrize(
    "told",
    [
        None, 3, [], "text", "{", {}, {"key": [], "around": 3}, {"key": ["a"], "around": {}},
        {"key": [1], "around": {}}, {"key": "model", "around": {"model": {}}}, {"key": ["a", "b"], "around": {"a": 3}},
        {"key": ["a"], "around": {"a": None}}, {"key": [], "around": {}, "more": 1}, "[" * 100_000,
    ],
)  # fmt: skip
def test_metadata_that_tell_of_no_checkpoint_are_no_harm(tmp_path, told):
    from prunecell import save  # noqa: PLC0415 - another pack is meant here

    save(A, tmp_path / "in.pcell", metadata={"torch_checkpoint": told})
    unpack(tmp_path / "in.pcell", tmp_path / "out.pt")
    assert same(torch.load(tmp_path / "out.pt"), A)


@pytest.mark.parametrize(("target", "lost"), [("out.pt", "data, sizes"), ("out.npz", "data, sizes, epoch")])
def test_metadata_without_a_place_are_told(tmp_path, target, lost):
    torch.save({"model": A, "epoch": 3}, tmp_path / "in.pt")
    pack(tmp_path / "in.pt", tmp_path / "in.pcell", metadata={"format": "pt", "data": "MNIST", "sizes": [1]})
    with Archive.open(tmp_path / "in.pcell") as archive:
        assert archive.metadata.keys() == {"torch_checkpoint", "format", "data", "sizes"}
    with pytest.warns(UserWarning, match=rf"{target}: this kind of file has no place for the metadata {lost}$"):
        unpack(tmp_path / "in.pcell", tmp_path / target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_minus_zeros_are_told_where_there_are_many(tmp_path, dtype):
    weight = torch.randn(100, 100).to(dtype)
    masked = weight * (weight.abs() > 1)
    assert (masked.signbit() & (masked == 0)).any()
    torch.save({"w": masked}, tmp_path / "in.pt")
    with pytest.warns(UserWarning, match=r"in\.pt: [\d,]+ of 10,000 numbers are -0\.0, .*: add 0\.0 to the tensors"):
        pack(tmp_path / "in.pt", tmp_path / "masked.pcell")
    torch.save({"w": masked + 0.0}, tmp_path / "in.pt")
    pack(tmp_path / "in.pt", tmp_path / "zeros.pcell")
    assert (tmp_path / "zeros.pcell").stat().st_size < (tmp_path / "masked.pcell").stat().st_size


@pytest.mark.parametrize("values", VALUE_MODES)
def test_minus_zeros_are_told_exactly_where_they_cost_something(tmp_path, values):
    torch.manual_seed(0)
    masked = {name: torch.randn(4, 2000) * torch.randint(0, 2, (4, 2000)) for name in "ab"}
    sizes = []
    for state in (masked, {name: tensor + 0.0 for name, tensor in masked.items()}):
        torch.save(state, tmp_path / "in.pt")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            pack(tmp_path / "in.pt", tmp_path / "out.pcell", values=values)
        sizes.append(((tmp_path / "out.pcell").stat().st_size, len(told)))
    (with_them, n_told), (without, none) = sizes
    assert (with_them > without, none) == (n_told == 1, 0)


def test_text_that_utf_8_cannot_hold_is_written_as_python_writes_it(tmp_path):
    contents = contents_of(A, metadata={"a\udc80": "b\udc80", "n": 3, "ü": "ü"})
    write_safetensors(contents, tmp_path / "out.safetensors")
    found = {"a\\udc80": "b\\udc80", "n": "3", "ü": "ü"}
    assert read_safetensors(tmp_path / "out.safetensors").metadata == found


def test_a_checkpoint_that_holds_itself_is_gone_into_once(tmp_path):
    whole = {"w": torch.eye(3)}
    whole["self"] = whole
    torch.save(whole, tmp_path / "in.pt")
    with pytest.warns(UserWarning, match=r"left out, .*: self \(a dict with tensors\)$"):
        assert [row.name for row in pack(tmp_path / "in.pt", tmp_path / "out.pcell")] == ["w"]
    whole["inner"] = {"v": torch.ones(2, 2), "up": whole}
    torch.save(whole, tmp_path / "in.pt")
    with pytest.raises(FormatError, match=r"several state_dicts: the tensors outside of these, inner; choose"):
        pack(tmp_path / "in.pt", tmp_path / "out.pcell")
    with pytest.warns(UserWarning, match="left out"):
        assert [row.name for row in pack(tmp_path / "in.pt", tmp_path / "out.pcell", key="inner")] == ["v"]


def test_what_is_left_out_is_looked_at_once_however_often_it_stands_there(tmp_path):
    pack_beside(tmp_path, {"deep": {1, 2}}, lambda value: {str(i): value for i in range(30)})


@pytest.mark.parametrize("wrap", [lambda value: {str(i): value for i in range(30)}, lambda value: [value] * 1000])
@pytest.mark.parametrize("innermost", [1, "text" * 1000, []])
def test_few_bytes_that_would_be_much_json_are_left_out(tmp_path, innermost, wrap):
    pack_beside(tmp_path, innermost, wrap)


def pack_beside(folder, value, wrap):
    for _ in range(30):
        value = wrap(value)
    torch.save({"w": torch.eye(3), "beside": [value]}, folder / "in.pt")
    with pytest.warns(UserWarning, match=r"left out, .*: beside \(a list\)$"):
        pack(folder / "in.pt", folder / "out.pcell")
