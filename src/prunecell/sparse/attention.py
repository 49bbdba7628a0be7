"""nn.MultiheadAttention with compressed projections."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SparseMultiheadAttention(nn.Module):
    """`nn.MultiheadAttention` whose four projections are layers of their own. It is called as the dense one is.

    Args:
        dense: the layer whose options are taken; without bias_k, bias_v and add_zero_attn.
        query, key, value, output: what projects them.
    """

    in_proj_bias = None  # nn.TransformerEncoderLayer takes its way around the modules only where this is a tensor
    _qkv_same_embed_dim = False

    def __init__(
        self, dense: nn.MultiheadAttention, *, query: nn.Module, key: nn.Module, value: nn.Module, output: nn.Module
    ) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.dropout = dense.embed_dim, dense.num_heads, dense.dropout
        self.batch_first = dense.batch_first
        self.query, self.key, self.value, self.output = query, key, value, output

    def forward(  # noqa: PLR0913, PLR0917 - nn.MultiheadAttention's signature
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: FBT001, FBT002
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: FBT001, FBT002
        is_causal: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[Tensor, Tensor | None]:
        """As nn.MultiheadAttention: (output, attention weights or None)."""
        batched = query.ndim == 3  # noqa: PLR2004 - batch, time, features
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = (
            project(t).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project, t in ((self.query, query), (self.key, key), (self.value, value))
        )
        if is_causal and attn_mask is None:
            raise ValueError("is_causal=True needs attn_mask, as in nn.MultiheadAttention")
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.output(mixed.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _mask(self, q: Tensor, k: Tensor, attention: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Both masks as one that is added to the scores, (batch, heads, queries, keys) or less."""
        added = None
        if attention is not None:
            added = _to_add(attention, q)
            if added.ndim == 3:  # noqa: PLR2004 - (batch x heads, queries, keys)
                added = added.view(q.shape[0], self.num_heads, q.shape[2], k.shape[2])
        if padding is not None:
            rows = _to_add(padding, q)[:, None, None, :]
            added = rows if added is None else added + rows
        return added


def _to_add(mask: Tensor, like: Tensor) -> Tensor:
    """A bool mask (True: not to be looked at) as 0 and -inf; another is added as it is."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
