"""Weights on their way from an archive: decoded once, and what is int8 already stays as it is."""

import copy
import importlib
import sys

import pytest
import torch
from torch import nn

from prunecell import compact_, save
from prunecell.archive import Archive
from prunecell.sparse import registry
from prunecell.sparse.formats import FORMATS

pytestmark = pytest.mark.usefixtures("everything_wins")


def net(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.MultiheadAttention(400, 4), nn.Conv1d(8, 8, 3))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data[torch.rand_like(parameter) < 0.9] = 0
    return model.to(dtype)


@pytest.mark.parametrize("prefer", ["speed", "memory"])
@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_each_weight_is_decoded_once(tmp_path, monkeypatch, prefer, values):
    save(net(), tmp_path / "net.pcell")
    seen = []
    chunks, dense = Archive.chunks, Archive.__getitem__
    monkeypatch.setattr(Archive, "chunks", lambda self, name: (seen.append(name), chunks(self, name))[1])
    monkeypatch.setattr(Archive, "__getitem__", lambda self, name: (seen.append(name), dense(self, name))[1])
    compact_(net(), tmp_path / "net.pcell", prefer=prefer, values=values)
    weights = [name for name, parameter in net().named_parameters() if parameter.ndim > 1]
    assert {name: seen.count(name) for name in weights} == dict.fromkeys(weights, 1)


def test_int8_in_an_archive_is_int8_in_the_layer(tmp_path):
    save(net(), tmp_path / "net.pcell", values="int8")
    layer = compact_(net(), tmp_path / "net.pcell", values="int8")[0]
    with Archive.open(tmp_path / "net.pcell") as archive:
        parts = archive.parts("0.weight")
    assert torch.equal(layer.values[layer.values != 0], parts.values)
    assert torch.equal(layer.scales, parts.scales)


def test_negative_zeros_of_an_archive_are_no_entries(tmp_path):
    model = nn.Sequential(nn.Linear(300, 400))
    model[0].weight.data[:, 1:] = -0.0
    save(model, tmp_path / "net.pcell")
    small = compact_(nn.Sequential(nn.Linear(300, 400)), tmp_path / "net.pcell")[0]
    assert len(small.values) == 400
    assert torch.equal(small.weight, model[0].weight)


def test_masks_by_multiplication_leave_negative_zeros_and_become_sparse_all_the_same(tmp_path, monkeypatch):
    monkeypatch.undo()  # the times that are shipped
    model = nn.Sequential(nn.Linear(512, 512))
    model[0].weight.data *= torch.rand(512, 512) < 0.02
    assert int(torch.signbit(model[0].weight[model[0].weight == 0]).sum()) > 100_000
    save(model, tmp_path / "net.pcell")
    for prefer in ("speed", "memory"):
        stored = compact_(nn.Sequential(nn.Linear(512, 512)), tmp_path / "net.pcell", prefer=prefer)[0]
        own = compact_(copy.deepcopy(model), prefer=prefer)[0]
        assert stored.format == own.format
        assert len(stored.values) == len(own.values)


@pytest.mark.parametrize("name", ["_n_dispatch_modes", "_n_function_modes", "_transform", "_tracing"])
def test_without_torchs_private_names_every_call_takes_torchs_own_way(name, monkeypatch):
    assert registry.is_plain(torch.ones(1), torch.ones(1), None)
    monkeypatch.setattr(registry, name, registry._always)
    assert not registry.is_plain(torch.ones(1), torch.ones(1), None)
    model, x = net(), torch.randn(2, 300)
    expected = model[0](x)
    torch.testing.assert_close(compact_(model)[0](x), expected, atol=1e-4, rtol=1e-4)


def test_a_format_of_the_table_is_named_in_its_own_file():
    for name, kind in FORMATS.items():
        assert importlib.import_module(f"prunecell.sparse.formats.{name}") in sys.modules.values()
        assert kind.name == name
