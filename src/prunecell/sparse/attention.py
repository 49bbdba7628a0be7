"""nn.MultiheadAttention with compressed projections."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import OptionError
from prunecell.sparse.dense_weight import DenseWeight, refuse_to_set


class SparseMultiheadAttention(nn.Module):
    """`nn.MultiheadAttention` whose four projections are layers of their own. It is called as the dense one is.

    Its dense weights can be read by the names that they have there (`in_proj_weight` and so on), as those of a sparse
    layer can.

    Args:
        dense: the layer whose options are taken; without bias_k, bias_v and add_zero_attn.
        query, key, value, output: what projects them.
    """

    bias_k = bias_v = None
    add_zero_attn = False

    def __init__(
        self, dense: nn.MultiheadAttention, *, query: nn.Module, key: nn.Module, value: nn.Module, output: nn.Module
    ) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.dropout = dense.embed_dim, dense.num_heads, dense.dropout
        self.kdim, self.vdim, self.head_dim = dense.kdim, dense.vdim, dense.head_dim
        self.batch_first = dense.batch_first
        self._qkv_same_embed_dim = dense._qkv_same_embed_dim  # noqa: SLF001 - torch's layers ask for it
        self.query, self.key, self.value, self.out_proj = query, key, value, output

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
        """As nn.MultiheadAttention: (output, attention weights or None).

        Raises:
            OptionError: shapes or dtypes do not fit together.
        """
        if is_causal and attn_mask is None:
            raise OptionError("is_causal=True needs attn_mask, as in nn.MultiheadAttention")
        fast = query is key is value and self._would_be_fast(query, (attn_mask, key_padding_mask))
        batched = query.ndim == 3  # noqa: PLR2004 - batch, time, features
        query, key, value = (self._with_batch_first(t, n_axes=query.ndim) for t in (query, key, value))
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        _check_lengths(query, key, value)
        is_causal = is_causal and key_padding_mask is None and not (need_weights or fast)
        if is_causal:  # as in nn.MultiheadAttention, it is taken at its word
            attn_mask = None
        mask = self._mask(query, key, attn_mask, key_padding_mask)
        q, k, v = (
            project(t).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for project, t in ((self.query, query), (self.key, key), (self.value, value))
        )
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        out = self._projected(mixed, batches_first=fast)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _would_be_fast(self, x: Tensor, masks: tuple[Tensor | None, ...]) -> bool:
        """Whether the dense layer would take its fast way with x as query, key and value.

        There it believes the mask, whatever `is_causal` says, and in memory batches come first in its output.
        """
        return bool(
            self.batch_first
            and x.ndim == 3  # noqa: PLR2004 - batch, time, features
            and not (self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type))
            and self._qkv_same_embed_dim
            and self.num_heads % 2 == 0
            and self.query.bias is not None
            and not any(mask is not None and mask.is_floating_point() for mask in masks)
        )

    def _with_batch_first(self, x: Tensor, *, n_axes: int) -> Tensor:
        if x.ndim != n_axes or n_axes not in {2, 3}:
            raise OptionError(f"query, key and value must all have 3 dimensions, or all 2, not {n_axes} and {x.ndim}")
        if n_axes == 2:  # noqa: PLR2004 - time, features
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _projected(self, mixed: Tensor, *, batches_first: bool) -> Tensor:
        """(batch, heads, time, features of a head) -> (batch, time, features); batches or times lie first in memory."""
        if batches_first:
            out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
            return out
        out = self.out_proj(mixed.permute(2, 0, 1, 3).flatten(2))
        return out.transpose(0, 1)

    def _mask(self, query: Tensor, key: Tensor, attention: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Both masks as one that is added to the scores, (batch, heads, queries, keys) or less."""
        n_samples, n_queries, n_keys = query.shape[0], query.shape[1], key.shape[1]
        added = None
        if attention is not None:
            legal = (n_queries, n_keys), (n_samples * self.num_heads, n_queries, n_keys)
            added = _to_add("attn_mask", attention, query.dtype, legal)
            if added.ndim == 3:  # noqa: PLR2004 - (batch x heads, queries, keys)
                added = added.view(n_samples, self.num_heads, n_queries, n_keys)
        if padding is not None:
            rows = _to_add("key_padding_mask", padding, query.dtype, ((n_samples, n_keys),))[:, None, None, :]
            added = rows if added is None else added + rows
        return added

    def merge_masks(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
    ) -> tuple[Tensor | None, int | None]:
        """As nn.MultiheadAttention has it."""
        return nn.MultiheadAttention.merge_masks(self, attn_mask, key_padding_mask, query)  # type: ignore[arg-type]

    # ---- the dense weights, to be read -------------------------------------------------------------------------------

    @property
    def in_proj_weight(self) -> Tensor | None:
        """(3 embed_dim, embed_dim), where query, key and value have the same size."""
        return self._together("weight", self.embed_dim) if self._qkv_same_embed_dim else None

    @property
    def in_proj_bias(self) -> Tensor | None:
        """(3 embed_dim,), if there is one."""
        return None if self.query.bias is None else self._together("bias")

    @property
    def q_proj_weight(self) -> Tensor | None:
        """(embed_dim, embed_dim), where the sizes differ."""
        return None if self._qkv_same_embed_dim else _tensor(self.query, "weight")

    @property
    def k_proj_weight(self) -> Tensor | None:
        """(embed_dim, kdim), where the sizes differ."""
        return None if self._qkv_same_embed_dim else _tensor(self.key, "weight")

    @property
    def v_proj_weight(self) -> Tensor | None:
        """(embed_dim, vdim), where the sizes differ."""
        return None if self._qkv_same_embed_dim else _tensor(self.value, "weight")

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any attribute
        """Set an attribute; the weights are none.

        Raises:
            OptionError: it is a weight.
        """
        if name in _WEIGHTS:
            refuse_to_set(name)
        super().__setattr__(name, value)

    def _together(self, name: str, *sizes: int) -> Tensor:
        parts = self.query, self.key, self.value

        def make() -> Tensor:
            return torch.cat([_tensor(part, name).detach() for part in parts]).to(like.dtype)

        like = _tensor(self.query, "weight")
        if torch.compiler.is_compiling():  # then it is a tensor of the program like others
            return make()
        return DenseWeight.of(make, (3 * self.embed_dim, *sizes), like.dtype, like.device)


_WEIGHTS = {"in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"}


def _tensor(layer: nn.Module, name: str) -> Tensor:
    tensor = getattr(layer, name)
    assert isinstance(tensor, Tensor)  # noqa: S101 - for types
    return tensor


def _check_lengths(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse sequences, (batch, time, features), that do not go together.

    Raises:
        OptionError: there are other numbers of samples, or of keys and values.
    """
    if key.shape[:2] != value.shape[:2] or query.shape[0] != key.shape[0]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (query, key, value))
        raise OptionError(f"query, key and value, (batch, time, features), do not fit together: {shapes}")


def _to_add(name: str, mask: Tensor, dtype: torch.dtype, legal: tuple[tuple[int, ...], ...]) -> Tensor:
    """A bool mask (True: not to be looked at) as 0 and -inf; one of numbers is added as it is.

    Raises:
        OptionError: its shape is none of the legal ones, or its dtype is neither bool nor floating.
    """
    if mask.shape not in legal:
        raise OptionError(f"{name} must have the shape {' or '.join(map(str, legal))}, not {tuple(mask.shape)}")
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    if not mask.is_floating_point():
        raise OptionError(f"{name} must be of bool or floating point numbers, not {mask.dtype}")
    return mask.to(dtype)
