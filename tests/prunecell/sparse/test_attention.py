"""Sparse attention takes and gives what nn.MultiheadAttention does."""

import copy
from itertools import product

import pytest
import torch
from torch import nn

from prunecell.errors import OptionError
from prunecell.sparse.attention import SparseMultiheadAttention
from prunecell.sparse.convert import compact_

pytestmark = pytest.mark.usefixtures("everything_wins")


def both(**options):
    torch.manual_seed(0)
    dense = nn.MultiheadAttention(16, 4, **options).eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter)
        if parameter.ndim > 1:
            parameter.data.mul_(torch.rand_like(parameter) < 0.2)
    sparse = compact_(copy.deepcopy(dense))
    assert isinstance(sparse, SparseMultiheadAttention)
    return dense, sparse


def same(given, expected):
    (y, weights), (y_expected, weights_expected) = given, expected
    torch.testing.assert_close(y, y_expected, equal_nan=True)
    assert y.stride() == y_expected.stride()
    assert (weights is None) is (weights_expected is None)
    if weights is not None:
        torch.testing.assert_close(weights, weights_expected, equal_nan=True)


CAUSAL = torch.ones(6, 6).triu(1).bool()
PADDING = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
MASKS = {
    "none": {},
    "bool": {"attn_mask": CAUSAL},
    "numbers": {"attn_mask": torch.zeros(6, 6).masked_fill(CAUSAL, -torch.inf)},
    "of each head": {"attn_mask": torch.stack([CAUSAL, CAUSAL.t()] * 4)},
    "padding": {"key_padding_mask": PADDING},
    "padding of numbers": {"key_padding_mask": torch.zeros(2, 6).masked_fill(PADDING, -torch.inf)},
    "both": {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
    "causal": {"attn_mask": CAUSAL, "is_causal": True},
    "taken at its word": {"attn_mask": torch.zeros(6, 6, dtype=torch.bool), "is_causal": True},
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize(
    ("batch_first", "bias", "sizes"), [*product((False, True), (False, True), ((16, 16), (8, 12)))]
)
def test_it_is_called_in_every_way(masks, batch_first, bias, sizes):
    dense, sparse = both(batch_first=batch_first, bias=bias, kdim=sizes[0], vdim=sizes[1])
    inputs = [torch.randn(2, 6, size) if batch_first else torch.randn(6, 2, size) for size in (16, *sizes)]
    for grad, needed in product((False, True), ({}, {"need_weights": False}, {"average_attn_weights": False})):
        options = {**MASKS[masks], **needed}
        with torch.set_grad_enabled(grad):
            same(sparse(*inputs, **options), dense(*inputs, **options))
            if sizes == (16, 16):
                same(sparse(*inputs[:1] * 3, **options), dense(*inputs[:1] * 3, **options))


def test_without_a_batch():
    dense, sparse = both()
    x = torch.randn(6, 16)
    for options in ({}, {"attn_mask": torch.stack([CAUSAL] * 4)}, {"key_padding_mask": PADDING[1]}):
        same(sparse(x, x, x, **options), dense(x, x, x, **options))


def test_what_the_dense_one_refuses_is_refused():
    dense, sparse = both(batch_first=True)
    x = torch.randn(2, 6, 16)
    for (query, key, value), options, message in (
        ((x, x, x), {"attn_mask": CAUSAL[:1]}, r"attn_mask must have the shape \(6, 6\) or \(8, 6, 6\), not \(1, 6\)"),
        ((x, x, x), {"attn_mask": CAUSAL[None]}, r"not \(1, 6, 6\)"),
        ((x, x, x), {"attn_mask": CAUSAL.int()}, "attn_mask must be of bool or floating point numbers"),
        ((x, x, x), {"key_padding_mask": PADDING[:1]}, r"key_padding_mask must have the shape \(2, 6\)"),
        ((x, x, x), {"key_padding_mask": PADDING.int()}, "key_padding_mask must be of bool"),
        ((x, x, x), {"is_causal": True, "need_weights": False}, "is_causal=True needs attn_mask"),
        ((x, x, x[:, :5]), {}, "do not fit together"),
        ((x, x[:1], x[:1]), {}, "do not fit together"),
        ((x, x[0], x[0]), {}, "must all have 3 dimensions"),
        ((x[..., :8], x, x), {}, r"x must have the shape \(\.\.\., 16\)"),
        ((x.double(), x.double(), x.double()), {}, "same dtype"),
    ):
        with pytest.raises((RuntimeError, ValueError, AssertionError)):
            dense(query, key, value, **options)
        with pytest.raises(OptionError, match=message):
            sparse(query, key, value, **options)


@pytest.mark.parametrize("sizes", [(16, 16), (8, 12)])
@pytest.mark.parametrize("bias", [False, True])
def test_its_attributes_and_weights_can_be_read_and_not_set(sizes, bias):
    dense, sparse = both(kdim=sizes[0], vdim=sizes[1], bias=bias)
    for name in ("embed_dim", "kdim", "vdim", "num_heads", "dropout", "batch_first", "head_dim", "add_zero_attn"):
        assert getattr(sparse, name) == getattr(dense, name)
    for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k"):
        expected = getattr(dense, name)
        assert getattr(sparse, name) is None if expected is None else torch.equal(getattr(sparse, name), expected)
        if name != "bias_k":
            with pytest.raises(OptionError, match=f"{name} of a sparse layer cannot be set"):
                setattr(sparse, name, nn.Parameter(torch.zeros(1)))
    assert torch.equal(sparse.out_proj.weight, dense.out_proj.weight)
    with pytest.raises(OptionError, match="would write to the weight of a sparse layer"):
        sparse.out_proj.weight.data.zero_()


def test_masks_are_merged_as_there():
    dense, sparse = both(batch_first=True)
    x = torch.randn(2, 6, 16)
    for masks in ((None, None), (CAUSAL, None), (None, PADDING), (CAUSAL, PADDING)):
        (mask, kind), (expected, expected_kind) = sparse.merge_masks(*masks, x), dense.merge_masks(*masks, x)
        assert kind == expected_kind
        assert mask is None if expected is None else torch.equal(mask, expected)
