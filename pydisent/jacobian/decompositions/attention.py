"""Attention, unfused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes, traced, widen


@decomposes(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of ``query`` (..., L, E) to ``key`` (..., S, E) and ``value`` (..., S, Ev).

    A row whose keys are all masked gives zero, as in the native function.
    """
    if is_causal and attn_mask is not None:
        raise ValueError("attn_mask must be None when is_causal is True, got a tensor")
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (widen(query) * scale) @ widen(key).mT
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    if attn_mask is None:
        weights = torch.softmax(scores, -1)
    else:
        closed = (scores.detach() == -torch.inf).all(-1, keepdim=True)
        weights = torch.softmax(scores.masked_fill(closed, 0.0), -1).masked_fill(closed, 0.0)
    if dropout_p > 0.0:
        weights = F.dropout(weights, dropout_p)
    return (weights @ widen(value)).to(query.dtype)


@decomposes(F.multi_head_attention_forward)
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention of ``query`` (L, B, E), ``key`` and ``value`` (S, B, ·), or unbatched.

    Returns the output (L, B, E) and, if ``need_weights``, the weights (B, L, S), else None.
    """
    _check_width(query.shape[-1], embed_dim_to_check, num_heads)
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, separate)
    biased = bias_k is not None and bias_v is not None
    q = _split_heads(q, num_heads)
    k = _keys(k, bias_k if biased else None, static_k, add_zero_attn, num_heads)
    v = _keys(v, bias_v if biased else None, static_v, add_zero_attn, num_heads)
    mask = _merge_masks(
        attn_mask, key_padding_mask, len(q), num_heads, biased + add_zero_attn, q.dtype
    )
    p = dropout_p if training else 0.0
    out, weights = _attend(q, k, v, mask, p, need_weights)
    weights = weights.mean(1) if need_weights and average_attn_weights else weights
    out = F.linear(out.permute(2, 0, 1, 3).reshape(query.shape), out_proj_weight)
    out = out if out_proj_bias is None else out + out_proj_bias
    if not batched:
        return out.squeeze(1), None if weights is None else weights.squeeze(0)
    return out, weights


def _check_width(width: int, embed_dim_to_check: int, num_heads: int) -> None:
    if width != embed_dim_to_check or width % num_heads:
        raise ValueError(
            f"the last axis of query must be embed_dim_to_check = {embed_dim_to_check} and a "
            f"multiple of num_heads = {num_heads}, got {width}"
        )


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    separate: Sequence[Tensor | None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    if separate is None:
        if in_proj_weight is None:
            raise ValueError("in_proj_weight must be a tensor, got None")
        separate = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b)  # type: ignore[arg-type]
        for x, w, b in zip((query, key, value), separate, biases)
    )
    return q, k, v


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float, need_weights: bool
) -> tuple[Tensor, Any]:
    """The result of attention, and its weights or None."""
    if not need_weights:
        attention = F.scaled_dot_product_attention if traced.get() else scaled_dot_product_attention
        return attention(q, k, v, mask, dropout_p), None
    scores = (q / math.sqrt(q.shape[-1])) @ k.mT
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    weights = F.dropout(weights, dropout_p) if dropout_p > 0.0 else weights
    return weights @ v, weights


def _keys(
    x: Tensor, bias: Tensor | None, static: Tensor | None, add_zero: bool, heads: int
) -> Tensor:
    """Keys or values (S, B, E) as (B, heads, S', E / heads), including any that are appended."""
    if bias is not None:
        x = torch.cat([x, bias.expand(1, x.shape[1], -1)])
    batch = x.shape[1]
    x = _split_heads(x, heads)
    if static is not None:
        x = static.reshape(batch, heads, *static.shape[1:])
    return F.pad(x, (0, 0, 0, 1)) if add_zero else x


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(S, B, E) -> (B, heads, S, E / heads)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(1, 2, 0, 3)


def _merge_masks(
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    batch: int,
    heads: int,
    extra: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """Combine both masks into an additive one; the ``extra`` appended keys are never masked."""

    def additive(mask: Tensor) -> Tensor:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)
        return F.pad(mask, (0, extra))

    merged = None
    if attn_mask is not None:
        merged = additive(attn_mask)
        if merged.dim() == 3:
            merged = merged.reshape(batch, heads, *merged.shape[1:])
    if key_padding_mask is not None:
        padding = additive(key_padding_mask)[:, None, None, :]
        merged = padding if merged is None else merged + padding
    return merged


@decomposes(torch.ops.aten._safe_softmax)
def safe_softmax(self: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax, with zeros for rows that are −∞ throughout."""
    x = self if dtype is None else self.to(dtype)
    closed = (x.detach() == -torch.inf).all(dim, keepdim=True)
    return torch.softmax(x.masked_fill(closed, 0.0), dim).masked_fill(closed, 0.0)
