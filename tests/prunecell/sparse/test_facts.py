"""The report of compact_: every weight has its form or its reason, and the bytes are those in memory."""

import copy
import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from prunecell import compact_, compact_report, save
from prunecell.errors import NothingSparseWarning, OptionError, OptionTypeError
from prunecell.sparse import survey
from prunecell.sparse.layers import SparseMatrix

pytestmark = pytest.mark.usefixtures("everything_wins")


def thinned(model, density=0.1):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter[torch.rand_like(parameter) >= density] = 0
    return model.eval()


class Mixed(nn.Module):
    """A layer for each form and each reason."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.conv = nn.Conv2d(8, 8, 3)
        self.lstm = nn.LSTM(32, 32)
        self.attention = nn.MultiheadAttention(32, 2)
        self.gru = nn.GRU(32, 32)
        self.up = nn.ConvTranspose2d(8, 8, 3)
        self.embed = nn.Embedding(50, 32)
        self.head = nn.Linear(32, 50)
        self.head.weight = self.embed.weight
        self.half = nn.Linear(16, 16).bfloat16()
        self.double = nn.Linear(16, 16).double()
        self.hooked = nn.Linear(16, 16)
        self.hooked.register_forward_hook(lambda *_: None)
        self.full = nn.Linear(16, 16)
        self.empty = nn.Linear(16, 1)
        self.empty.weight = nn.Parameter(torch.empty(0, 16))
        self.own = nn.Parameter(torch.ones(4, 4))
        self.norm = nn.LayerNorm(32)


def mixed():
    torch.manual_seed(0)
    model = thinned(Mixed())
    nn.init.ones_(model.full.weight)
    return model


def memory(model):
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def test_every_weight_has_its_form_or_its_reason():
    model = mixed()
    names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    report = compact_report(compact_(model))
    assert [layer.name for layer in report.layers] == names
    assert all((layer.form is None) == bool(layer.reason) for layer in report.layers)
    found = {layer.name: layer.form or layer.reason for layer in report.layers}
    sparse = ("fc.", "conv.", "lstm.", "attention.")
    assert {name for name, form in found.items() if form == "columns16 fp32"} == {
        n for n in names if n.startswith(sparse)
    }
    assert found["half.weight"] == "columns16 bf16"
    reasons = {
        "gru.weight_ih_l0": "GRU has no sparse form",
        "up.weight": "ConvTranspose2d has no sparse form",
        "embed.weight": "shared with a dense Embedding",
        "double.weight": "float64: sparse layers are float32, bfloat16 or float16",
        "full.weight": "with 1 sample at once dense is faster at 0 % zeros",
    }
    assert {name: found[name] for name in reasons} == reasons
    assert all(found[name] for name in ("hooked.weight", "empty.weight", "own"))


def test_bytes_are_those_in_memory_before_and_after():
    model = mixed()
    before = memory(model)
    small = compact_(model)
    report = compact_report(small)
    assert (report.bytes_before, report.bytes_after) == (before, memory(small))
    for layer in report.layers:
        assert (layer.bytes_after < layer.bytes_before) == (layer.form is not None)
        assert layer.bytes_after == layer.bytes_before or layer.sparsity == pytest.approx(0.9, abs=0.05)


def test_a_model_without_memory_is_told_as_if_it_had_some(tmp_path):
    model = thinned(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)))
    save(model, tmp_path / "model.pcell")
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))
    found = compact_report(compact_(empty, tmp_path / "model.pcell"))
    assert found == compact_report(compact_(model))
    assert found.bytes_before == 4 * (64 * 64 + 3 * 64)


def test_it_prints_as_a_table_and_gives_json():
    report = compact_report(compact_(mixed()))
    text = str(report)
    assert "columns16 fp32" in text
    assert "7 of 16 sparse" in text
    assert "dense (GRU has no sparse form): 'gru.weight_ih_l0', 'gru.weight_hh_l0'" in text
    assert f"for its format: {report.bytes_before:,} bytes before, {report.bytes_after:,} after" in text
    found = json.loads(report.to_json())
    assert found["n_sparse"] == report.n_sparse
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in report.layers]


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(64, 64)), lambda: nn.Linear(64, 64)])
def test_it_travels_with_the_model_and_hinders_no_second_conversion(make):
    model = compact_(thinned(make()))
    report = compact_report(model)
    assert compact_report(copy.deepcopy(model)) == report
    assert compact_report(pickle.loads(pickle.dumps(model))) == report  # noqa: S301 - our own bytes
    dense = make()
    with pytest.warns(
        NothingSparseWarning, match="not one weight sparse: with 1 sample at once dense is faster at 0 % zeros"
    ):
        again = compact_(dense)
    assert again is dense
    assert compact_report(dense).n_sparse == 0
    assert compact_report(compact_(thinned(dense))).n_sparse == 1


def test_the_report_of_a_part_survives_the_conversion_of_the_whole():
    model = nn.Sequential(nn.Sequential(nn.Linear(64, 64)), nn.Linear(64, 64))
    part = compact_report(compact_(thinned(model)[0]))
    assert compact_report(compact_(model)).n_sparse == 2
    assert compact_report(model[0]) == part


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.ReLU(), "it has no weight of two dimensions or more"),
        (nn.LayerNorm(8), "it has no weight of two dimensions or more"),
        (
            nn.Sequential(nn.Linear(8, 8), nn.GRU(8, 8)),
            r"1\.weight_ih_l0 and 1 more: GRU has no sparse form; 0\.weight: with 1 sample at once dense is faster at",
        ),
        (nn.GRU(8, 8), "GRU has no sparse form;"),
        (nn.Sequential(nn.LazyLinear(8, bias=False)), "it has no shape yet: run the lazy module once"),
        (nn.Linear(8, 8).double(), "float64: sparse layers are float32, bfloat16 or float16"),
    ],
)
def test_where_nothing_becomes_sparse_one_warning_says_each_reason_with_its_weight(model, reason):
    with pytest.warns(NothingSparseWarning, match=f"not one weight sparse: {reason}") as seen:
        compact_(model)
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_without_compact_there_is_no_report():
    model = compact_(thinned(nn.Sequential(nn.Linear(64, 64))))
    for other in (nn.Linear(2, 2), model[0]):
        with pytest.raises(OptionError, match="has no report: compact_ did not return it"):
            compact_report(other)
    with pytest.raises(OptionTypeError, match=r"model is a dict: it must be a torch\.nn\.Module"):
        compact_report({})


def test_layers_of_an_earlier_conversion_are_in_the_report_too():
    model = compact_(thinned(nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 8))))
    first, second = compact_report(model).layers, compact_report(compact_(model)).layers
    assert isinstance(model[0], SparseMatrix)
    assert {(layer.name, layer.form) for layer in second} == {(layer.name, layer.form) for layer in first}
    assert sum(layer.bytes_after for layer in second) == sum(layer.bytes_after for layer in first)


def test_weights_on_other_devices_stay_dense_and_the_reason_names_the_device():
    elsewhere = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda:1"), numel=lambda: 4)
    assert survey._why_never(elsewhere) == "on cuda:1: sparse layers are for the CPU"


def test_a_second_call_keeps_the_order_and_tells_of_all():
    model = thinned(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.LSTM(32, 32), nn.Linear(64, 64), nn.Linear(8, 8)))
    nn.init.ones_(model[3].weight)
    first = compact_report(compact_(model))
    assert [layer.form is None for layer in first.layers if layer.name == "3.weight"] == [True]
    thinned(model[3])
    second = compact_report(compact_(model))
    assert [layer.name.split(".")[0] for layer in second.layers] == [layer.name[0] for layer in first.layers]
    assert second.bytes_before == first.bytes_after
    assert all(layer.bytes_before == layer.bytes_after for layer in second.layers if layer.name != "3.weight")
