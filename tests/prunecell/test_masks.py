import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecell import masks
from prunecell.masks import Mask

shapes = st.lists(st.integers(0, 7), max_size=3).map(torch.Size)


@given(shape=shapes, seed=st.integers(0, 99))
def test_a_bool_tensor_survives_packing(shape, seed):
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    mask = Mask.from_bool(keep)
    assert torch.equal(mask.to_bool(), keep)
    assert mask.n_kept == int(keep.sum())
    assert mask.n_kept + mask.n_pruned == keep.numel()
    assert mask.bits.numel() == -(-keep.numel() // 8)


@given(shape=shapes)
def test_the_full_mask_keeps_everything_and_has_no_stray_bits(shape):
    keep = torch.ones(shape, dtype=torch.bool)
    assert Mask.full(shape).equals(Mask.from_bool(keep))


def test_the_order_of_bits_is_the_documented_one():
    keep = torch.zeros(10, dtype=torch.bool)
    keep[[0, 3, 9]] = True
    assert Mask.from_bool(keep).bits.tolist() == [0b1001, 0b10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 1000])
def test_zeroing_leaves_the_kept_bits_alone_and_writes_positive_zeros(dtype, n):
    torch.manual_seed(n)
    weight = (torch.randn(n) * 10).to(dtype)
    keep = torch.rand(n) > 0.7
    if dtype.is_floating_point and n > 6:
        weight[:6] = torch.tensor([torch.nan, -torch.inf, -0.0] * 2, dtype=dtype)
        keep[:6] = torch.tensor([True, True, True, False, False, False])
    before = weight.clone()
    Mask.from_bool(keep).zero_pruned_(weight)
    assert torch.equal(weight[keep].view(torch.uint8), before[keep].view(torch.uint8))
    assert not weight[~keep].view(torch.uint8).any()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_parked_values_come_back_bit_for_bit(order):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 5, 5).to(memory_format=order)
    before = weight.clone()
    mask = Mask.from_bool(torch.rand(4, 3, 5, 5) > 0.5)
    hidden = mask.pruned_values(weight)
    assert hidden.shape == (mask.n_pruned,)
    mask.zero_pruned_(weight)
    assert int((weight == 0).sum()) == mask.n_pruned
    mask.put_pruned_(weight, hidden)
    assert torch.equal(weight, before)


def test_long_tensors_are_worked_on_in_chunks_that_fit_together():
    n = 2 * masks.CHUNK + 13
    keep = torch.arange(n) % 3 == 0
    mask = Mask.from_bool(keep)
    assert torch.equal(mask.to_bool(), keep)
    weight = torch.arange(1.0, n + 1)
    hidden = mask.pruned_values(weight)
    mask.zero_pruned_(weight)
    assert torch.equal(weight != 0, keep)
    mask.put_pruned_(weight, hidden)
    assert torch.equal(weight, torch.arange(1.0, n + 1))
