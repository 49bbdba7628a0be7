"""The dense weight of a sparse layer can be read like any tensor; whatever would write to it is an error."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunecell.errors import NothingSparseWarning, OptionError
from prunecell.sparse.compress import compress
from prunecell.sparse.convert import compact_
from prunecell.sparse.dense_weight import DenseWeight
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.matrix import decompress

MODES = pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])


def layer_and_weight():
    torch.manual_seed(0)
    weight = torch.randn(4, 3) * (torch.rand(4, 3) < 0.6)
    return SparseLinear(compress(weight), torch.zeros(4)), weight


READING = {
    "clone": lambda w: w.clone(),
    "t": lambda w: w.t(),
    "T": lambda w: w.T,
    "data": lambda w: w.data,
    "detach": lambda w: w.detach(),
    "row": lambda w: w[1],
    "rows": lambda w: torch.stack(list(w)),
    "mask": lambda w: w[w != 0],
    "chunks": lambda w: torch.cat(w.chunk(2)),
    "product": lambda w: torch.ones(2, 3) @ w.t(),
    "linear": lambda w: F.linear(torch.ones(2, 3), w),
    "sum": lambda w: w.abs().sum(0),
    "zeros": lambda w: (w == 0).sum(),
    "half": lambda w: w.half(),
    "float": lambda w: w.float(),
    "numpy": lambda w: torch.tensor(np.asarray(w)),
    "numpy of its own": lambda w: torch.tensor(w.numpy()),
    "list": lambda w: torch.tensor(w.tolist()),
    "deepcopy": copy.deepcopy,
    "pickle": lambda w: pickle.loads(pickle.dumps(w)),  # noqa: S301 - our own bytes
    "parameter": lambda w: nn.Parameter(w).detach(),
    "frozen parameter": lambda w: nn.Parameter(w, requires_grad=False),
    "copy_": lambda w: torch.zeros(4, 3).copy_(w),
    "like": torch.zeros_like,
    "singular values": lambda w: torch.linalg.svd(w).S,
    "sparse": lambda w: w.to_sparse().to_dense(),
    "new": lambda w: w.new_ones(2),
    "where": lambda w: torch.where(w > 0, w, -w),
    "as parameter": lambda w: nn.utils.parameters_to_vector([w]),
    "no gradient": lambda w: w.requires_grad_(False),  # noqa: FBT003 - as torch has it
}


@MODES
@pytest.mark.parametrize("name", READING)
def test_it_reads_as_a_tensor(name, mode):
    layer, weight = layer_and_weight()
    with mode():
        given, expected = READING[name](layer.weight), READING[name](weight)
    assert torch.equal(torch.as_tensor(given).detach().clone(), torch.as_tensor(expected).detach().clone())
    assert not given.requires_grad


def test_its_properties_are_told_without_its_elements(monkeypatch):
    layer, weight = layer_and_weight()

    def refuse(*_):
        raise AssertionError("the dense weight was made")

    monkeypatch.setattr(SparseLinear, "_dense_weight", refuse)
    w = layer.weight
    assert isinstance(w, torch.Tensor)
    assert (w.shape, w.dtype, w.device, w.ndim, w.numel()) == (weight.shape, weight.dtype, weight.device, 2, 12)
    assert (w.size(0), len(w), w.dim(), w.element_size(), w.nbytes) == (4, 4, 2, 4, 48)
    assert (w.requires_grad, w.grad, w.is_leaf, w.is_cuda, w.is_meta, w.is_sparse) == (
        False,
        None,
        True,
        False,
        False,
        False,
    )
    assert w.is_floating_point()
    assert torch.is_floating_point(w)
    assert layer.half().weight.dtype == torch.float16
    with pytest.raises(AssertionError, match="the dense weight was made"):
        w.sum()


def test_what_is_computed_from_it_is_an_ordinary_tensor():
    layer, _ = layer_and_weight()
    for computed in (layer.weight + 1, layer.weight.clone(), layer.weight.half(), copy.deepcopy(layer.weight)):
        assert type(computed) is torch.Tensor
        computed.zero_()
    for view in (layer.weight.t(), layer.weight[0], layer.weight.data, layer.weight.float(), *layer.weight):
        assert type(view) is DenseWeight


def test_a_parameter_of_it_is_an_ordinary_parameter_with_a_copy():
    layer, weight = layer_and_weight()
    dense = nn.Linear(3, 4)
    dense.weight = nn.Parameter(layer.weight)
    assert type(dense.weight) is nn.Parameter
    assert dense.weight.requires_grad
    assert torch.equal(dense.weight, weight)
    dense(torch.ones(2, 3)).sum().backward()
    torch.optim.SGD(dense.parameters(), 0.1).step()
    assert not torch.equal(dense.weight, weight)
    assert torch.equal(layer.weight, weight)
    assert type(copy.deepcopy(dense).weight) is nn.Parameter
    with pytest.raises(RuntimeError, match="incompatible tensor type"):  # torch's, who asks nobody here
        dense.weight.data = layer.weight
    dense.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    assert type(dense.weight.data) is torch.Tensor
    assert torch.equal(dense.weight, weight)


def add_in_place(w):
    w += 1


def scale_data(w):
    w.data *= 2


def zero_rows(w):
    for row in w:
        row.zero_()


WRITING = {
    "add": add_in_place,
    "scale data": scale_data,
    "zero rows": zero_rows,
    "item": lambda w: w.__setitem__(0, 1.0),
    "masked item": lambda w: w.__setitem__(w > 0, 0.0),
    "item of data": lambda w: w.data.__setitem__(0, 1.0),
    "zero_": lambda w: w.zero_(),
    "copy_": lambda w: w.copy_(torch.ones(4, 3)),
    "copy_ to data": lambda w: w.data.copy_(torch.ones(4, 3)),
    "view": lambda w: w.view(-1)[3:5].fill_(1),
    "view of a view": lambda w: w.detach().t().reshape(3, 4)[1].fill_(1),
    "transposed": lambda w: w.T.copy_(torch.ones(3, 4)),
    "diagonal": lambda w: w.diagonal().fill_(1),
    "chunk": lambda w: w.chunk(2)[0].fill_(1),
    "same dtype": lambda w: w.float().zero_(),
    "same device": lambda w: w.to("cpu").zero_(),
    "contiguous": lambda w: w.contiguous().zero_(),
    "out": lambda w: torch.add(torch.ones(4, 3), 1, out=w),
    "out, a row": lambda w: torch.add(torch.ones(3), 1, out=w[0]),
    "relu_": torch.relu_,
    "relu": lambda w: F.relu(w, inplace=True),
    "dropout": lambda w: F.dropout(w, 0.5, training=True, inplace=True),
    "foreach": lambda w: torch._foreach_add_([w], 1.0),
    "map": lambda w: w.apply_(lambda _: 1.0),
    "index": lambda w: w.index_fill_(0, torch.tensor([0]), 1.0),
    "set data": lambda w: setattr(w, "data", torch.zeros(4, 3)),
    "set gradient": lambda w: setattr(w, "grad", torch.zeros(4, 3)),
    "set requires_grad": lambda w: setattr(w, "requires_grad", True),
    "requires_grad_": lambda w: w.requires_grad_(),
    "set_": lambda w: w.set_(torch.ones(4, 3)),
    "resize_": lambda w: w.resize_(2),
    "dlpack": torch.from_dlpack,
    "vector": lambda w: nn.utils.vector_to_parameters(torch.zeros(12), [w]),
    **{
        f"init.{name}": getattr(nn.init, name)
        for name in ("zeros_", "ones_", "uniform_", "normal_", "xavier_uniform_", "kaiming_normal_", "orthogonal_")
    },
    "init.sparse_": lambda w: nn.init.sparse_(w, 0.5),
}


@MODES
@pytest.mark.parametrize("name", WRITING)
def test_writing_is_an_error_that_says_what_to_do(name, mode):
    layer, weight = layer_and_weight()
    w = layer.weight
    with (
        mode(),
        pytest.raises(OptionError, match=r"lost.*before compact_; or take a copy, weight\.clone\(\)"),
    ):
        WRITING[name](w)
    assert torch.equal(w, weight)
    assert torch.equal(decompress(layer.matrix), weight)


def test_arrays_of_it_cannot_be_written():
    layer, _ = layer_and_weight()
    for array in (layer.weight.numpy(), layer.weight.t().numpy(), np.asarray(layer.weight), layer.weight.data.numpy()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    np.array(layer.weight)[0] = 1
    assert np.asarray(layer.weight, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("value", [nn.Parameter(torch.ones(4, 3)), torch.ones(4, 3), None], ids=type)
def test_it_cannot_be_set(value):
    layer, weight = layer_and_weight()
    with pytest.raises(OptionError, match="weight of a sparse layer cannot be set: set it in the dense model"):
        layer.weight = value
    assert torch.equal(layer.weight, weight)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return self.fc(x)


@pytest.mark.usefixtures("everything_wins")
def test_adapters_go_along_and_cannot_be_merged_into_sparse_layers():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    net, x = Net(), torch.randn(3, 16)
    nn.init.sparse_(net.fc.weight, 0.9)
    dense = peft.get_peft_model(net, peft.LoraConfig(r=4, target_modules=["fc"], init_lora_weights=False)).eval()
    with torch.no_grad():
        expected = dense(x)
        sparse = compact_(copy.deepcopy(dense))
        torch.testing.assert_close(sparse(x), expected)
        for merge in (lambda m: m.merge_and_unload(), lambda m: m.merge_and_unload(safe_merge=True)):
            with pytest.raises(OptionError, match="merge adapters into them, before compact_"):
                merge(copy.deepcopy(sparse))
        net = dense.merge_and_unload()
        with pytest.warns(NothingSparseWarning):  # a merged weight has no zeros left
            torch.testing.assert_close(compact_(copy.deepcopy(net))(x), expected)
    nn.init.sparse_(net.fc.weight, 0.9)
    with pytest.raises(ValueError, match="SparseLinear"):
        peft.get_peft_model(compact_(net), peft.LoraConfig(target_modules=["fc"]))
