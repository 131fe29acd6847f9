"""Columns of a strided batch of codes: their entries, means and launch parameters."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ._common import power_of_2


@triton.jit
def entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE: tl.constexpr):
    """Elements x[rows, columns], with zeros outside."""
    inside = (rows < batch)[:, None] & (columns < count)[None, :]
    offsets = (
        rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    )
    return tl.load(x + offsets, mask=inside, other=0.0).to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def first_mean(
    x, first, columns, row_stride, column_stride, end, count, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Means of the first rows: a pivot near the data, about which the others are summed."""
    rows = first + tl.arange(0, ROWS)
    x_block = entries(x, rows, columns, row_stride, column_stride, end, count, DOUBLE)
    size = tl.maximum(tl.minimum(end - first, ROWS), 1).to(x_block.dtype)
    return tl.sum(x_block, axis=0) / size


@triton.jit
def centred(
    x, rows, columns, row_stride, column_stride, batch, count, mean, rest, DOUBLE: tl.constexpr
):
    x_block = entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE)
    inside = (rows < batch)[:, None] & (columns < count)[None, :]
    return tl.where(inside, (x_block - mean[None, :]) - rest[None, :], 0.0)


@triton.jit
def store_mean(means, columns, count, pivot, distance):
    """Store pivot + distance and its rounding error."""
    mean = pivot + distance
    tl.store(means + columns, mean, mask=columns < count)
    tl.store(means + count + columns, distance - (mean - pivot), mask=columns < count)


def tile_size(size: int, most: int) -> int:
    return min(most, max(16, power_of_2(size or 1)))


def total_of(sums: Tensor) -> Tensor:
    return sums.sum() if sums.numel() > 1 else sums.reshape(())


def strides_of(x: Tensor | None) -> tuple[int, int]:
    return (0, 0) if x is None else x.stride()
