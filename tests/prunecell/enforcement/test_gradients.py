"""Gradients of any layout are masked as their dense twins, and a stamp knows its gradient."""

import copy
import gc

import pytest
import torch
from torch import nn

from prunecell.bits.mask import Mask
from prunecell.enforcement.gradients import Stamp, mask_gradient_


def with_gradient(gradient):
    parameter = nn.Parameter(torch.zeros(gradient.shape))
    parameter.grad = gradient
    return parameter


LAYOUTS = {
    "dense": lambda dense: dense,
    "transposed": lambda dense: dense.transpose(0, 1).contiguous().transpose(0, 1),
    "gaps": lambda dense: dense.repeat_interleave(2, 0)[::2],
    "expanded": lambda dense: dense[:1].expand(dense.shape),
    "one number": lambda dense: dense[0, 0, 0].expand(dense.shape),
    "rows": lambda dense: dense.to_sparse(1),
    "two sparse dimensions": lambda dense: dense.to_sparse(2),
    "elements": lambda dense: dense.to_sparse(),
    "uncoalesced": lambda dense: dense.to_sparse(1) + dense.to_sparse(1),
    "no entries": lambda dense: (dense * 0).to_sparse(1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 9), (8, 2, 8)])
def test_masking_is_that_of_the_dense_twin(layout, shape):
    torch.manual_seed(0)
    keep = torch.rand(shape) < 0.4
    given = LAYOUTS[layout](torch.randn(shape))
    parameter = with_gradient(given)
    expected = torch.where(keep, given.to_dense().clone(), 0.0)
    mask_gradient_(parameter, Mask.from_bool(keep))
    assert parameter.grad.layout is given.layout
    found = parameter.grad.to_dense()
    assert torch.equal(found, expected)
    assert not found[~keep].signbit().any()


def test_gradients_that_are_not_there_are_left_alone():
    parameter = nn.Parameter(torch.zeros(3, 3))
    mask_gradient_(parameter, Mask.from_bool(torch.zeros(3, 3, dtype=torch.bool)))
    assert parameter.grad is None


@pytest.mark.filterwarnings("ignore:Sparse CS")  # torch's own: the layouts are in beta state
@pytest.mark.parametrize("layout", ["sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"])
def test_layouts_that_cannot_be_masked_are_left_alone(layout):
    blocks = {"blocksize": (2, 2)} if layout.endswith(("bsr", "bsc")) else {}
    given = torch.ones(4, 4).to_sparse(layout=getattr(torch, layout), **blocks)
    parameter = nn.Parameter(given.clone())  # torch gives a strided parameter no such gradient
    parameter.grad = given
    mask_gradient_(parameter, Mask.from_bool(torch.zeros(4, 4, dtype=torch.bool)))
    assert parameter.grad is given
    assert torch.equal(given.to_dense(), torch.ones(4, 4))


CHANGES = {
    "in place": lambda g: g.add_(1),
    "zeroed": lambda g: g.zero_(),
    "other memory": lambda g: setattr(g, "data", torch.ones(3, 3)),
    "through a view": lambda g: g[0].mul_(2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stamp_is_broken_by_every_change_that_torch_knows_of(change):
    gradient, mask = torch.ones(3, 3), Mask.from_bool(torch.ones(3, 3, dtype=torch.bool))
    stamp = Stamp.of(gradient, mask)
    assert stamp.still_holds(gradient, mask)
    assert not stamp.still_holds(gradient, copy.copy(mask)), "under another mask it says nothing"
    assert not stamp.still_holds(gradient.clone(), mask)
    CHANGES[change](gradient)
    assert not stamp.still_holds(gradient, mask)
    assert stamp.is_of(gradient)


def test_a_stamp_does_not_keep_its_gradient_and_counts_no_versions_where_torch_does_not():
    gradient = torch.ones(3)
    stamp = Stamp.of(gradient)
    assert not stamp.was_added_to(gradient)
    gradient += 1
    assert stamp.was_added_to(gradient)
    gradient += 1
    assert not stamp.was_added_to(gradient)
    del gradient
    gc.collect()
    assert stamp.gradient() is None
    with torch.inference_mode():
        gradient = torch.ones(3)
    assert not Stamp.of(gradient).still_holds(gradient)
