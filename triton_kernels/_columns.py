"""Columns of a batch of codes, with any strides: entries, means, and what is launched on them."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE: tl.constexpr):
    """Elements x[rows, columns], with zeros outside."""
    inside = (rows < batch)[:, None] & (columns < count)[None, :]
    offsets = (
        rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    )
    return tl.load(x + offsets, mask=inside, other=0.0).to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def column_means(
    x, columns, row_stride, column_stride, batch, count, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Means of some columns, and what rounding left of them in x - mean."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    size = tl.maximum(batch, 1).to(T)
    total = tl.zeros((COLUMNS,), T)
    for start in range(0, batch, ROWS):
        rows = start + tl.arange(0, ROWS)
        x_block = entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE)
        total += tl.sum(x_block, axis=0)
    mean = total / size
    left = tl.zeros((COLUMNS,), T)
    for start in range(0, batch, ROWS):
        rows = start + tl.arange(0, ROWS)
        x_block = entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE)
        left += tl.sum(tl.where((rows < batch)[:, None], x_block - mean[None, :], 0.0), axis=0)
    return mean, left / size


@triton.jit
def centred(
    x, rows, columns, row_stride, column_stride, batch, count, mean, rest, DOUBLE: tl.constexpr
):
    x_block = entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE)
    inside = (rows < batch)[:, None] & (columns < count)[None, :]
    return tl.where(inside, (x_block - mean[None, :]) - rest[None, :], 0.0)


def tile_size(size: int, double: bool) -> int:
    return min(16 if double else 32, max(16, triton.next_power_of_2(size)))


def total_of(sums: Tensor) -> Tensor:
    return sums.sum() if sums.numel() > 1 else sums.reshape(())


def strides_of(x: Tensor | None) -> tuple[int, int]:
    return (0, 0) if x is None else (x.stride(0), x.stride(1))
