"""Kernels of third central moments and of their adjoint: see ``covariance.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from ._columns import centred, column_means, entries
from ._common import exponential, scaled_exponential


@triton.jit
def third_moment_kernel(
    z, logvar, moments, sums, z_row, z_column, logvar_row, logvar_column, batch, d,
    HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Means, variances and third central moments of some columns, and their part of the penalty."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    j = tl.program_id(0) * TILE + tl.arange(0, TILE)
    mean, rest = column_means(z, j, z_row, z_column, batch, d, DOUBLE, ROWS, TILE)
    squares, cubes = tl.zeros((TILE,), T), tl.zeros((TILE,), T)
    for start in range(0, batch, ROWS):
        rows = start + tl.arange(0, ROWS)
        c = centred(z, rows, j, z_row, z_column, batch, d, mean, rest, DOUBLE)
        square, cube = c * c, c * c * c
        if HAS_LOGVAR:
            s = entries(logvar, rows, j, logvar_row, logvar_column, batch, d, DOUBLE)
            v = tl.where((rows < batch)[:, None], exponential(s, DOUBLE), 0.0)
            square, cube = square + v, cube + scaled_exponential(3 * c, s, DOUBLE)
        squares += tl.sum(square, axis=0)
        cubes += tl.sum(cube, axis=0)
    size = tl.maximum(batch, 1).to(T)
    variance, third = squares / size, cubes / size
    tl.store(moments + j, mean, mask=j < d)
    tl.store(moments + d + j, rest, mask=j < d)
    tl.store(moments + 2 * d + j, variance, mask=j < d)
    tl.store(moments + 3 * d + j, third, mask=j < d)
    tl.store(sums + tl.program_id(0), tl.sum(tl.where(j < d, third * third, 0.0), axis=0))


@triton.jit
def third_moment_adjoint_kernel(
    grad, z, logvar, moments, grad_z, grad_logvar, z_row, z_column, logvar_row, logvar_column,
    batch, d,
    HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One tile of the gradients, elementwise but for the moments."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    b = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    mean = tl.load(moments + j, mask=j < d, other=0.0)
    rest = tl.load(moments + d + j, mask=j < d, other=0.0)
    variance = tl.load(moments + 2 * d + j, mask=j < d, other=0.0)
    third = tl.load(moments + 3 * d + j, mask=j < d, other=0.0)
    weights = third * (6 * tl.load(grad) / tl.maximum(batch, 1).to(T))
    c = centred(z, b, j, z_row, z_column, batch, d, mean, rest, DOUBLE)
    square = c * c
    inside = (b < batch)[:, None] & (j < d)[None, :]
    offsets = b.to(tl.int64)[:, None] * d + j[None, :]
    if HAS_LOGVAR:
        s = entries(logvar, b, j, logvar_row, logvar_column, batch, d, DOUBLE)
        square += exponential(s, DOUBLE)
        on_logvar = scaled_exponential(weights[None, :] * c, s, DOUBLE)
        tl.store(grad_logvar + offsets, on_logvar, mask=inside)
    # Where no sample is off the mean variances may be infinite, and their difference NaN.
    spread = tl.where(weights[None, :] == 0.0, c, square - variance[None, :])
    tl.store(grad_z + offsets, weights[None, :] * spread, mask=inside)
