"""Columns of a Jacobian, (B, K, *out), with images in the network's own memory format."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def like_columns(column: Tensor, batch: int, count: int, dtype: torch.dtype) -> Tensor:
    """An empty (batch, count, *out), in the memory format of ``column`` (·, ·, *out)."""
    shape = column.shape[2:]
    if is_channels_last(column):
        channels, height, width = shape
        storage = column.new_empty(batch, count, height, width, channels, dtype=dtype)
        return storage.permute(0, 1, 4, 2, 3)
    return column.new_empty(batch, count, *shape, dtype=dtype)


def in_memory_order(part: Tensor) -> Tensor:
    """A result of ``like_columns`` as (B, K, n), its elements in memory order."""
    return flat(part.permute(0, 1, 3, 4, 2) if is_channels_last(part) else part)


def flat(part: Tensor) -> Tensor:
    """(B, K, *out) as (B, K, n), where ``out`` may be empty."""
    return part.flatten(2) if part.dim() > 2 else part.unsqueeze(2)


def gram_of_columns(columns: Sequence[Tensor]) -> Tensor:
    """J'J (B, m, m) from the columns of J, (B, m, *out) for each output."""
    parts = [in_memory_order(part) for part in columns]
    with torch.autocast(parts[0].device.type, enabled=False):
        return sum(map(_gram, parts[1:]), _gram(parts[0]))


def _gram(part: Tensor) -> Tensor:
    if part.dtype.itemsize < 4:  # only on a GPU: the columns are read without a cast
        return torch.bmm(part, part.mT, out_dtype=torch.float32)
    return part @ part.mT


def is_channels_last(part: Tensor) -> bool:
    """Whether (K, B, C, H, W) are images whose channels are next to each other in memory."""
    return part.dim() == 5 and part.shape[2] > 1 and part.stride(2) == 1
