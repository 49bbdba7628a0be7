"""Masks, with the compiled kernels of every level and with their torch twins."""

import contextlib
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunecell import native
from prunecell.bits import mask as masks
from prunecell.bits.mask import Mask
from prunecell.errors import OptionError

pytestmark = pytest.mark.usefixtures("level")

shapes = st.lists(st.integers(0, 7), max_size=3).map(torch.Size)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.complex64, torch.complex128]
LENGTHS = [0, 1, 7, 63, 64, 65, 1000]
GUARD = 64


def between_guards(values):
    """The same values as a view, with what lies before and after them in memory."""
    memory = torch.full((values.numel() + 2 * GUARD,), 77).to(values.dtype)
    view = memory[GUARD:-GUARD]
    view.copy_(values.view(-1))
    return view.view(values.shape), lambda: bool((memory[:GUARD] == 77).all() and (memory[-GUARD:] == 77).all())


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


def test_bools_may_lie_anywhere_in_memory():
    keep = torch.arange(100) % 3 == 0
    assert torch.equal(Mask.from_bool(keep[3:]).to_bool(), keep[3:])
    assert torch.equal(Mask.from_bool(keep[3::2]).to_bool(), keep[3::2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeroing_leaves_the_kept_bits_alone_and_writes_positive_zeros(dtype, for_every):
    for_every(functools.partial(zeroed, dtype), LENGTHS)


def zeroed(dtype, n):
    torch.manual_seed(n)
    weight = (torch.randn(n) * 10).to(dtype)
    keep = torch.rand(n) > 0.7
    if dtype.is_floating_point and n > 6:
        weight[:6] = torch.tensor([torch.nan, -torch.inf, -0.0] * 2, dtype=dtype)
        keep[:6] = torch.tensor([True, True, True, False, False, False])
    before = weight.clone()
    weight, guards_stand = between_guards(weight)
    Mask.from_bool(keep).zero_pruned_(weight)
    assert torch.equal(weight[keep].view(torch.uint8), before[keep].view(torch.uint8))
    assert not weight[~keep].view(torch.uint8).any()
    assert guards_stand()


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_value_can_be_filled_in(dtype):
    weight = torch.arange(200).to(dtype)
    keep = torch.arange(200) % 7 == 0
    mask = Mask.from_bool(keep)
    for value in (1, -3):
        mask.fill_pruned_(weight, value)
        assert (weight[~keep] == value).all()
        assert torch.equal(weight[keep], torch.arange(200).to(dtype)[keep])


@pytest.mark.parametrize("dtype", DTYPES)
def test_parked_values_come_back_bit_for_bit(dtype, for_every):
    for_every(functools.partial(parked, dtype), LENGTHS, [0.0, 0.1, 0.5, 1.0])


def parked(dtype, n, density):
    torch.manual_seed(n)
    weight = (torch.randn(n) * 10).to(dtype)
    mask = Mask.from_bool(torch.rand(n) < density)
    before = weight.clone()
    weight, guards_stand = between_guards(weight)
    hidden = mask.take_pruned_(weight)
    assert torch.equal(hidden, before[~mask.to_bool()])
    assert hidden.untyped_storage().nbytes() == mask.n_pruned * weight.element_size()
    assert torch.equal(weight[mask.to_bool()], before[mask.to_bool()])
    assert not weight[~mask.to_bool()].view(torch.uint8).any()
    mask.put_pruned_(weight, hidden)
    assert torch.equal(weight, before)
    assert guards_stand()


def test_what_does_not_fit_is_refused_before_a_kernel_sees_it():
    mask = Mask.full(torch.Size([10]))
    with pytest.raises(OptionError, match=r"bits of shape \(1,\) are illegal for weights of \(10,\)"):
        Mask(mask.bits[:1], mask.shape)
    larger = torch.zeros(100)
    for use in (mask.zero_pruned_, mask.take_pruned_, lambda w: mask.put_pruned_(w, torch.zeros(0))):
        with pytest.raises(OptionError, match=r"^tensor of shape \(100,\) is illegal: the mask's is \(10,\)$"):
            use(larger)


def test_too_few_values_end_the_putting():
    mask, weight = Mask.from_bool(torch.zeros(200, dtype=torch.bool)), torch.zeros(200)
    with contextlib.suppress(RuntimeError):
        mask.put_pruned_(weight, torch.ones(70))
    assert weight.sum() <= 70


def test_memory_is_used_again_only_where_it_fits(level):
    mask = Mask.from_bool(torch.arange(100) < 40)
    for memory in (torch.empty(60), torch.empty(59), torch.empty(60, dtype=torch.float64), None):
        weight = torch.randn(100)
        expected = weight[40:].clone()
        values = mask.take_pruned_(weight, memory=memory)
        assert torch.equal(values, expected)
        fits = memory is not None and memory.shape == (60,) and memory.dtype == torch.float32
        assert (values is memory) == (fits and level != "none")


@pytest.mark.parametrize("layout", [lambda w: w.to(memory_format=torch.channels_last), lambda w: w.transpose(0, 1)])
def test_other_strides_are_worked_on_in_the_order_of_the_indices(layout):
    torch.manual_seed(0)
    weight = layout(torch.randn(4, 3, 5, 5))
    before = weight.clone()
    mask = Mask.from_bool(torch.rand(weight.shape) > 0.5)
    hidden = mask.take_pruned_(weight)
    assert torch.equal(hidden, before[~mask.to_bool()])
    assert torch.equal(weight != 0, mask.to_bool())
    mask.put_pruned_(weight, hidden)
    assert torch.equal(weight, before)
    assert weight.stride() == before.stride()
    mask.fill_pruned_(weight, 7)
    assert torch.equal(weight, before.where(mask.to_bool(), 7))


def test_views_with_gaps_are_worked_on():
    memory = torch.ones(6, 10)
    mask = Mask.from_bool(torch.arange(24).view(6, 4) % 3 == 0)
    mask.zero_pruned_(memory[:, 2:6])
    assert torch.equal(memory[:, 2:6] != 0, mask.to_bool())
    assert bool((memory[:, :2] == 1).all() and (memory[:, 6:] == 1).all())
    mask.put_pruned_(memory[:, 2:6], torch.full((mask.n_pruned,), 5.0))
    assert bool((memory[:, 2:6][~mask.to_bool()] == 5).all() and (memory[:, 6:] == 1).all())


def test_long_tensors_are_worked_on_in_chunks_that_fit_together():
    n = 5 * masks.CHUNK + 13
    keep = torch.arange(n) % 3 == 0
    mask = Mask.from_bool(keep)
    assert torch.equal(mask.to_bool(), keep)
    weight = torch.arange(1.0, n + 1)
    hidden = mask.take_pruned_(weight)
    assert torch.equal(weight != 0, keep)
    mask.put_pruned_(weight, hidden)
    assert torch.equal(weight, torch.arange(1.0, n + 1))


def test_the_kernels_are_used_where_they_can_be(level):
    plain = torch.zeros(2, 3)
    for tensor in (plain, nn.Parameter(plain), plain.to(torch.complex64)):
        assert (masks.compiled_for(tensor) is not None) == (level != "none")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3).t(),
        torch.zeros(2, dtype=torch.complex128),
        torch.zeros(2, device="meta"),
        torch.zeros(2).to_sparse(),
        torch.zeros(2).as_subclass(type("Other", (torch.Tensor,), {})),
        torch.zeros(1, dtype=torch.complex64).conj().imag,
        torch.zeros(2, dtype=torch.complex64).conj(),
    ],
    ids=["strides", "16 bytes", "device", "sparse", "subclass", "negative", "conjugate"],
)
def test_what_the_kernels_cannot_work_on_is_left_to_torch(tensor):
    assert masks.compiled_for(torch.zeros(1), tensor) is None


def test_a_library_is_there_unless_it_is_not_wanted(level):
    assert (native.library() is None) == (level == "none")


CALLS = {
    "fill": lambda mask, weight: mask.zero_pruned_(weight),
    "take": lambda mask, weight: mask.take_pruned_(weight),
    "put": lambda mask, weight: mask.put_pruned_(weight, torch.zeros(0)),
    "count": lambda mask, _: mask.n_kept,
}


@pytest.mark.parametrize("call", CALLS)
def test_bits_that_were_shortened_are_refused(call):
    mask, weight = Mask.full(torch.Size([1 << 19])), torch.randn(1 << 19)
    mask.bits.resize_(1)
    with pytest.raises(OptionError, match=r"bits of shape \(1,\) are illegal"):
        CALLS[call](mask, weight)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lost", ["bits", "weight"])
def test_memory_that_is_gone_is_refused(call, lost):
    if (call, lost) == ("count", "weight"):
        pytest.skip("it reads the bits only")
    mask, weight = Mask.full(torch.Size([1 << 19])), torch.randn(1 << 19)
    {"bits": mask.bits, "weight": weight}[lost].untyped_storage().resize_(0)
    with pytest.raises(OptionError, match="has lost its memory"):
        CALLS[call](mask, weight)
