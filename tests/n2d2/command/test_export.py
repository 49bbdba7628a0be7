"""What `-export` writes computes the same as the network."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import prunecell.archive
from n2d2 import ini
from n2d2.command.export import EXACT, EXPORTS, PCELL_BITS, export
from n2d2.experiment.experiment import build
from prunecell.pruning import Pruner


@pytest.fixture
def network(workplace):
    torch.manual_seed(0)
    made = build(ini.read(workplace / "net.ini"))
    Pruner(made.model, made.plan).finalize(early=True)
    return made


def test_every_kind_has_its_folder_and_suffix(network):
    for name in EXPORTS:
        path = export(network, name, None, "a.b")
        assert path.is_file()
        assert path.parent == Path(f"export_{name}")
        assert path.name == f"a.b.{name.lower()}"


@pytest.mark.parametrize("bits", PCELL_BITS)
def test_a_pcell_of_fewer_bits_is_smaller_and_near(network, bits):
    path = export(network, "pcell", bits, "net")
    exact = export(network, "pcell", EXACT, "exact")
    weight = network.model["fc1"].weight.detach()
    stored = prunecell.archive.load(path)["fc1.layer.weight"]
    assert torch.equal(stored == 0, weight == 0)
    assert (stored - weight).abs().max() <= {EXACT: 0, -16: 1e-4, 8: 1e-2}.get(bits, 0.3)
    assert path.stat().st_size < exact.stat().st_size or bits == EXACT


def test_onnx_computes_the_same_in_batches_of_any_size(network):
    path = export(network, "ONNX", None, "net")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 7):
        x = torch.rand(n, 1, 8, 8)
        (found,) = session.run(None, {"input": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network.model.eval()(x).numpy(), atol=1e-6)
